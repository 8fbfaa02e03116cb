"""The trials of a sweep in Optuna's database: the one place that knows which there are and what they came to.

A sampler and a stopping rule are functions of what is in it, so a sweep that was killed goes on with it alone.
"""

from __future__ import annotations

import itertools
import json
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from pydantic import JsonValue

from compactbio.spec.base import SpecError
from compactbio.spec.space import Choice, Distribution, Integer, LogUniform
from compactbio.spec.sweep import Asha, Median, Values
from compactbio.spec.sweep_check import grid_size, points
from compactbio.spec.trials import Sweep

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

_EARLIER = "earlier"
_REASON = "reason"
_OBJECTIVES = "objectives"
_ENDED_WITH = "ended_with"
_MORE_THAN_PATHS = 2  # finished trials beyond the number of paths, before importance says anything


@dataclass(frozen=True)
class Suggestion:
    """A trial that is to be run, or gone on with."""

    number: int
    values: Values
    """What it has in place of the base's values."""


@dataclass(frozen=True)
class Outcome:
    """What is known of a trial."""

    number: int
    state: Literal["finished", "pruned", "failed", "running"]
    values: Values
    scores: tuple[float, ...]
    """Of each objective; of a pruned one the last that was reported, of a failed one none."""

    curve: dict[int, float]
    """Steps (or rows) to the objective, where trials are compared on the way."""

    reason: str = ""
    seconds: float = 0.0


class SearchStudy:
    """The study of one sweep. One process at a time may use it."""

    def __init__(self, sweep: Sweep, name: str, url: str) -> None:
        """Opens the study, or makes it. Raises SpecError where the database cannot be used."""
        self._sweep = sweep
        self._study = optuna.create_study(
            storage=check_database(url),
            study_name=name,
            directions=[objective.direction for objective in sweep.spec.objectives],
            pruner=_pruner(sweep),
            load_if_exists=True,
        )
        before = self._study.get_trials(deepcopy=False)
        self._study.sampler = _sampler(sweep, len(before))
        self._begun = [trial for trial in before if trial.state == TrialState.RUNNING]
        self._live: dict[int, optuna.Trial] = {}
        self._reported: dict[int, set[int]] = {}
        if not before:
            self._first_points()

    @property
    def budget(self) -> int:
        """How many trials there will be."""
        asked = self._sweep.spec.budget.trials
        if self._sweep.spec.search.sampler != "grid":
            assert asked is not None
            return asked
        return min(grid_size(self._sweep), asked or grid_size(self._sweep))

    def next(self) -> Suggestion | None:
        """A trial that another driver had begun, or a new one; None when there are enough."""
        if self._begun:
            frozen = self._begun.pop(0)
            trial = optuna.Trial(self._study, frozen._trial_id)
            self._reported[frozen.number] = set(frozen.intermediate_values)
        elif self._count() < self.budget:
            trial = self._study.ask()
            self._reported[trial.number] = set()
        else:
            return None
        self._live[trial.number] = trial
        return Suggestion(trial.number, self._suggest(trial))

    def report(self, number: int, position: int, value: float) -> bool:
        """Notes what a trial has reached at a number of steps or rows. Returns whether it is to be stopped there."""
        trial = self._live[number]
        if position not in self._reported[number]:
            trial.report(value, position)
            self._reported[number].add(position)
        return trial.should_prune()

    def finish(self, number: int, scores: tuple[float, ...], ended_with: Values | None = None) -> None:
        """The trial came to its end, with other values than it began with where they changed on the way."""
        if not all(map(math.isfinite, scores)):
            self.fail(number, f"it is not a number: {scores}")
            return
        if ended_with is not None:
            self._live[number].set_user_attr(_ENDED_WITH, ended_with)
        self._study.tell(number, list(scores), skip_if_finished=True)
        self._forget(number)

    def prune(self, number: int) -> None:
        """The trial was stopped early."""
        self._study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
        self._forget(number)

    def fail(self, number: int, reason: str) -> None:
        """The trial has no result."""
        self._live[number].set_user_attr(_REASON, reason)
        self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        self._forget(number)

    def outcomes(self) -> list[Outcome]:
        """Every trial of this sweep."""
        return [_outcome(trial, self._sweep) for trial in self._own()]

    def best(self) -> list[Outcome]:
        """The best trial, or with several objectives those of the Pareto front; none when none has finished."""
        finished = [outcome for outcome in self.outcomes() if outcome.state == "finished"]
        signs = [1 if objective.direction == "minimize" else -1 for objective in self._sweep.spec.objectives]

        def costs(outcome: Outcome) -> tuple[float, ...]:
            return tuple(sign * score for sign, score in zip(signs, outcome.scores, strict=True))

        if len(signs) == 1:
            return sorted(finished, key=costs)[:1]
        return [one for one in finished if not any(_dominates(costs(other), costs(one)) for other in finished)]

    def importances(self) -> list[dict[str, float]]:
        """For each objective the share of its variance that each path explains (fANOVA, Hutter et al. 2014).

        Empty where too few trials have finished to tell.
        """
        found = []
        enough = len(self._sweep.spec.space) + _MORE_THAN_PATHS
        finished = [trial for trial in self._own() if trial.state == TrialState.COMPLETE]
        for index in range(len(self._sweep.spec.objectives)):

            def score(trial: FrozenTrial, index: int = index) -> float:
                return trial.values[index]

            shares: dict[str, float] = {}
            if len(finished) >= enough and not any(_ENDED_WITH in trial.user_attrs for trial in finished):
                evaluator = FanovaImportanceEvaluator(seed=self._sweep.spec.search.seed)
                with suppress(ValueError, RuntimeError):  # where all trials have the same score
                    shares = get_param_importances(self._study, evaluator=evaluator, target=score)
            found.append({path: float(share) for path, share in shares.items()})
        return found

    def _first_points(self) -> None:
        """The base's own point, then those that are known to be good, then what an earlier sweep found out."""
        names = [objective.name() for objective in self._sweep.spec.objectives]
        self._study.set_metric_names(names)
        self._study.set_user_attr(_OBJECTIVES, names)
        for point in points(self._sweep):
            searched = {path: value for path, value in point.items() if self._sweep.is_searched(path, point)}
            self._study.enqueue_trial(
                {path: _encoded(self._sweep.spec.space[path], value) for path, value in searched.items()}
            )
        for outcome in earlier_outcomes(self._sweep):
            self._study.add_trial(self._as_history(outcome))

    def _as_history(self, outcome: Outcome) -> FrozenTrial:
        space = self._sweep.spec.space
        return optuna.trial.create_trial(
            params={path: _encoded(space[path], value) for path, value in outcome.values.items()},
            distributions={path: _distribution(space[path]) for path in outcome.values},
            values=list(outcome.scores),
            user_attrs={_EARLIER: True},
        )

    def _suggest(self, trial: optuna.Trial) -> Values:
        """The values of a trial; asked again they are the same."""
        space, base = self._sweep.spec.space, self._sweep.base_values()
        values: Values = {}
        for path in sorted(space, key=lambda path: path in self._sweep.spec.conditions):  # those without come first
            if self._sweep.is_searched(path, {**base, **values}):
                values[path] = _drawn(trial, path, space[path])
        return values

    def _own(self) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False)
        return [t for t in trials if _EARLIER not in t.user_attrs and t.state != TrialState.WAITING]

    def _count(self) -> int:
        return len(self._own())

    def _forget(self, number: int) -> None:
        del self._live[number], self._reported[number]


