from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compactbio.data import counter
from compactbio.data.batches import Batch, MlmBatches
from compactbio.data.build import build_store
from compactbio.data.masking import Vocabulary, mask_tokens
from compactbio.data.order import batch_rows, deal, permute
from compactbio.data.store import TokenStore
from compactbio.models.load import load_tokenizer, vocabulary
from compactbio.spec.corpus import Corpus, LinesSource, Masking
from compactbio.spec.plan import BatchPlan

LAYOUTS = [(1, 8), (2, 4), (1, 4), (2, 2), (4, 2)]


@pytest.mark.parametrize("num_rows", [1, 2, 3, 100, 1000, 4097])
def test_the_order_is_a_permutation(num_rows: int) -> None:
    sent = permute(np.arange(num_rows, dtype=np.uint64), num_rows, key=7)
    assert sorted(sent.tolist()) == list(range(num_rows))


def test_every_row_comes_up_once_an_epoch_and_in_another_order_in_the_next() -> None:
    rows = np.concatenate([batch_rows(3, step, 10, 25)[0] for step in range(5)])
    assert sorted(rows[:25].tolist()) == sorted(rows[25:].tolist()) == list(range(25))
    assert rows[:25].tolist() != rows[25:].tolist()


@pytest.fixture(scope="module")
def store(tiny_model: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    corpus = Corpus(sources=(LinesSource(format="lines", files=str(tiny_corpus)),), max_tokens=24, held_out=0.1)
    tokenizer = load_tokenizer(str(tiny_model), "teacher", online=False)
    return TokenStore(build_store(corpus, tokenizer, tmp_path_factory.mktemp("stores")))


def rows_of(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """What the model sees and what is scored, row by row, without padding."""
    return [
        (ids[real].tolist(), scored[real].tolist())
        for ids, real, scored in zip(batch.input_ids, batch.real, batch.scored, strict=True)
    ]


@pytest.mark.parametrize("step", [0, 1, 40])
def test_batch_k_is_a_function_of_seed_and_k(store: TokenStore, tiny_model: Path, step: int) -> None:
    words = vocabulary(load_tokenizer(str(tiny_model), "teacher", online=False))

    def global_batch(seed: int, num_workers: int, micro_batch: int) -> list[tuple[list[int], list[int]]]:
        plan = BatchPlan(8, num_workers, micro_batch, 8 // num_workers // micro_batch)
        dealt = [MlmBatches(store, words, Masking(), seed, plan, rank)(step) for rank in range(num_workers)]
        assert all(len(micro_batches) == plan.accumulation for micro_batches in dealt)
        return sorted(row for micro_batches in dealt for batch in micro_batches for row in rows_of(batch))

    first = global_batch(1, 1, 8)
    assert all(global_batch(1, *layout) == first for layout in LAYOUTS)
    assert global_batch(2, 1, 8) != first


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_workers_get_equal_work_and_little_padding(num_workers: int) -> None:
    lengths = np.random.default_rng(0).integers(8, 257, 192)
    dealt = [deal(lengths, 8, num_workers, rank) for rank in range(num_workers)]
    assert sorted(np.concatenate([np.concatenate(some) for some in dealt]).tolist()) == list(range(192))
    work = [sum(8 * lengths[rows].max() for rows in some) for some in dealt]
    assert max(work) / min(work) < 1.04
    assert sum(work) / lengths.sum() < 1.06
    unsorted = sum(8 * lengths[start : start + 8].max() for start in range(0, 192, 8))
    assert unsorted / lengths.sum() > 1.5


def test_labels_are_the_tokens_under_the_mask(store: TokenStore, tiny_model: Path) -> None:
    words = vocabulary(load_tokenizer(str(tiny_model), "teacher", online=False))
    [batch] = MlmBatches(store, words, Masking(mask=1.0, random=0.0), 1, BatchPlan(8, 1, 8, 1), 0)(0)
    assert torch.all(batch.input_ids[batch.scored] == words.mask_id)
    assert len(batch.labels) == batch.scored.sum()
    assert not torch.any(torch.isin(batch.labels, torch.tensor(words.special_ids)))
    assert torch.all(batch.input_ids[~batch.real] == words.pad_id)


def test_masking_leaves_special_tokens_alone_and_no_row_without_a_mask() -> None:
    words = Vocabulary(size=1000, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3, 4))
    tokens = np.random.default_rng(0).integers(5, 1000, (400, 40))
    tokens[:, 0], tokens[:, -1] = 2, 0
    tokens[:, 2:-1][:100] = 0  # a hundred rows with one ordinary token
    seen, scored = mask_tokens(tokens, counter.at(np.arange(400, dtype=np.uint64)), Masking(), words)
    assert not scored[tokens < 5].any()
    assert (scored.sum(1) >= 1).all()
    assert (seen == tokens)[~scored].all()
    hidden = seen[100:][scored[100:]]
    original = tokens[100:][scored[100:]]
    assert np.mean(hidden == 4) == pytest.approx(0.8, abs=0.03)
    assert np.mean(hidden == original) == pytest.approx(0.1, abs=0.03)
    assert scored[100:].sum() / (300 * 38) == pytest.approx(0.15, abs=0.01)


def test_whole_words_are_masked_with_all_their_pieces() -> None:
    words = Vocabulary(size=1000, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3, 4), inner_ids=tuple(range(500, 1000)))
    tokens = np.random.default_rng(0).integers(5, 1000, (400, 40))
    tokens[:, 0], tokens[:, -1] = 2, 0
    tokens[:, 20] = 3  # a word does not go on behind a separator
    _, scored = mask_tokens(tokens, counter.at(np.arange(400, dtype=np.uint64)), Masking(whole_words=True), words)
    goes_on = (tokens[:, 1:] >= 500) & (tokens[:, :-1] >= 5)
    assert (scored[:, 1:] == scored[:, :-1])[goes_on].all()
    assert not scored[tokens < 5].any()
    assert (scored.sum(1) >= round(0.15 * 37)).all()
    assert 0.15 < scored.sum() / (400 * 37) < 0.19  # the last word is scored to its end


@pytest.mark.parametrize(
    ("tokens", "inner"), [(["heart", "##y", "[MASK]"], {1}), (["\u0120heart", "y", "<s>"], {1, 2})]
)
def test_a_vocabulary_knows_which_tokens_go_on_with_a_word(tokens: list[str], inner: set[int]) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token=tokens[2]))
    names = dict.fromkeys(("mask_token", "pad_token", "unk_token"), tokens[2])
    found = vocabulary(PreTrainedTokenizerFast(tokenizer_object=backend, **names))
    assert set(found.inner_ids) == inner


def test_held_out_documents_stay_held_out_when_the_corpus_grows(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model), "teacher", online=False)

    def held_out(lines: list[str]) -> set[tuple[int, ...]]:
        path = tmp_path / f"{len(lines)}.txt"
        path.write_text("\n".join(lines))
        corpus = Corpus(
            sources=(LinesSource(format="lines", files=str(path)),), max_tokens=64, held_out=0.3, min_tokens=1
        )
        store = TokenStore(build_store(corpus, tokenizer, tmp_path))
        rows = np.arange(store.num_rows("held_out"))
        return {tuple(row[row != 0]) for row in store.padded(rows, 0, "held_out")}

    lines = [f"heart {'a' * number} pain" for number in range(1, 31)]
    few, many = held_out(lines[:15]), held_out(lines)
    assert few < many
