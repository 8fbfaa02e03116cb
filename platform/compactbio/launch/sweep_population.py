"""Population-based training (Jaderberg et al. 2017): trials in generations, of which the worst go on from the best."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compactbio.data.whole import whole_folder
from compactbio.launch.sweep_sources import Common, note_failure, remove_state, trial_request
from compactbio.launch.sweep_trials import Later
from compactbio.launch.trial import TrialReport
from compactbio.launch.trial_stages import TrialRequest
from compactbio.spec.load import from_raw, put
from compactbio.spec.points import num_trials
from compactbio.spec.space import Distribution, LogUniform, Uniform
from compactbio.spec.sweep import Population, Values
from compactbio.spec.trials import Sweep
from compactbio.training.checkpoint import CHECKPOINTS_FOLDER

if TYPE_CHECKING:
    from compactbio.launch.sweep_study import SearchStudy, Suggestion

POPULATION_FILE = "population.json"
_FACTORS = (0.8, 1.2)
_CHECKPOINTS = 5  # a stage that is told to stop may save again before it does


@dataclass
class Member:
    """A trial in one generation."""

    number: int
    values: Values
    parent: int | None = None
    """Whose weights of the generation before it goes on from; its own where it was not among the worst."""

    score: float | None = None
    """Of the objective at the generation's end; not a number where it failed."""

    failure: str = ""


@dataclass
class Generation:
    """The population between two exchanges."""

    members: list[Member] = field(default_factory=list)


class Evolving:
    """The generations as a source of trials. What is done is in a file, so that a resume goes on with it."""

    def __init__(
        self,
        sweep: Sweep,
        study: SearchStudy,
        folder: Path,
        common: Common,
        tags: dict[str, str],
        tell: Callable[[str], None],
    ) -> None:
        assert isinstance(sweep.spec.stopping, Population)
        self._sweep, self._study, self._folder = sweep, study, folder
        self._common, self._tags, self._tell = common, tags, tell
        self._section = sweep.spec.stopping
        self._objective = sweep.spec.objectives[0]
        steps = sweep.base.training_stages()[self._objective.stage].training.steps
        self._ends = [*range(self._section.interval, steps, self._section.interval), steps]
        self._handed_out: set[int] = set()
        suggestions = self._unfinished()
        self._generations = self._read() or [Generation([Member(s.number, s.values) for s in suggestions])]
        if len(self._generations) == len(self._ends):
            unfinished = {suggestion.number for suggestion in suggestions}
            for member in self._generations[-1].members:  # the driver was killed before it could tell the study
                if member.score is not None and member.number in unfinished:
                    self._conclude(member)

    @property
    def num_runs(self) -> int:
        """How many parts of trials there are."""
        return len(self._ends) * num_trials(self._sweep)

    def next(self) -> TrialRequest | Later | None:
        """A member of this generation that has not run."""
        members = self._generations[-1].members
        for place, member in enumerate(members):
            if member.score is None and place not in self._handed_out:
                self._handed_out.add(place)
                return self._request(member)
        if any(member.score is None for member in members):
            return Later()
        if len(self._generations) == len(self._ends):
            return None
        self._breed()
        return self.next()

    def reached(self, request: TrialRequest, report: TrialReport) -> bool:
        """None is stopped."""
        return False

    def over(self, request: TrialRequest, report: TrialReport) -> None:
        """Notes what a member has reached."""
        member = self._generations[-1].members[self._place(request)]
        member.score = report.scores[0] if not report.failure else math.nan
        member.failure = report.failure
        self._write()
        if report.failure:
            note_failure(request, report)
        else:
            self._study.report(member.number, self._end, member.score)
        self._tell(f"{request.folder.name}: {report.failure or format(member.score, '.4g')}")
        if len(self._generations) == len(self._ends):
            self._conclude(member)

    def stopped(self, request: TrialRequest) -> None:
        """Never."""

    def tidy(self) -> None:
        """States are of no use when the last generation is over."""
        for folder in self._folder.glob("trial-*"):
            remove_state(folder)

    def _conclude(self, member: Member) -> None:
        """Tells the study what a member of the last generation came to."""
        assert member.score is not None
        if member.failure:
            self._study.fail(member.number, member.failure)
        else:
            self._study.finish(member.number, (member.score,), self._sweep.normalised(member.values))

    @property
    def _end(self) -> int:
        """The step behind which this generation ends."""
        return self._ends[len(self._generations) - 1]

    def _request(self, member: Member) -> TrialRequest:
        generation = len(self._generations) - 1
        folder = self._member_folder(member.number, generation)
        stage = self._objective.stage
        if member.parent is not None:
            start = f"{stage}/{CHECKPOINTS_FOLDER}/step-{self._ends[generation - 1]}"
            _copy(self._member_folder(member.parent, generation - 1) / start, folder / start)
        tags = {**self._tags, "generation": str(generation)}
        request = trial_request(self._sweep, member.values, folder, self._common, tags)
        raw: dict[str, Any] = request.spec.resolved()
        saved = {"every_steps": self._section.interval, "every_minutes": None, "keep_last": _CHECKPOINTS}
        put(raw, ["stages", stage, "training", "checkpoints"], {**saved, "keep_best": False})
        until = self._end if len(self._generations) < len(self._ends) else None
        return replace(request, spec=from_raw(raw), until=until)

    def _member_folder(self, number: int, generation: int) -> Path:
        return self._folder / f"trial-{number:04d}-{generation:02d}"

    def _place(self, request: TrialRequest) -> int:
        number = int(request.folder.name.split("-")[1])
        return [member.number for member in self._generations[-1].members].index(number)

    def _breed(self) -> None:
        """The next generation: the worst are replaced by copies of the best with other values."""
        before = self._generations[-1].members
        draw = random.Random(f"{self._sweep.spec.search.seed} {len(self._generations)}")
        after = bred(before, self._sweep, self._section, draw)
        for old, new in zip(before, after, strict=True):
            if new.parent != old.number:
                self._tell(f"trial-{old.number:04d} goes on from trial-{new.parent:04d} behind step {self._end:,}")
        if len(self._generations) > 1:
            for member in self._generations[-2].members:
                remove_state(self._member_folder(member.number, len(self._generations) - 2))
        self._generations.append(Generation(after))
        self._handed_out.clear()
        self._write()

    def _unfinished(self) -> list[Suggestion]:
        """All members that are on their way; the study knows them again."""
        found = []
        while (suggestion := self._study.next()) is not None:
            found.append(suggestion)
        return found

    def _read(self) -> list[Generation]:
        """The generations as they were left; none before the first exchange."""
        path = self._folder / POPULATION_FILE
        if not path.exists():
            return []
        return [Generation([Member(**each) for each in members]) for members in json.loads(path.read_text())]

    def _write(self) -> None:
        path = self._folder / POPULATION_FILE
        part = path.with_suffix(".part")
        part.write_text(json.dumps([[asdict(member) for member in each.members] for each in self._generations]))
        part.rename(path)


