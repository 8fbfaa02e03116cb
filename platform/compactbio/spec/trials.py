"""What the trials of a sweep are: its base, with values in place of the base's."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from compactbio.spec.job import STAGE_PREFIX, Finetune, JobSpec
from compactbio.spec.load import from_raw, put
from compactbio.spec.sweep import HeldOut, Score, SweepSpec, Values


@dataclass(frozen=True)
class Sweep:
    """A sweep and the job that it stands on, with what `scale` changes in it."""

    spec: SweepSpec
    base: JobSpec

    @property
    def name(self) -> str:
        """Names the sweep's runs."""
        return self.spec.name

    @property
    def storage(self) -> str:
        """The folder of all runs, the base's."""
        return self.base.storage

    def digest(self) -> str:
        """Twelve hex digits that change with any value of the sweep or of its base."""
        values = json.dumps([self.alone(""), self.base.resolved()], sort_keys=True)
        return hashlib.sha256(values.encode()).hexdigest()[:12]

    def alone(self, base: str) -> dict[str, object]:
        """The sweep's plain values for a file beside `base`, a file with the resolved base."""
        return self.spec.model_copy(update={"base": base, "scale": {}}).resolved()

    def base_value(self, path: str) -> JsonValue:
        """The base's own value at a path; None where it has none."""
        return _value_at(self.base.resolved(), path)

    def base_values(self) -> Values:
        """The base's own value at every path of the space."""
        resolved = self.base.resolved()
        return {path: _value_at(resolved, path) for path in self.spec.space}

    def is_searched(self, path: str, values: Values) -> bool:
        """Whether its conditions hold, given the values of the other paths."""
        conditions = self.spec.conditions.get(path, {})
        return all(values[other] in allowed for other, allowed in conditions.items())

    def normalised(self, values: Values) -> Values:
        """The values with their lambdas scaled to the sum that the spec asks for."""
        total = self.spec.normalise_lambdas_to
        lambdas = {path: value for path, value in values.items() if is_lambda(path) and isinstance(value, int | float)}
        if total is None:
            return values
        factor = total / sum(lambdas.values())
        return {**values, **{path: value * factor for path, value in lambdas.items()}}

    def without_normalising(self) -> Sweep:
        """The same, so that values can be tried one by one."""
        return Sweep(self.spec.model_copy(update={"normalise_lambdas_to": None}), self.base)

    def job(self, values: Values, *, name: str | None = None, seed: int | None = None) -> JobSpec:
        """The base with these values, on a seed above its own where that is given, its fine-tunings on others too.

        Paths that are left out keep the base's. Raises SpecError where it refuses.
        """
        raw: dict[str, Any] = self.base.resolved()
        full = {**self.base_values(), **values} if self.spec.normalise_lambdas_to is not None else values
        for path, value in self.normalised(full).items():
            put(raw, path.split("."), value)
        raw |= {"name": name} if name is not None else {}
        if seed is not None:
            for section in raw["stages"].values():
                section |= {"seeds": _fresh(section["seeds"], seed - raw["seed"])} if section.get("seeds") else {}
            raw["seed"] = seed
        return from_raw(raw)

    def needed(self) -> list[str]:
        """The stages that the objectives depend on, in the base's order."""
        waiting = [objective.stage for objective in self.spec.objectives]
        found: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._sources(name)
        return [name for name in self.base.stages if name in found]

    def shared(self) -> list[str]:
        """Those of them that are the same in every trial, and are run once for all of them."""
        varying = {path.split(".")[1] for path in self.spec.space}
        for name in self.needed():  # in their order: a stage varies with what it starts from
            if set(self._sources(name)) & varying:
                varying.add(name)
        return [name for name in self.needed() if name not in varying]

    def trial(self, job: JobSpec, store: str | None, models: dict[str, str]) -> JobSpec:
        """What is run of a trial's job: the needed stages that are not shared, on a store that is there;
        None where the base has no text.

        `models` has where the models lie that the job names in other words.
        """
        raw: dict[str, Any] = job.resolved()
        left = [name for name in self.needed() if name not in self.shared()]
        raw["stages"] = {name: self._trimmed(name, raw["stages"][name]) for name in left}
        raw |= {"corpus": None, "store": store, "scale": {}, "name": f"{self.spec.name}-trial"}
        raw["tracking"]["register_models"] = False
        for name in left:
            section = job.stages[name]
            for field, model in section.models().items():
                if model in models and field in _fields(raw["stages"][name]):
                    put(raw["stages"][name], field.split("."), models[model])
        raw["teacher"] = models.get("teacher", raw["teacher"])
        return from_raw(raw)

    def _sources(self, name: str) -> list[str]:
        section = self.base.stages[name]
        models = section.models()
        if isinstance(section, Finetune):
            models = {model: section.models_[model] for model in self.models_of(name)}
        return [model.removeprefix(STAGE_PREFIX) for model in models.values() if model.startswith(STAGE_PREFIX)]

    def models_of(self, stage: str) -> list[str]:
        """The models of a fine-tuning stage that are yardsticks, and those that these are fine-tuned against."""
        section = self.base.stages[stage]
        assert isinstance(section, Finetune)
        own = [each.model for each in self.spec.objectives if each.stage == stage and not isinstance(each, HeldOut)]
        taught = [section.distillation[model].teacher for model in own if model in section.distillation]
        return list(dict.fromkeys(own + taught))

    def _trimmed(self, name: str, section: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(self.base.stages[name], Finetune):
            return section
        models = self.models_of(name)
        own = [each for each in self.spec.objectives if isinstance(each, Score) and each.stage == name]
        by_dev = {"score_dev": True} if any(each.split == "dev" for each in own) else {}
        return {
            **section,
            "models": {model: section["models"][model] for model in models},
            "reference": models[0],
            "control": None,
            "distillation": {model: how for model, how in section["distillation"].items() if model in models},
            "tuning": {group: {**values, **by_dev} for group, values in section["tuning"].items()},
        }


def _fresh(seeds: list[int], number: int) -> list[int]:
    """As many seeds behind all of these; others for each number."""
    return [seed + number * (max(seeds) - min(seeds) + 1) for seed in seeds]


def _fields(section: dict[str, Any]) -> set[str]:
    """Fields of a stage that may name a model, as they are after trimming."""
    fields = {"teacher", "student.model"}
    fields |= {f"co_teachers.{number}.model" for number in range(len(section.get("co_teachers") or ()))}
    return fields | {f"models.{name}" for name in section.get("models") or ()}


def _value_at(raw: Any, path: str) -> JsonValue:
    """What stands at a dotted path, in which a number may be a place in a list; None where nothing does."""
    here = raw
    for key in path.split("."):
        if isinstance(here, dict) and key in here:
            here = here[key]
        elif isinstance(here, list) and key.isdigit() and int(key) < len(here):
            here = here[int(key)]
        else:
            return None
    return here


def is_lambda(path: str) -> bool:
    """Whether the path is the weight of a term or of one of its layers."""
    parts = path.split(".")
    return parts[2:3] == ["objective"] and (parts[-1] == "lambda" or parts[-2] == "layer_lambdas")
