"""Runs the quickstart as a person would, on a terminal, and measures what the README promises of it.

    python tests/benchmarks/quickstart_budget.py [--set a.b=c ...]

Prints seconds in all, seconds to the first training metric on screen, and the peak of the proportional set size,
summed over every process that appeared since the start. Linux only.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
METRIC = re.compile(rb"loss\s+\d+\.\d+")


def proportional_set_size(since: float) -> int:
    """Bytes, over the processes of this machine that are younger than `since`; this one is not counted."""
    total = 0
    for process in psutil.process_iter():
        try:
            if process.create_time() >= since and process.pid != os.getpid():
                total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def main() -> None:
    started = time.time()
    terminal, end = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "compactbio.launch.cli",
        "run",
        str(ROOT / "jobs" / "quickstart.yaml"),
        *sys.argv[1:],
    ]
    process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end, close_fds=True)
    os.close(end)
    seen, first_metric, peak, next_look = b"", None, 0, 0.0
    while process.poll() is None:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                seen += os.read(terminal, 1 << 16)
            except OSError:
                break
        if first_metric is None and METRIC.search(seen):
            first_metric = time.time() - started
        if time.time() > next_look:  # a look is not free
            peak, next_look = max(peak, proportional_set_size(started - 1)), time.time() + 5
    seconds = time.time() - started
    print(seen.decode(errors="replace")[-3000:])
    print(f"exit code {process.wait()}, {seconds:.0f} s in all, peak {peak / 1024**3:.2f} GiB")
    print("no metric was seen" if first_metric is None else f"first metric after {first_metric:.0f} s")


if __name__ == "__main__":
    main()
