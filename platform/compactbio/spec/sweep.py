"""A sweep: one job many times, with other values, in search of those that score best."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from compactbio.spec.base import Section
from compactbio.spec.job import NAME
from compactbio.spec.space import Distribution
from compactbio.spec.training import Positive

Values = dict[str, JsonValue]
"""Dotted path in a job to what stands there."""


class HeldOut(Section):
    """What a training stage reaches on held-out rows behind its last step."""

    kind: Literal["held_out"]
    """Says that this is `held_out`."""

    stage: str
    """The training stage."""

    measure: Literal["mlm", "agreement", "loss"] = "mlm"
    """`mlm` is the MLM loss, `agreement` the share of masked tokens on which student and teacher agree, `loss` the
    weighted sum that is trained, which says nothing where its own weights are searched."""

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """What is better."""
        return "maximize" if self.measure == "agreement" else "minimize"

    def contained(self) -> tuple[str, ...]:
        """Paths, with everything below them, that change what is measured and not only how well it goes."""
        training = (f"stages.{self.stage}.training.{field}" for field in ("masking", "held_out_rows"))
        return (*training, *([f"stages.{self.stage}.objective"] if self.measure == "loss" else []))

    def name(self) -> str:
        """What it is called in tables and metrics."""
        return f"{self.stage}/held_out/{self.measure}"


class Score(Section):
    """What a model scores on a task behind its fine-tuning."""

    kind: Literal["score"]
    """Says that this is `score`."""

    stage: str
    """The fine-tuning stage."""

    model: str
    """Which of its models."""

    task: str | None = None
    """Which of its tasks; the mean over all of them when left out."""

    split: Literal["dev", "test"] = "dev"
    """What is scored: what is found by the score of a test set is chosen by it, and wants a test set of its own."""

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """What is better."""
        return "maximize"

    def contained(self) -> tuple[str, ...]:
        """Paths, with everything below them, that change what is measured and not only how well it goes."""
        return (f"stages.{self.stage}.tasks",)

    def name(self) -> str:
        """What it is called in tables and metrics."""
        return f"{self.stage}/{self.model}/{self.task or 'mean'} {self.split} score"


class Latency(Section):
    """Seconds that a fine-tuned model takes for a sentence, as the stage's `measuring` says."""

    kind: Literal["latency"]
    """Says that this is `latency`."""

    stage: str
    """The fine-tuning stage."""

    model: str
    """Which of its models."""

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """What is better."""
        return "minimize"

    def contained(self) -> tuple[str, ...]:
        """Paths, with everything below them, that change what is measured and not only how well it goes."""
        return (f"stages.{self.stage}.measuring",)

    def name(self) -> str:
        """What it is called in tables and metrics."""
        return f"{self.stage}/{self.model}/seconds a sentence"


Yardstick = Annotated[HeldOut | Score | Latency, Field(discriminator="kind")]


class Search(Section):
    """How the next values are chosen."""

    sampler: Literal["tpe", "nsga2", "gp", "random", "grid"] = "tpe"
    """Optuna's: tree-structured Parzen estimator, NSGA-II, Gaussian process, at random; `grid` takes every combination
    of choices and whole numbers once."""

    multivariate: bool = True
    """TPE looks at values together, not one by one."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Of the sampler; the job has its own."""

    warm_start: tuple[Values, ...] = ()
    """Points that are known to be good, tried behind the base's own; a path that is left out has the base's value."""

    earlier: tuple[str, ...] = ()
    """Folders of earlier sweeps with the same yardsticks, whose trials the sampler learns from."""

    study: str | None = None
    """URL of the database of Optuna's study (`postgresql://...`); a SQLite file in the sweep's folder when left out."""


class Budget(Section):
    """How much is tried."""

    trials: Positive | None = None
    """How many trials there are, stopped and failed ones too; all combinations of a grid when left out."""

    concurrent: Positive | None = None
    """How many at once; as many as the cluster holds when left out."""

    max_failures: Annotated[int, Field(ge=0)] = 2
    """How often a trial whose process or machine was lost starts again from its checkpoint."""


class _Early(Section):
    """Stopping trials that do worse than others did as far as they are."""

    by: Literal["steps", "rows"] = "steps"
    """How far a trial is: in steps, or in rows, as compute goes where batches differ."""


class Asha(_Early):
    """Asynchronous successive halving (Li et al. 2020): at each rung only the best 1 / `reduction` go on."""

    kind: Literal["asha"]
    """Says that this is `asha`."""

    first_rung: Positive
    """Steps (or rows) of the first rung; each further one is `reduction` times as far. A fifth of the way or more:
    earlier, a search of learning rates stops those that begin slowly and end best (measured: jobs/LOG.md)."""

    reduction: Annotated[int, Field(ge=2)] = 2


class Median(_Early):
    """A trial is stopped where its best is worse than the median of the others (Golovin et al. 2017)."""

    kind: Literal["median"]
    """Says that this is `median`."""

    first_trials: Positive = 5
    """So many trials are never stopped."""

    first_steps: Annotated[int, Field(ge=0)] = 0
    """No trial is stopped before so many steps (or rows)."""


class Never(Section):
    """Every trial runs to its end."""

    kind: Literal["none"]
    """Says that this is `none`."""


class Population(Section):
    """Population-based training (Jaderberg et al. 2017): the trials are a population that is trained together. Behind
    every interval the worst go on from the weights of the best, with values a little different from theirs."""

    kind: Literal["pbt"]
    """Says that this is `pbt`."""

    interval: Positive
    """Steps between two such exchanges."""

    quantile: Annotated[float, Field(gt=0.0, le=0.5)] = 0.25
    """The share of the population that is replaced, and the share that it is replaced from."""

    resample: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    """How often a value is drawn anew instead of multiplied by 0.8 or 1.2."""


Early = Annotated[Never | Asha | Median | Population, Field(discriminator="kind")]


class SweepSpec(Section):
    """One sweep. The file lies beside its base as a job that stands on another does."""

    name: Annotated[str, Field(pattern=NAME, max_length=60)]
    """Names the sweep's runs, and its experiment unless the base names one."""

    base: str
    """The job that every trial is, but for the values that are searched; a path from this file."""

    scale: Values = Field(default_factory=dict)
    """Dotted paths of the base, and what stands there instead in every trial."""

    space: Annotated[dict[str, Distribution], Field(min_length=1)]
    """Dotted path of the base: what it may be. The first trial has the base's own values."""

    conditions: dict[str, dict[str, tuple[JsonValue, ...]]] = Field(default_factory=dict)
    """A path of the space: other paths of it, and the values of those for which it is searched at all; for others it
    keeps the base's value."""

    normalise_lambdas_to: Annotated[float, Field(gt=0.0)] | None = None
    """The lambdas that are searched are scaled to this sum, those of the first trial too."""

    objectives: Annotated[tuple[Yardstick, ...], Field(min_length=1)]
    """What is made as good as possible; of several at once the Pareto front is found."""

    search: Search = Search()
    budget: Budget = Budget()
    stopping: Early = Never(kind="none")
    confirm_seeds: Annotated[int, Field(ge=0)] = 0
    """Behind the search, run the best trial's values and the base's with so many seeds that no trial had."""
