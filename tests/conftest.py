"""Small real models and texts that tests make for themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def pytest_configure(config: pytest.Config) -> None:
    """One process that has the imports, of which the commands of the integration tests are forked."""
    chosen = [Path(each.partition("::")[0]).resolve() for each in config.args]
    integration = Path(__file__).parent / "integration"
    if any(integration.is_relative_to(path) or path.is_relative_to(integration) for path in chosen):
        from commands import start_fork_server

        start_fork_server()


ROOT = Path(__file__).parents[1]
WORDS = [
    "the",
    "heart",
    "of",
    "a",
    "patient",
    "was",
    "enlarged",
    "and",
    "weak",
    "muscles",
    "with",
    "pain",
    "in",
    "hand",
    "or",
    "foot",
    "since",
    "early",
    "childhood",
]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny model"))


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_corpus(tmp_path_factory.mktemp("text") / "corpus.txt")


def make_tiny_model(folder: Path) -> Path:
    """A 4-layer BERT of width 32 with random weights, and its tokenizer, as a folder."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer, set_seed

    folder.mkdir(exist_ok=True)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *"abcdefghijklmnopqrstuvwxyz", *".,"]
    tokens += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(tokens)) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    set_seed(0)
    config = BertConfig(
        vocab_size=len(dict.fromkeys(tokens)),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def make_tiny_corpus(path: Path) -> Path:
    """200 lines of words, of ragged lengths."""
    import random

    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS, k=draw.randint(4, 30))) for _ in range(200)]
    path.write_text("\n".join(lines) + "\n")
    return path
