"""What a sweep comes to, as text: trials, resources, compute with and without stopping early."""

from __future__ import annotations

import json
from collections.abc import Iterator

from compactbio.launch.plan import describe
from compactbio.spec.job import Finetune
from compactbio.spec.points import num_trials
from compactbio.spec.space import Choice
from compactbio.spec.sweep import Asha, HeldOut, Median, Population
from compactbio.spec.trials import Sweep


def describe_sweep(sweep: Sweep) -> str:
    """The resolved plan. Raises SpecError for what can run nowhere."""
    spec, cluster = sweep.spec, sweep.base.cluster
    lines = [f"sweep {spec.name} of {spec.base}, sampler {spec.search.sampler}"]
    lines += [f"scaled {path}: {json.dumps(value)}" for path, value in spec.scale.items()]
    for objective in spec.objectives:
        lines.append(f"objective  {objective.name()}, {objective.direction}")
    for path, distribution in spec.space.items():
        if isinstance(distribution, Choice):
            shown = ", ".join(json.dumps(value) for value in distribution.values)
        else:
            low, high = distribution.bounds()
            shown = f"{low:g} to {high:g}"
        lines.append(
            f"searched   {path}: {distribution.kind} {shown}; first {json.dumps(sweep.base_value(path))}"
            + _only(sweep, path)
        )
    if spec.normalise_lambdas_to is not None:
        lines.append(f"lambdas    scaled to a sum of {spec.normalise_lambdas_to:g}, those of the first trial too")
    trials = num_trials(sweep)
    each = cluster.num_workers * cluster.cpus_per_worker
    how = "in reused processes" if cluster.num_workers == 1 else "on Ray Train workers of its own"
    lines.append(
        f"trials     {trials}, each {cluster.num_workers} workers x {cluster.cpus_per_worker} CPUs = {each} CPUs"
        f"{' and as many GPUs' if cluster.use_gpu else ''}, {how}; at once "
        + (str(spec.budget.concurrent) if spec.budget.concurrent else f"as many as fit (CPUs of the cluster / {each})")
    )
    if sweep.shared():
        lines.append(f"run once   {', '.join(sweep.shared())}: the same in every trial")
    if skipped := [name for name in sweep.base.stages if name not in sweep.needed()]:
        lines.append(f"left out   {', '.join(skipped)}: no objective depends on it")
    lines += _compute(sweep, trials)
    return "\n".join([*lines, "", "its base:", describe(sweep.base)])


def _only(sweep: Sweep, path: str) -> str:
    conditions = sweep.spec.conditions.get(path, {})
    told = [f"{other} is {' or '.join(json.dumps(value) for value in values)}" for other, values in conditions.items()]
    return f"; only where {' and '.join(told)}" if told else ""


def _compute(sweep: Sweep, trials: int) -> Iterator[str]:
    """Steps of the base's length: with values that are searched, such as the batch, a step's cost varies."""
    left = set(sweep.needed()) - set(sweep.shared())
    trainings = [stage.training for name, stage in sweep.base.training_stages().items() if name in left]
    steps = sum(training.steps for training in trainings)
    rows = sum(training.steps * training.global_batch for training in trainings)
    cells = sum(_num_cells(sweep, name) for name in left if name not in sweep.base.training_stages())
    each = [(steps, "steps"), (rows, "rows at the base's batch"), (cells, "fine-tunings")]
    told = [f"{trials} x {number:,} {what} = {trials * number:,}" for number, what in each if number]
    yield f"compute    at most {', '.join(told)}"
    match sweep.spec.stopping:
        case Asha() as asha:
            share = asha_share(sweep, asha, trials)
            yield (
                f"  with ASHA about {share:.0%} of it ({share * trials * steps:,.0f} steps) where each rung lets 1 in "
                f"{asha.reduction} go on"
            )
        case Population() as pbt:
            yield f"  trained together, with an exchange every {pbt.interval:,} steps; none is stopped early"
        case Median():
            yield "  with the median rule less; how much depends on the trials"
        case _:
            yield "  no trial is stopped early"
    if sweep.spec.confirm_seeds:
        runs = 2 * sweep.spec.confirm_seeds
        yield f"  and {runs} runs of the same length to confirm: the base and the best on fresh seeds"


def _num_cells(sweep: Sweep, name: str) -> int:
    """Fine-tunings of a stage in one trial: a model on a task with a seed."""
    section = sweep.base.stages[name]
    assert isinstance(section, Finetune)
    return len(sweep.models_of(name)) * len(section.tasks) * len(section.seeds or (sweep.base.seed,))


def asha_share(sweep: Sweep, asha: Asha, trials: int) -> float:
    """The expected share of the full compute: at each rung 1 in `reduction` of the trials goes on, one at least."""
    [objective] = sweep.spec.objectives
    assert isinstance(objective, HeldOut)
    training = sweep.base.training_stages()[objective.stage].training
    end = training.steps * (training.global_batch if asha.by == "rows" else 1)
    done, left, before, rung = 0.0, float(trials), 0, asha.first_rung
    while rung < end:
        done += left * (rung - before)
        left, before, rung = max(1.0, left / asha.reduction), rung, rung * asha.reduction
    return (done + left * (end - before)) / (trials * end)