def check_database(url: str) -> RDBStorage:
    """The database at a URL. Raises SpecError where it cannot be used."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return RDBStorage(url)
    except Exception as error:  # whatever the driver of the database says
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SpecError.at("search.study", f"the database {url} cannot be used: {reason}") from None


def earlier_outcomes(sweep: Sweep) -> list[Outcome]:
    """Finished trials of earlier sweeps that lie in this one's space.

    Raises SpecError where an earlier sweep is not there, or measured something else.
    """
    found = []
    names = [objective.name() for objective in sweep.spec.objectives]
    for place, folder in enumerate(sweep.spec.search.earlier):
        from compactbio.launch.sweep_folder import read_results

        results = read_results(folder, f"search.earlier.{place}")
        if results["objectives"] != names:
            raise SpecError.at(
                f"search.earlier.{place}", f"'{folder}' measured {results['objectives']}, and this sweep {names}"
            )
        for trial in results["trials"]:
            inside = {path: value for path, value in trial["values"].items() if path in sweep.spec.space}
            fits = all(sweep.spec.space[path].contains(value) for path, value in inside.items())
            if trial["state"] == "finished" and fits and set(inside) == set(sweep.spec.space):
                found.append(Outcome(trial["number"], "finished", inside, tuple(trial["scores"]), {}))
    return found


def _sampler(sweep: Sweep, num_before: int) -> BaseSampler:
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
            return optuna.samplers.NSGAIISampler(seed=seed)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed)
        case "random" | "grid":  # a grid's points wait in the study from the start
            return optuna.samplers.RandomSampler(seed=seed)


def _pruner(sweep: Sweep) -> BasePruner:
    match sweep.spec.stopping:
        case Asha() as asha:
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=asha.first_rung, reduction_factor=asha.reduction)
        case Median() as median:
            return optuna.pruners.MedianPruner(n_startup_trials=median.first_trials, n_warmup_steps=median.first_steps)
        case _:
            return optuna.pruners.NopPruner()


def _drawn(trial: optuna.Trial, path: str, distribution: Distribution) -> JsonValue:
    match distribution:
        case Integer():
            return trial.suggest_int(path, distribution.low, distribution.high, step=distribution.step)
        case Choice():
            chosen = trial.suggest_categorical(path, [_label(value) for value in distribution.values])
            return _meant(distribution, chosen)
        case _:
            log = isinstance(distribution, LogUniform)
            return trial.suggest_float(path, distribution.low, distribution.high, log=log)


def _distribution(distribution: Distribution) -> optuna.distributions.BaseDistribution:
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


def _encoded(distribution: Distribution, value: JsonValue) -> object:
    return _label(value) if isinstance(distribution, Choice) else value


def _meant(distribution: Choice, label: object) -> JsonValue:
    return next(value for value in distribution.values if _label(value) == label)


def _dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Whether the first is nowhere worse, and somewhere better; lower is better."""
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))


def _outcome(trial: FrozenTrial, sweep: Sweep) -> Outcome:
    states: dict[TrialState, Literal["finished", "pruned", "failed", "running"]] = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    state = states.get(trial.state, "running")
    space = sweep.spec.space
    values: Values = {
        path: _meant(of, label) if isinstance(of := space[path], Choice) else label
        for path, label in trial.params.items()
    }
    values = trial.user_attrs.get(_ENDED_WITH, values)
    curve = {step: value for step, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)}
    scores = tuple(trial.values or ()) if state == "finished" else tuple(itertools.islice(reversed(curve.values()), 1))
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    return Outcome(trial.number, state, values, scores, curve, trial.user_attrs.get(_REASON, ""), seconds)
