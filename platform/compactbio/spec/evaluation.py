"""How the speed and the memory of models are measured."""

from __future__ import annotations

from compactbio.spec.base import Section
from compactbio.spec.training import Positive


class Measuring(Section):
    """How inference time and memory are measured (Rohanian et al. 2023, figure 2)."""

    sentences: Positive = 64
    """Held-out sentences, one at a time, in each round."""

    rounds: Positive = 3
    """Rounds over the sentences; the median round is reported."""

    threads: Positive = 1
    """CPU threads of one model."""
