"""What cannot go well in a sweep: found before its first trial, everything at once."""

from __future__ import annotations

import json
from collections.abc import Iterator

from compactbio.spec.base import Problem, SpecError
from compactbio.spec.job import Distill, Finetune
from compactbio.spec.space import Choice, Integer, LogUniform, Uniform
from compactbio.spec.storage import is_url
from compactbio.spec.sweep import Asha, HeldOut, Latency, Never, Population, Values, Yardstick
from compactbio.spec.trials import Sweep, is_lambda

_LONGEST_VALUE = 60


def problems(sweep: Sweep) -> Iterator[Problem]:
    """Everything about the sweep that its fields alone cannot show."""
    if is_url(sweep.base.storage):
        yield Problem(
            "scale.storage",
            f"'{sweep.base.storage}' is an address, which sweeps do not take; name a folder that all nodes see",
        )
    for number, objective in enumerate(sweep.spec.objectives):
        found = list(_objective(sweep, objective, f"objectives.{number}"))
        yield from found
        if found:
            return  # what follows asks which stages the objectives need
    for path in sweep.spec.space:
        yield from _path(sweep, path)
    for number, objective in enumerate(sweep.spec.objectives):
        if objective.stage in sweep.shared():
            yield Problem(f"objectives.{number}", f"nothing that is searched changes stage '{objective.stage}'")
    yield from _conditions(sweep)
    yield from _search(sweep)
    yield from _stopping(sweep)
    lambdas = [path for path in sweep.spec.space if is_lambda(path)]
    if sweep.spec.normalise_lambdas_to is not None and len(lambdas) < 2:
        yield Problem("normalise_lambdas_to", f"needs two lambdas in the space at least; it has {len(lambdas)}")


def _objective(sweep: Sweep, objective: Yardstick, place: str) -> Iterator[Problem]:
    """Whether the base has what an objective measures, and whether that can be compared between trials."""
    stage = sweep.base.stages.get(objective.stage)
    if isinstance(objective, HeldOut):
        if stage is None or isinstance(stage, Finetune):
            known = ", ".join(sweep.base.training_stages()) or "none"
            yield Problem(f"{place}.stage", f"'{objective.stage}' is not a training stage of the base (there: {known})")
            return
        if stage.training.held_out_rows == 0:
            yield Problem(f"{place}.stage", f"stages.{objective.stage}.training.held_out_rows is 0: nothing is scored")
        outputs = {"output", "soft_labels", "logits"} & set(stage.objective.terms())
        if objective.measure == "agreement" and not (isinstance(stage, Distill) and outputs):
            yield Problem(
                f"{place}.measure", "agreement is measured where a term compares outputs: output, soft_labels, logits"
            )
    else:
        if not isinstance(stage, Finetune):
            yield Problem(f"{place}.stage", f"'{objective.stage}' is not a fine-tuning stage of the base")
            return
        yield from _fine_tuned(stage, objective, place)
    inside = [
        path for path in sweep.spec.space if any(f"{path}.".startswith(f"{part}.") for part in objective.contained())
    ]
    if inside:
        yield Problem(
            place,
            f"'{objective.name()}' contains what is searched ({', '.join(inside)}), so that a better value would not "
            "mean a better model; measure held-out `mlm` or `agreement`, or a `score`",
        )


def _fine_tuned(stage: Finetune, objective: Yardstick, place: str) -> Iterator[Problem]:
    assert not isinstance(objective, HeldOut)
    if objective.model not in stage.models_:
        yield Problem(f"{place}.model", f"'{objective.model}' is not one of its models ({', '.join(stage.models_)})")
    if isinstance(objective, Latency):
        if stage.measuring is None:
            yield Problem(f"{place}.stage", "its `measuring` is null, so no time is taken")
    elif objective.task is not None and objective.task not in stage.tasks:
        yield Problem(f"{place}.task", f"'{objective.task}' is not one of its tasks ({', '.join(stage.tasks)})")


def _path(sweep: Sweep, path: str) -> Iterator[Problem]:
    """Whether the base has a value there, which the distribution holds, and whether it takes the others."""
    place, distribution = f"space.{path}", sweep.spec.space[path]
    parts = path.split(".")
    if parts[0] != "stages" or parts[1:2] == [] or parts[1] not in sweep.base.stages:
        known = ", ".join(f"stages.{name}" for name in sweep.base.stages)
        yield Problem(place, f"only values of the base's stages are searched ({known}); the text stays the same")
        return
    if parts[1] not in sweep.needed():
        yield Problem(place, f"no objective depends on stage '{parts[1]}'; take it out, or name another objective")
        return
    section = sweep.base.stages[parts[1]]
    if isinstance(section, Finetune) and parts[2:3] == ["tuning"] and not set(parts[3:4]) & set(section.tuning):
        groups = ", ".join(f"{'.'.join(parts[:3])}.{group}" for group in section.tuning)
        yield Problem(place, f"hyper-parameters stand by group of tasks; the base has {groups}")
        return
    if is_lambda(path) and not isinstance(distribution, LogUniform | Choice):
        yield Problem(place, "a lambda is searched by factors: use log_uniform (or choice)")
    refused = next(_refusals(sweep, path), None)
    if refused is not None:
        yield Problem(place, refused)
        return
    own = sweep.base_value(path)
    if own is None:
        yield Problem(
            place, "the base has no value there, and the first trial is the base's own; set one under `scale`"
        )
    elif not distribution.contains(own):
        yield Problem(
            place, f"the base's own value {json.dumps(own)} is not in it, and the first trial has it; widen the range"
        )


