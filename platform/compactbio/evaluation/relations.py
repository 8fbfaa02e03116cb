"""One of C classes for each text: relations, inference between sentences, yes/no/maybe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from compactbio.evaluation.score import Counts, Score, class_counts, class_detail, value

Main = Literal["accuracy", "micro_f1", "macro_f1", "positive_f1"]
MACRO = ("macro_f1", "macro_f1_gold", "macro_f1_all")


def score_classes(
    gold: Sequence[int], predicted: Sequence[int], names: Sequence[str], *, main: Main, negative: str | None = None
) -> Score:
    """Accuracy over all classes, and F1 over all but `negative`, the class that says that there is no relation.

    - `micro_f1`: the classes taken together (DDI-2013: its four kinds of interaction).
    - `positive_f1`: the F1 of the last of two classes, the other being negative (GAD, EU-ADR).
    - `macro_f1`: the mean over classes that have a gold or a predicted example, as scikit-learn's f1_score has it.
    - `macro_f1_gold`: the mean over classes of the test set alone.
    - `macro_f1_all`: the mean over every class of `names`; one that the test set lacks counts 0.

    `detail` is by class. Raises ValueError for a negative class that `names` lacks, for classes outside of it, and for
    a positive class of more than two.
    """
    if main == "positive_f1":
        if len(names) != 2:
            raise ValueError(f"positive_f1 is the score of two classes, not of {len(names)}")
        negative = names[0]
    if negative is not None and negative not in names:
        raise ValueError(f"the negative class {negative!r} is none of {', '.join(names)}")
    scored = [index for index, name in enumerate(names) if name != negative]
    right, answers = _one_hot(gold, len(names)), _one_hot(predicted, len(names))
    if len(right) != len(answers):
        raise ValueError(f"{len(right)} gold and {len(answers)} predicted classes")
    classes = class_counts(*(part[:, scored] for part in (right * answers, answers, right)))
    hits = np.stack([(right * answers).sum(axis=1), np.ones(len(right))], axis=1)
    values = {name: value(classes, name) for name in ("precision", "recall", "micro_f1", *MACRO)}
    if main == "positive_f1":
        values["positive_f1"] = value(classes, "positive_f1")
    return Score(
        main=main,
        values={"accuracy": value(hits, "accuracy"), **values},
        counts=hits if main == "accuracy" else classes,
        detail=class_detail(classes, [names[index] for index in scored]),
    )


def _one_hot(labels: Sequence[int], num_classes: int) -> Counts:
    indices = np.asarray(labels, dtype=np.int64)
    if len(indices) and not 0 <= indices.min() <= indices.max() < num_classes:
        raise ValueError(f"classes are 0 to {num_classes - 1}, found {indices.min()} to {indices.max()}")
    return np.eye(num_classes)[indices]
