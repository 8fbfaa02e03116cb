"""Where the trials of a sweep come from, and what is done with what they come to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compactbio.launch.preflight import Absent
from compactbio.launch.sweep_folder import trial_folder
from compactbio.launch.trial import PRUNED_FILE, TrialReport, fail_trial
from compactbio.launch.trial_stages import TrialRequest
from compactbio.spec.base import SpecError
from compactbio.spec.job import JobSpec
from compactbio.spec.points import num_trials
from compactbio.spec.sweep import Asha, Median, Values
from compactbio.spec.trials import Sweep
from compactbio.tracking.journal import has_ended
from compactbio.training.checkpoint import CHECKPOINTS_FOLDER
from compactbio.training.requests import MODEL_FOLDER

if TYPE_CHECKING:
    from compactbio.launch.sweep_study import SearchStudy


@dataclass(frozen=True)
class Common:
    """What all trials of a sweep use."""

    store: str | None
    """The token store, where the base has text."""

    models: dict[str, str]
    """Where the models lie that the base names."""

    absent: Absent


def trial_request(
    sweep: Sweep, values: Values, folder: Path, common: Common, tags: dict[str, str], *, seed: int | None = None
) -> TrialRequest:
    """A trial's job, ready to run. Raises SpecError where the base does not take these values together."""
    spec: JobSpec = sweep.trial(sweep.job(values, seed=seed), common.store, common.models)
    return TrialRequest(
        spec=spec,
        values=sweep.normalised(values),
        objectives=sweep.spec.objectives,
        folder=folder,
        tags=trial_tags(tags, folder),
        absent=common.absent,
    )


def trial_tags(tags: dict[str, str], folder: Path) -> dict[str, str]:
    """What a trial is found by."""
    return {**tags, "kind": "trial", "trial": folder.name}


def note_failure(request: TrialRequest, report: TrialReport) -> None:
    """Notes in a trial's journal what it could not note itself, where its process was lost."""
    fail_trial(request.folder, request.tags, request.values, report.failure)


class Searching:
    """The trials that the sampler chooses."""

    def __init__(
        self,
        sweep: Sweep,
        study: SearchStudy,
        folder: Path,
        common: Common,
        tags: dict[str, str],
        tell: Callable[[str], None],
    ) -> None:
        self._sweep = sweep
        self._study = study
        self._folder = folder
        self._common = common
        self._tags = tags
        self._tell = tell
        stopping = sweep.spec.stopping
        self._by_rows = isinstance(stopping, Asha | Median) and stopping.by == "rows"

    def next(self) -> TrialRequest | None:
        """The sampler's next trial, without those whose values the base does not take together."""
        while (suggestion := self._study.next()) is not None:
            folder = trial_folder(self._folder, suggestion.number)
            if (folder / PRUNED_FILE).exists():  # the driver was killed before it could note it
                self._study.prune(suggestion.number)
                continue
            try:
                return trial_request(self._sweep, suggestion.values, folder, self._common, self._tags)
            except SpecError as error:
                fail_trial(folder, trial_tags(self._tags, folder), suggestion.values, f"refused: {error}")
                self._study.fail(suggestion.number, str(error))
                self._tell(f"{folder.name}: refused: {error}")
        return None

    def reached(self, request: TrialRequest, report: TrialReport) -> bool:
        """Asks the stopping rule."""
        return self._study.report(_number(request), report.rows if self._by_rows else report.step, report.value)

    def over(self, request: TrialRequest, report: TrialReport) -> None:
        """Notes the scores, or why there are none."""
        if report.failure:
            note_failure(request, report)
            self._study.fail(_number(request), report.failure)
            self._tell(f"{request.folder.name}: failed: {report.failure}")
        else:
            self._study.finish(_number(request), report.scores)
            shown = ", ".join(f"{score:.4g}" for score in report.scores)
            best = self._study.best()
            numbers = ", ".join(str(outcome.number) for outcome in best)
            self._tell(f"{request.folder.name}: {shown}; best so far: {numbers or 'none'}")
        self.tidy()
        remove_state(request.folder)

    def stopped(self, request: TrialRequest) -> None:
        """Notes that others did better."""
        self._study.prune(_number(request))
        self._tell(f"{request.folder.name}: stopped early")

    @property
    def num_runs(self) -> int:
        """How many trials there will be at most."""
        return num_trials(self._sweep)

    def tidy(self) -> None:
        """Models stay of the best trials alone."""
        kept = {trial_folder(self._folder, outcome.number) for outcome in self._study.best()}
        for folder in self._folder.glob("trial-*"):
            if folder not in kept and has_ended(folder):
                remove_state(folder)
                for model in [*folder.rglob(MODEL_FOLDER), *folder.glob(f"*/{MODEL_FOLDER}-step-*")]:
                    shutil.rmtree(model, ignore_errors=True)


class Confirming:
    """Trials that are given."""

    def __init__(self, requests: list[TrialRequest], tell: Callable[[str], None]) -> None:
        self._requests = list(requests)
        self._tell = tell
        self.found: dict[Path, tuple[float, ...]] = {}

    def next(self) -> TrialRequest | None:
        """In their order."""
        return self._requests.pop(0) if self._requests else None

    def reached(self, request: TrialRequest, report: TrialReport) -> bool:
        """None is stopped."""
        return False

    def over(self, request: TrialRequest, report: TrialReport) -> None:
        """Keeps the scores."""
        if report.failure:
            note_failure(request, report)
            self._tell(f"{request.folder.name}: failed: {report.failure}")
        else:
            self.found[request.folder] = report.scores
            self._tell(f"{request.folder.name}: {', '.join(f'{score:.4g}' for score in report.scores)}")
        remove_state(request.folder)

    def stopped(self, request: TrialRequest) -> None:
        """Never."""


def _number(request: TrialRequest) -> int:
    return int(request.folder.name.removeprefix("trial-"))


def remove_state(folder: Path) -> None:
    """What a trial that is over would go on from."""
    for checkpoints in folder.glob(f"*/{CHECKPOINTS_FOLDER}"):
        shutil.rmtree(checkpoints, ignore_errors=True)
