"""Examples as rows of tokens, and rows back as answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from compactbio.data.answer_rows import encode_questions, find_answers
from compactbio.data.examples import ClassifiedText, LabelledText, Passage, Question, TaggedText
from compactbio.data.tag_rows import encode_tagged, join_windows, word_pieces
from compactbio.data.task_rows import TaskBatches, collate
from compactbio.data.text_rows import encode_classified, encode_labelled
from compactbio.models.load import load_tokenizer

TAGS = ["O", "B-X", "I-X"]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(tiny_model), "teacher", online=False)


@pytest.fixture(scope="module")
def byte_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer, which sees the space before a word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>", "<unk>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    inner.train_from_iterator(["the heart of the heart"] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, cls_token="<s>", sep_token="</s>", unk_token="<unk>")


def test_the_first_sub_word_carries_the_tag_or_every_one(tokenizer: PreTrainedTokenizerBase) -> None:
    sentence = TaggedText("a", ["heart", "xyz", "pain"], ["O", "B-X", "I-X"])
    [word] = encode_tagged([sentence], TAGS, tokenizer, 32, "word").rows
    [subword] = encode_tagged([sentence], TAGS, tokenizer, 32, "subword").rows
    assert word.ids == subword.ids
    assert tokenizer.convert_ids_to_tokens(word.ids) == ["[CLS]", "heart", "x", "##y", "##z", "pain", "[SEP]"]
    assert (word.positions, word.labels) == ([1, 2, 5], [0, 1, 2])
    assert (subword.positions, subword.labels) == ([1, 2, 3, 4, 5], [0, 1, 1, 1, 2])


def test_every_token_of_a_sentence_of_5000_is_seen_and_predicted(tokenizer: PreTrainedTokenizerBase) -> None:
    words = ["heart", "enlargedx", "\u200b", "pain", "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"] * 1000
    tags = ["O", "B-X", "I-X", "O", "B-X"] * 1000
    for protocol in ("word", "subword"):
        rows = encode_tagged([TaggedText("a", words, tags)], TAGS, tokenizer, 32, protocol).rows  # type: ignore[arg-type]
        assert max(len(row.ids) for row in rows) <= 32
        [found] = join_windows(rows, [row.labels for row in rows], 1)  # type: ignore[misc]
        if protocol == "word":
            assert [TAGS[label] for label in found] == tags


def test_pieces_are_those_of_the_running_text(byte_tokenizer: PreTrainedTokenizerBase) -> None:
    words = ["the", "heart", ",", "heart"]
    [pieces] = word_pieces([words], byte_tokenizer)
    assert [id_ for word in pieces for id_ in word] == byte_tokenizer("the heart , heart", add_special_tokens=False)[
        "input_ids"
    ]
    assert byte_tokenizer.convert_ids_to_tokens(pieces[1])[0].startswith("\u0120")
    assert "".join(byte_tokenizer.decode(word) for word in pieces) == "the heart , heart"


def test_texts_that_are_cut_are_counted_and_pairs_have_segments(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = [LabelledText("a", "heart " * 40, frozenset({1})), LabelledText("b", "heart", frozenset())]
    labelled = encode_labelled(texts, 2, tokenizer, 16)
    assert labelled.num_cut == 1
    assert [len(row.ids) for row in labelled.rows] == [16, 3]
    assert [row.labels for row in labelled.rows] == [[0.0, 1.0], [0.0, 0.0]]
    pair = encode_classified([ClassifiedText("a", "the heart", "pain", 1)], tokenizer, 16)
    batch = collate(pair.rows, 0)
    assert batch.segments is not None
    assert batch.segments.tolist() == [[0, 0, 0, 0, 1, 1]]
    assert collate(labelled.rows, 0).segments is None


CONTEXT = "the weak heart of a patient with pain in the hand and early pain in the foot since childhood"


def _question(start: int, text: str) -> Question:
    passage = Passage("p", CONTEXT, ((start, text),) if text else ())
    return Question("q", "pain of the heart", (passage,), ((text,),))


def test_answers_go_to_positions_and_back_to_characters(tokenizer: PreTrainedTokenizerBase) -> None:
    start = CONTEXT.index("early pain")
    rows = encode_questions([_question(start, "early pain")], tokenizer, 16, 4).rows
    assert len(rows) > 2
    assert max(len(row.ids) for row in rows) <= 16
    covered = {offset for row in rows for offset in row.offsets}
    assert {CONTEXT[left:right] for left, right in covered} == set(CONTEXT.split())
    having = [row for row in rows if row.labels != [0, 0]]
    assert having
    for row in having:
        first, last = row.labels
        assert tokenizer.convert_ids_to_tokens(row.ids[int(first) : int(last) + 1]) == ["early", "pain"]
    logits = []
    for row in rows:  # what a perfect model says
        table = np.zeros((len(row.positions), 2), dtype=np.float32)
        if row.labels != [0, 0]:
            table[row.positions.index(int(row.labels[0])), 0] = 9.0
            table[row.positions.index(int(row.labels[1])), 1] = 9.0
        logits.append(table)
    found = find_answers(CONTEXT, rows, logits)
    assert (found[0].text, found[0].start) == ("early pain", start)
    assert sum(one.probability for one in found) == pytest.approx(1.0)
    assert found[0].probability > 0.99
    assert len({(one.start, one.end) for one in found}) == len(found)  # windows that overlap say it once
    assert all(CONTEXT[one.start : one.end] == one.text for one in found)


def test_most_windows_without_an_answer_can_be_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    question = _question(CONTEXT.index("weak"), "weak")
    every = encode_questions([question], tokenizer, 16, 4).rows
    one = encode_questions([question], tokenizer, 16, 4, max_empty=1, seed=1).rows
    assert len(one) == 1 + sum(row.labels != [0, 0] for row in every) < len(every)
    assert one == encode_questions([question], tokenizer, 16, 4, max_empty=1, seed=1).rows
    chosen = {str(encode_questions([question], tokenizer, 16, 4, max_empty=1, seed=seed).rows) for seed in range(20)}
    assert len(chosen) > 1


def test_a_long_question_is_cut_and_counted(tokenizer: PreTrainedTokenizerBase) -> None:
    question = Question("q", "heart " * 80, (Passage("p", CONTEXT, ()),), (("x",),))
    rows = encode_questions([question], tokenizer, 128, 16)
    assert rows.num_cut == 1
    assert sum(segment == 0 for segment in rows.rows[0].segments or []) == 64 + 2


def test_batches_see_every_row_once_an_epoch(tokenizer: PreTrainedTokenizerBase) -> None:
    examples = [TaggedText(str(n), ["a"] * (n + 1), ["O"] * (n + 1)) for n in range(64)]
    batches = TaskBatches(encode_tagged(examples, ["O"], tokenizer, 70, "word").rows, batch=4, seed=1, pad_id=0)
    lengths = [int(length) for step in range(16) for length in batches(step)[0].real.sum(1)]
    assert sorted(lengths) == list(range(3, 67))
    assert [batches(step)[0].input_ids.shape for step in range(3)] == [
        batches(step)[0].input_ids.shape for step in range(3)
    ]