def _refusals(sweep: Sweep, path: str) -> Iterator[str]:
    """Values of the path that the base's job does not take, and why."""
    for value in sweep.spec.space[path].probes():
        try:
            sweep.without_normalising().job({path: value})
        except SpecError as error:
            problem = error.problems[0]
            where = "" if problem.path == path else f"{problem.path}: "
            shown = json.dumps(value)
            shown = shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}..."
            yield f"the base refuses {shown}: {where}{problem.message}"


def _conditions(sweep: Sweep) -> Iterator[Problem]:
    space = sweep.spec.space
    for path, parents in sweep.spec.conditions.items():
        place = f"conditions.{path}"
        if path not in space:
            yield Problem(place, "it is not a path of the space")
        for other, values in parents.items():
            if other not in space or other in sweep.spec.conditions:
                yield Problem(place, f"'{other}' is not a path of the space that is always searched")
                continue
            outside = [value for value in values if not space[other].contains(value)]
            if outside:
                yield Problem(place, f"'{other}' is never {json.dumps(outside[0])}")


def _search(sweep: Sweep) -> Iterator[Problem]:
    spec = sweep.spec
    for number, point in enumerate(spec.search.warm_start):
        yield from _point(sweep, point, f"search.warm_start.{number}")
    endless = [path for path, of in spec.space.items() if not isinstance(of, Choice | Integer)]
    if spec.search.sampler == "grid":
        if endless:
            yield Problem(f"space.{endless[0]}", "a grid takes choices and integers alone")
        elif spec.conditions:
            yield Problem("conditions", "a grid tries every combination; leave them out")
    elif spec.budget.trials is None:
        yield Problem("budget.trials", "missing: say how many trials there are")


def _point(sweep: Sweep, point: Values, place: str) -> Iterator[Problem]:
    for path, value in point.items():
        if path not in sweep.spec.space:
            yield Problem(place, f"'{path}' is not a path of the space")
        elif not sweep.spec.space[path].contains(value):
            yield Problem(place, f"{json.dumps(value)} is not in the space of '{path}'")


def _stopping(sweep: Sweep) -> Iterator[Problem]:
    stopping = sweep.spec.stopping
    if isinstance(stopping, Never):
        return
    objectives = sweep.spec.objectives
    if isinstance(stopping, Population):
        yield from _population(sweep)
    if len(objectives) > 1 or not isinstance(objectives[0], HeldOut):
        yield Problem("stopping", "trials are stopped by one held-out objective, measured on the way; use `kind: none`")
        return
    stage = sweep.base.training_stages()[objectives[0].stage]
    every = stage.training.evaluate_every_steps
    if every is None or every >= stage.training.steps:
        field = f"stages.{objectives[0].stage}.training.evaluate_every_steps"
        yield Problem("stopping", f"there is nothing to go by before a trial's end; set {field} under `scale`")
    if isinstance(stopping, Population):
        if every is not None and (stopping.interval % every or stopping.interval >= stage.training.steps):
            yield Problem(
                "stopping.interval", f"is no multiple of evaluate_every_steps ({every}) below {stage.training.steps}"
            )
        return
    factor = stage.training.global_batch if stopping.by == "rows" else 1
    first = stopping.first_rung if isinstance(stopping, Asha) else stopping.first_steps
    if first >= stage.training.steps * factor:
        field = "first_rung" if isinstance(stopping, Asha) else "first_steps"
        yield Problem(f"stopping.{field}", f"{first:,} is not before a trial's end ({stage.training.steps * factor:,})")


def _population(sweep: Sweep) -> Iterator[Problem]:
    """What cannot change while a model is trained."""
    stage = sweep.spec.objectives[0].stage
    for path, distribution in sweep.spec.space.items():
        changes = any(path.startswith(f"stages.{stage}.{part}.") for part in ("training", "objective"))
        if not changes or not isinstance(distribution, Uniform | LogUniform):
            yield Problem(
                f"space.{path}",
                f"pbt changes values on the way: uniform and log_uniform of the training or objective of '{stage}'",
            )
    if sweep.spec.conditions or sweep.spec.search.sampler == "grid":
        yield Problem("stopping", "pbt takes neither conditions nor a grid")
