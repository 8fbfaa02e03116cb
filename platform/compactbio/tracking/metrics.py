"""The metrics that a training stage reports: name, unit, and how the workers' values become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One series. `reduction` says how it is joined over workers and micro-batches."""

    name: str
    unit: str
    reduction: Literal["sum over global count", "sum", "rank 0", "driver"]


LOSS = Metric("loss", "nats", "sum over global count")
GRADIENT_NORM = Metric("gradient_norm", "1", "rank 0")
LEARNING_RATE = Metric("learning_rate", "1", "rank 0")
TOKENS = Metric("tokens", "tokens", "sum")
TOKENS_PER_SECOND = Metric("tokens_per_second", "tokens/s", "sum")

UTILISATION = Metric("model_flops_utilisation", "1", "sum")
"""The arithmetic that the recipe needs on its real tokens, over what the workers could do in that time in large matrix
products, measured when the stage started (Chowdhery et al. 2022, appendix B)."""

SKIPPED_STEPS = Metric("skipped_steps", "steps", "rank 0")
"""Steps so far that moved nothing because their loss or gradient was not finite."""

CHECKPOINT_TIME = Metric("checkpoint_time", "seconds", "rank 0")
"""When the checkpoint of this step was whole on disk, since 1970."""

RESTARTS = Metric("restarts", "restarts", "driver")
"""How often workers were started again because some were lost."""

PIECES = Metric("pieces", "pieces of the corpus", "sum")

LOSS_PART_PREFIX = "loss/"
"""Before the name of a part of the objective: its unweighted mean, in the unit of its term."""

HELD_OUT_PREFIX = "held_out/"
"""Before a loss that was computed on held-out rows with dropout off."""

HELD_OUT_PERPLEXITY = Metric(f"{HELD_OUT_PREFIX}perplexity", "1", "sum over global count")
"""exp of the held-out MLM loss: pseudo-perplexity of the masked tokens."""

SCORE_PREFIX = "score/"
"""Before a score of a task on its test set, in percent."""

DEV_PREFIX = "dev/"
"""Before a score of a task on its development set, along the fine-tuning."""
