"""A soak: thousands of small steps with a kill every few seconds, ending in the weights of the undisturbed run.

    python tests/benchmarks/soak.py [--steps 4000] [--kills 20] [--seed 1]

Workers and drivers are killed with SIGKILL at random moments. Prints what was killed when, how long it took until the
next step was reported, how many steps were done again, and memory and open files of driver and workers over time.
Exits with 1 unless weights and steps are those of the undisturbed run and neither memory nor files grew.
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
"""More than this between the first third of the kills and the last is a leak."""


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
        calm.wait(seconds=3600)
        print(f"undisturbed: {time.monotonic() - started:.0f} s for {options.steps} steps")
        spec["cluster"] = {"max_failures": options.kills}
        broken = faults.Job(folder / "broken", environment, spec)
        flat = soak(broken, draw, options.kills)
        same = faults.same_weights(calm, broken)
        steps = [step for step, _ in broken.history("loss")]
        once = steps == [step for step, _ in calm.history("loss")]
        print(f"the undisturbed run's weights: {'yes' if same else 'NO'}; every step once: {'yes' if once else 'NO'}")
        print(f"memory and open files flat: {'yes' if flat else 'NO'}")
        sys.exit(0 if same and once and flat else 1)


def soak(job: faults.Job, draw: random.Random, kills: int) -> bool:
    """Kills; says whether memory and files of the last third are those of the first."""
    job.start()
    recoveries, redone, usage = [], [], []
    for number in range(kills):
        before = reported(job)
        job.until(lambda before=before: reported(job) > before, "a step behind the last kill", 600)
        time.sleep(draw.uniform(0.0, 3.0))
        if job.process.poll() is not None:
            print(f"ended after {number} kills: more steps are needed")
            break
        workers = job.workers()
        usage.append((number, *weigh(psutil.Process(job.process.pid)), *(weigh(workers[0]) if workers else (0, 0))))
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
    for number, *values in usage:
        print("before kill {:>2}: driver {:.0f} MiB, {} files; worker {:.0f} MiB, {} files".format(number + 1, *values))
    third = max(1, len(usage) // 3)
    columns = list(zip(*(values for _, *values in usage), strict=True))
    return all(statistics.median(some[-third:]) <= GROWTH * statistics.median(some[:third]) for some in columns)


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
