"""Weights of classes in the loss."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from compactbio.data.task_rows import Row
from compactbio.objectives.tasks import balanced_weights
from compactbio.spec.tuning import Tuning


def class_weights(tuning: Tuning, rows: Sequence[Row], num_classes: int) -> Tensor | None:
    """What each class weighs in the loss [C], from its share of these rows; None where all weigh the same."""
    if tuning.class_weights is None:
        return None
    labels = np.fromiter(itertools.chain.from_iterable(row.labels for row in rows), dtype=np.int64)
    return balanced_weights(torch.from_numpy(np.bincount(labels, minlength=num_classes)))
