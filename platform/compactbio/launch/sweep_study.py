"""The trials of a sweep in Optuna's database: the one place that knows which there are and what they came to.

A sampler and a stopping rule are functions of what is in it, so a sweep that was killed goes on with it alone.
"""

from __future__ import annotations

import itertools
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from compactbio.launch.sweep_optuna import distribution_of, drawn, encoded, meant, pruner, sampler
from compactbio.launch.sweep_outcomes import Outcome, dominates, earlier_outcomes
from compactbio.spec.base import SpecError
from compactbio.spec.points import num_trials, points
from compactbio.spec.space import Choice
from compactbio.spec.sweep import Values
from compactbio.spec.trials import Sweep

_EARLIER = "earlier"
_REASON = "reason"
_OBJECTIVES = "objectives"
_ENDED_WITH = "ended_with"
_READY = "ready"  # all points that are tried first are in the study
_MORE_THAN_PATHS = 2  # finished trials beyond the number of paths, before importance says anything


@dataclass(frozen=True)
class Suggestion:
    """A trial that is to be run, or gone on with."""

    number: int
    values: Values
    """What it has in place of the base's values."""


class SearchStudy:
    """The study of one sweep. One process at a time may use it."""

    def __init__(self, sweep: Sweep, name: str, url: str) -> None:
        """Opens the study, or makes it. Raises SpecError where the database cannot be used."""
        self._sweep = sweep
        self._study = optuna.create_study(
            storage=check_database(url),
            study_name=name,
            directions=[objective.direction for objective in sweep.spec.objectives],
            pruner=pruner(sweep),
            load_if_exists=True,
        )
        before = self._study.get_trials(deepcopy=False)
        self._study.sampler = sampler(sweep, len(before))
        self._begun = [trial for trial in before if trial.state == TrialState.RUNNING]
        self._live: dict[int, optuna.Trial] = {}
        self._reported: dict[int, set[int]] = {}
        if _READY not in self._study.user_attrs:
            self._first_points(before)

    def next(self) -> Suggestion | None:
        """A trial that another driver had begun, or a new one; None when there are enough."""
        if self._begun:
            frozen = self._begun.pop(0)
            trial = optuna.Trial(self._study, frozen._trial_id)
            self._reported[frozen.number] = set(frozen.intermediate_values)
        elif self._count() < num_trials(self._sweep):
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
        return [one for one in finished if not any(dominates(costs(other), costs(one)) for other in finished)]

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

    def _first_points(self, before: list[FrozenTrial]) -> None:
        """The base's own point, then those that are known to be good, then what an earlier sweep found out. A driver
        that was killed in the middle of it may have left some of them."""
        names = [objective.name() for objective in self._sweep.spec.objectives]
        self._study.set_metric_names(names)
        self._study.set_user_attr(_OBJECTIVES, names)
        for point in points(self._sweep):
            searched = {path: value for path, value in point.items() if self._sweep.is_searched(path, point)}
            self._study.enqueue_trial(
                {path: encoded(self._sweep.spec.space[path], value) for path, value in searched.items()},
                skip_if_exists=True,
            )
        num_there = sum(_EARLIER in trial.user_attrs for trial in before)
        for outcome in earlier_outcomes(self._sweep)[num_there:]:
            self._study.add_trial(self._as_history(outcome))
        self._study.set_user_attr(_READY, True)

    def _as_history(self, outcome: Outcome) -> FrozenTrial:
        space = self._sweep.spec.space
        return optuna.trial.create_trial(
            params={path: encoded(space[path], value) for path, value in outcome.values.items()},
            distributions={path: distribution_of(space[path]) for path in outcome.values},
            values=list(outcome.scores),
            user_attrs={_EARLIER: True},
        )

    def _suggest(self, trial: optuna.Trial) -> Values:
        """The values of a trial; asked again they are the same."""
        space, base = self._sweep.spec.space, self._sweep.base_values()
        values: Values = {}
        for path in sorted(space, key=lambda path: path in self._sweep.spec.conditions):  # those without come first
            if self._sweep.is_searched(path, {**base, **values}):
                values[path] = drawn(trial, path, space[path])
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


def _outcome(trial: FrozenTrial, sweep: Sweep) -> Outcome:
    states: dict[TrialState, Literal["finished", "pruned", "failed", "running"]] = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    state = states.get(trial.state, "running")
    space = sweep.spec.space
    values: Values = {
        path: meant(of, label) if isinstance(of := space[path], Choice) else label
        for path, label in trial.params.items()
    }
    values = trial.user_attrs.get(_ENDED_WITH, values)
    curve = {step: value for step, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)}
    scores = tuple(trial.values or ()) if state == "finished" else tuple(itertools.islice(reversed(curve.values()), 1))
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    return Outcome(trial.number, state, values, scores, curve, trial.user_attrs.get(_REASON, ""), seconds)
