"""What a cell of a study (one model on one task under one seed) leaves in its folder, by name."""

from __future__ import annotations

RESULT_FILE = "result.json"
"""What it came to, and what has to be equal for it to stand beside another."""
COUNTS_FILE = "counts.npy"
"""For each test example what the main score is computed from."""
PREDICTIONS_FILE = "predictions.tsv"
"""The model's answers on the test set beside the gold ones."""
SUBMISSION_FILE = "submission.json"
"""Of questions in BioASQ's format: the answers as BioASQ takes them."""
WORDS_FILE = "words.tsv"
"""Of entity recognition by sub-words: words with the tags of their first sub-words, for the analysis of errors."""
MENTIONS_FILE = "mentions.json"
"""Of named entity recognition: the mentions of the training set, lower-cased, with their types."""


def cell_name(model_name: str, task_name: str, seed: int) -> str:
    """The name of a cell's folder, and of its run in MLflow."""
    return f"{model_name}-{task_name}-s{seed}"
