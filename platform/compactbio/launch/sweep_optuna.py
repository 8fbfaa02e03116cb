"""A sweep's space, sampler and stopping rule in Optuna's words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import optuna
from pydantic import JsonValue

from compactbio.spec.points import num_trials
from compactbio.spec.space import Choice, Distribution, Integer, LogUniform
from compactbio.spec.sweep import Asha, Median
from compactbio.spec.trials import Sweep

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

_GENERATIONS, _FEWEST_PARENTS, _MOST_PARENTS = 5, 4, 50  # Optuna's own 50 are more than most sweeps have trials


def sampler(sweep: Sweep, num_before: int) -> BaseSampler:
    """The sampler, with other random numbers than those that chose the trials before."""
    search = sweep.spec.search
    seed = search.seed + num_before
    match search.sampler:
        case "tpe":
            together = search.multivariate
            return optuna.samplers.TPESampler(
                seed=seed, multivariate=together, group=together and bool(sweep.spec.conditions), constant_liar=True
            )
        case "nsga2":
            size = min(max(num_trials(sweep) // _GENERATIONS, _FEWEST_PARENTS), _MOST_PARENTS)
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=size)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed)
        case "random" | "grid":  # a grid's points wait in the study from the start
            return optuna.samplers.RandomSampler(seed=seed)


def pruner(sweep: Sweep) -> BasePruner:
    """The stopping rule; one that stops none where Optuna has no part in it."""
    match sweep.spec.stopping:
        case Asha() as asha:
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=asha.first_rung, reduction_factor=asha.reduction)
        case Median() as median:
            return optuna.pruners.MedianPruner(n_startup_trials=median.first_trials, n_warmup_steps=median.first_steps)
        case _:
            return optuna.pruners.NopPruner()


def drawn(trial: optuna.Trial, path: str, distribution: Distribution) -> JsonValue:
    """A trial's value at a path; asked again it is the same."""
    match distribution:
        case Integer():
            return trial.suggest_int(path, distribution.low, distribution.high, step=distribution.step)
        case Choice():
            chosen = trial.suggest_categorical(path, [_label(value) for value in distribution.values])
            return meant(distribution, chosen)
        case _:
            log = isinstance(distribution, LogUniform)
            return trial.suggest_float(path, distribution.low, distribution.high, log=log)


def distribution_of(distribution: Distribution) -> optuna.distributions.BaseDistribution:
    """The same as Optuna's."""
    match distribution:
        case Integer():
            return optuna.distributions.IntDistribution(distribution.low, distribution.high, step=distribution.step)
        case Choice():
            return optuna.distributions.CategoricalDistribution([_label(value) for value in distribution.values])
        case _:
            log = isinstance(distribution, LogUniform)
            return optuna.distributions.FloatDistribution(distribution.low, distribution.high, log=log)


def _label(value: JsonValue) -> bool | int | float | str | None:
    """A choice as Optuna keeps it: lists and sections as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def encoded(distribution: Distribution, value: JsonValue) -> object:
    """A value as Optuna keeps it."""
    return _label(value) if isinstance(distribution, Choice) else value


def meant(distribution: Choice, label: object) -> JsonValue:
    """The choice that Optuna keeps in these words."""
    return next(value for value in distribution.values if _label(value) == label)
