"""A soak: thousands of small steps with a kill every few seconds, ending in the weights of the undisturbed run.

    python tests/benchmarks/soak.py [--steps 4000] [--kills 20] [--seed 1]

Workers and drivers are killed with SIGKILL at random moments. Prints what was killed when, how long it took until the
next step was reported, how many steps were done again, and memory and open files of driver and workers: along the
undisturbed run, whose processes live for all its steps, and before each kill, which starts workers anew.
Exits with 1 unless weights and steps are those of the undisturbed run and neither memory nor files grew.
With `--kills 0` there is the undisturbed run alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
import conftest
import faults

GROWTH = 1.15
"""More than this between the first third and the last is a leak."""

Usage = list[tuple[str, float, int, float, int]]
"""When, and MiB and open files of the driver and of a worker."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = conftest.make_tiny_model(folder / "model")
        corpus = conftest.make_tiny_corpus(folder / "corpus.txt")
        environment = {**os.environ, "HOME": str(folder), "RAY_AUTH_MODE": "disabled"}
        spec = faults.job(model, corpus, steps=options.steps, checkpoints={"every_steps": 50})
        calm = faults.Job(folder / "calm", environment, spec)
        started = time.monotonic()
        calm.start()
        usage = watch(calm)
        calm.wait(seconds=60)
        print(f"undisturbed: {time.monotonic() - started:.0f} s for {options.steps} steps")
        calm_flat = is_flat(usage)
        if not options.kills:
            sys.exit(0 if calm_flat else 1)
        spec["cluster"] = {"max_failures": options.kills}
        broken = faults.Job(folder / "broken", environment, spec)
        flat = soak(broken, draw, options.kills)
        same = faults.same_weights(calm, broken)
        steps = [step for step, _ in broken.history("loss")]
        once = steps == [step for step, _ in calm.history("loss")]
        print(f"the undisturbed run's weights: {'yes' if same else 'NO'}; every step once: {'yes' if once else 'NO'}")
        sys.exit(0 if same and once and flat and calm_flat else 1)


def watch(job: faults.Job) -> Usage:
    """Weighs driver and a worker until the job ends."""
    usage: Usage = []
    while job.process.poll() is None:
        if (workers := job.workers()) and (step := reported(job)):
            try:
                usage.append((f"step {step}", *weigh(psutil.Process(job.process.pid)), *weigh(workers[0])))
            except psutil.NoSuchProcess:  # the job's end
                break
        time.sleep(5)
    return usage


def is_flat(usage: Usage) -> bool:
    """Whether memory and files of the last third are those of the first."""
    third = max(1, len(usage) // 3)
    for when, *values in (usage[0], usage[third], usage[-third], usage[-1]):
        print("{}: driver {:.0f} MiB, {} files; worker {:.0f} MiB, {} files".format(when, *values))
    columns = list(zip(*(values for _, *values in usage), strict=True))
    flat = all(statistics.median(some[-third:]) <= GROWTH * statistics.median(some[:third]) for some in columns)
    print(f"memory and open files flat: {'yes' if flat else 'NO'}")
    return flat


def soak(job: faults.Job, draw: random.Random, kills: int) -> bool:
    """Kills; says whether driver and workers stayed as they were."""
    job.start()
    recoveries, redone = [], []
    usage: Usage = []
    for number in range(kills):
        before = reported(job)
        job.until(lambda before=before: reported(job) > before, "a step behind the last kill", 600)
        time.sleep(draw.uniform(0.0, 3.0))
        if job.process.poll() is not None:
            print(f"ended after {number} kills: more steps are needed")
            break
        workers = job.workers()
        if workers:
            driver = psutil.Process(job.process.pid)
            usage.append((f"before kill {number + 1}", *weigh(driver), *weigh(workers[0])))
        saved, killed_at = job.newest, time.monotonic()
        victim = draw.choice(["worker", "worker", "worker", "driver"])
        if victim == "driver" or not workers:
            victim = "driver"
            job.kill_driver()
            reached = reported(job)
            job.resume()
        else:
            killed = draw.choice(workers)
            killed.kill()
            killed.wait()
            reached = reported(job)
        job.until(lambda reached=reached: reported(job) > reached, "a step behind the kill", 600)
        recoveries.append(time.monotonic() - killed_at)
        redone.append(reached - saved)
        print(f"kill {number + 1:>2}: {victim} at step {reached}, saved {saved}; on after {recoveries[-1]:.0f} s")
    job.wait(seconds=3600)
    again = statistics.median(redone)
    print(f"{len(recoveries)} kills, medians: {statistics.median(recoveries):.0f} s to go on, {again:.0f} steps again")
    return is_flat(usage)


def reported(job: faults.Job) -> int:
    """The last step in the stage's journal."""
    last = 0
    for path in job.folder.glob("runs/*/distill/journal.jsonl"):
        for line in path.read_text().splitlines():
            if '"metrics"' in line and line.endswith("}"):
                last = max(last, json.loads(line)["step"])
    return last


def weigh(process: psutil.Process) -> tuple[float, int]:
    return process.memory_info().rss / 2**20, process.num_fds()


if __name__ == "__main__":
    main()