def bred(before: list[Member], sweep: Sweep, section: Population, draw: random.Random) -> list[Member]:
    """The next generation: each from its own weights, but the worst from those of one of the best."""
    sign = 1 if sweep.spec.objectives[0].direction == "minimize" else -1

    def cost(member: Member) -> float:
        assert member.score is not None
        return sign * member.score if math.isfinite(member.score) else math.inf

    ranked = sorted(before, key=cost)
    share = max(1, math.floor(section.quantile * len(ranked)))
    best, worst = ranked[:share], {member.number for member in ranked[-share:] if len(ranked) > 1}
    worst |= {member.number for member in ranked if math.isinf(cost(member))}
    after = []
    for member in before:
        if member.number not in worst:
            after.append(Member(member.number, member.values, member.number))
            continue
        parent = draw.choice(best)
        values: Values = {
            path: explored(value, sweep.spec.space[path], section.resample, draw)
            for path, value in parent.values.items()
        }
        after.append(Member(member.number, values, parent.number))
    return after


def explored(value: Any, distribution: Distribution, resample: float, draw: random.Random) -> float:
    """A value near another one, or now and then a new one."""
    assert isinstance(distribution, Uniform | LogUniform)
    low, high = distribution.bounds()
    if draw.random() < resample:
        if isinstance(distribution, LogUniform):
            return math.exp(draw.uniform(math.log(low), math.log(high)))
        return draw.uniform(low, high)
    return min(max(float(value) * draw.choice(_FACTORS), low), high)


def _copy(source: Path, target: Path) -> None:
    """A checkpoint for another trial, whole or not at all."""
    if target.exists():
        return
    with whole_folder(target) as making:
        shutil.copytree(source, making, dirs_exist_ok=True)
