"""Readers of benchmark data: what they read, what they refuse, and that the real files are whole."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from compactbio.data.annotated import AnnotatedFile
from compactbio.data.benchmarks import MissingDataError, read_task
from compactbio.data.bioasq import read_golden, read_submission, spans_of, write_submission
from compactbio.data.examples import TaskData
from compactbio.spec.base import SpecError
from compactbio.spec.benchmarks import benchmark_tasks, groups
from compactbio.spec.references import DATA_ROOT
from compactbio.spec.task_base import Benchmark
from compactbio.spec.tasks import AnyTask

DATA = os.environ.get("COMPACTBIO_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="COMPACTBIO_DATA does not name the folder of real data")

GOOD = "Weak\tB-Sign\nheart\tI-Sign\n.\tO\n\n"
TABLE = "sentence\tlabel\n"
ADAPTER: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def task(**values: Any) -> AnyTask:
    return ADAPTER.validate_python(values, strict=False)


def write(name: str, content: str | bytes) -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def ner(train: str | bytes, **values: Any) -> TaskData[Any]:
    files = {"train": write("train.tsv", train), "test": write("test.tsv", GOOD)}
    return read_task(task(**{"kind": "ner", **files, **values}))


def relations(rows: str, *, name: str = "train.tsv", **values: Any) -> TaskData[Any]:
    good = {"train": write(name, rows), "test": write("test.tsv", TABLE + "@A$ and @B$\tyes\n")}
    return read_task(task(kind="relations", name="x", labels=("no", "yes"), score="macro_f1", **{**good, **values}))


def folds(table: str, **values: Any) -> TaskData[Any]:
    given: dict[str, Any] = {"name": "x", "labels": ("0", "1"), "score": "positive_f1", "folds": 3, "fold": 2}
    return read_task(task(**{"kind": "relation_folds", "file": write("folds.tsv", table), **given, **values}))


def hoc(train: str, **values: Any) -> TaskData[Any]:
    write("names.txt", "first\nsecond\n")
    write("test.tsv", "id\tlabels\tsentence\n9_s0\t0\tA test.\n")
    files = {"train": write("train.tsv", train), "test": "test.tsv", "names": "names.txt"}
    return read_task(task(**{"kind": "labels", "unit": "sentence", **files, **values}))


def squad(context: str, start: int, text: str) -> str:
    answer = {"text": text, "answer_start": start}
    asked = {"id": 7, "question": "Who?", "answers": [answer]}
    return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": [asked]}]}]})


def covid(articles: int) -> str:
    paragraph = {"context": "a heart", "qas": []}
    data = [
        {
            "paragraphs": [
                {
                    **paragraph,
                    "qas": [
                        {"id": f"{n}.{q}", "question": f"{n} {q}?", "answers": [{"text": "heart", "answer_start": 2}]}
                        for q in range(3)
                    ],
                }
            ]
        }
        for n in range(articles)
    ]
    return json.dumps({"data": data})


def golden(*questions: dict[str, Any]) -> str:
    return json.dumps({"questions": list(questions)})


FACTOID = {
    "id": "q1",
    "type": "factoid",
    "body": "Which gene?",
    "exact_answer": [["BRCA1", "breast cancer 1"], ["p53"]],
    "snippets": [{"text": "Mutated brca1 and XBRCA1, and p53."}, {"text": "Nothing here."}],
}


def tagged(data: TaskData[Any]) -> list[tuple[str, str]]:
    return [pair for example in data.train for pair in zip(example.words, example.tags, strict=True)]


# ------------------------------------------------------------------ named entities


def test_iob2_with_tabs_spaces_and_more_columns() -> None:
    text = "-DOCSTART- -X- O\n\nWeak  JJ  B-Sign\nheart NN I-Sign\n\n\n. . O"
    data = ner(text)
    assert [example.words for example in data.train] == [["Weak", "heart"], ["."]]
    assert data.labels == ["O", "B-Sign", "I-Sign"]
    assert data.train[0].tags == ["B-Sign", "I-Sign"]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_packed_files(suffix: str, pack: Any) -> None:
    path = write(f"train.tsv{suffix}", pack(GOOD.encode()))
    data = read_task(task(kind="ner", train=path, test=path))
    assert data.sizes == {"train": 1, "dev": 0, "test": 1}
    with pytest.raises(SpecError, match="cannot be read"):
        read_task(task(kind="ner", train=write(path, pack(GOOD.encode())[:-9]), test=path))


def test_iob1_and_iobes_become_iob2() -> None:
    want = [("a", "B-X"), ("b", "I-X"), ("c", "B-X"), ("d", "O"), ("e", "B-Y")]
    assert tagged(ner("a I-X\nb I-X\nc B-X\nd O\ne I-Y\n", scheme="iob1", test=write("i.tsv", "a O\n"))) == want
    assert tagged(ner("a B-X\nb E-X\nc S-X\nd O\ne S-Y\n", scheme="iobes", test=write("s.tsv", "a S-X\n"))) == want


def test_untyped_tags_take_the_type_that_the_task_names() -> None:
    assert tagged(ner("a B\nb I\n", entity="Gene")) == [("a", "B-Gene"), ("b", "I-Gene")]


def test_a_sentence_of_5000_tokens_is_one_example_and_told() -> None:
    data = ner(GOOD + "".join(f"w{number}\tO\n" for number in range(5000)))
    assert [len(example.words) for example in data.train] == [3, 5000]
    assert [note.partition("train.tsv:")[2] for note in data.notes if "5,000" in note] == [
        "5: a sentence of 5,000 words; is an end of it missing?"
    ]


def test_byte_order_mark_and_windows_line_ends_are_read_and_told() -> None:
    data = ner(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert tagged(data) == [("Weak", "B-Sign"), ("heart", "I-Sign"), (".", "O")]
    assert [note.partition("train.tsv:")[2] for note in data.notes[:2]] == [
        "1: begins with a byte-order mark, which is left out",
        "1: Windows line ends (4 lines from here on)",
    ]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("a\tO\nheart\n", {}, ":2: a column is missing: 'heart'"),
        ("a\tO\n\tO\n", {}, ":2: a column is missing"),
        ("a x O\nb O\n", {}, ":2: 2 columns, where the lines before have 3"),
        ("a\tO\nb\tQ-Sign\n", {}, ":2: stray label 'Q-Sign' (iob2 has O, B-TYPE, I-TYPE)"),
        ("a\tB-Sing\n", {"types": ("Sign",)}, ":1: stray label 'B-Sing': the task has the types Sign"),
        ("a\tE-Sign\n", {}, ":1: stray label 'E-Sign'"),
        ("a\tB\n", {}, ":1: label 'B' has no type: say which under the task's `entity`"),
        ("a\tO\nb\tI-Sign\n", {}, ":2: 'b': I-Sign without B-Sign before it; in iob2"),
        ("a\tB-Sign\nb\tI-Gene\n", {}, ":2: 'b': I-Gene without B-Gene before it"),
        ("a\tB-Sign\n\nb\tI-Sign\n", {}, ":3: 'b': I-Sign without B-Sign"),
        ("a\tB-Sign\n", {"scheme": "iob1"}, ":1: 'a': B-Sign follows no entity of its type; in iob1"),
        ("a\tB-Sign\nb\tO\n", {"scheme": "iobes"}, ":2: 'b': the entity before it is not finished: B-Sign without"),
        ("a\tB-Sign\n", {"scheme": "iobes"}, ":1: 'a': B-Sign without E-Sign behind it"),
        ("a\tE-Sign\n", {"scheme": "iobes"}, ":1: 'a': E-Sign without B-Sign before it"),
        ("", {}, ":1: the file is empty"),
        ("\n \n", {}, ":1: the file is empty"),
        ("-DOCSTART-\tO\n", {}, ":1: no sentence in the file"),
        (b"a\tO\n\xff\tO\n", {}, ":2: not UTF-8"),
        ("a\tO\rb\tO\n", {}, ":1: a carriage return inside the line"),
    ],
)
def test_bad_columns_are_told_with_file_and_line(text: str | bytes, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        ner(text, **settings)
    assert f"train.tsv{message}" in str(caught.value)


def test_many_problems_are_told_in_part() -> None:
    with pytest.raises(SpecError, match="and 481 more problems"):
        ner("a\n" * 500)


def test_a_development_set_that_is_trained_on_is_none_to_choose_by() -> None:
    data = ner(GOOD, dev=write("dev.tsv", GOOD * 2), training="train+dev")
    assert data.sizes == {"train": 3, "dev": 0, "test": 1}


# ------------------------------------------------------------------ relations


def test_relations_from_tables_and_json_lines() -> None:
    want = [("@A$ is @B$", 1), ("@B$ is @A$", 0)]
    with_header = "index\tsentence\tlabel\nx\t@A$ is @B$\tyes\ny\t@B$ is @A$\tno\n"
    without = "@A$ is @B$\tyes\n@B$ is @A$\tno\n"
    as_json = '{"text": "@A$ is @B$", "label": "yes"}\n\n{"text": "@B$ is @A$", "label": "no"}\n'
    for rows, name in ((with_header, "a.tsv"), (without, "b.tsv"), (as_json, "c.jsonl")):
        data = relations(rows, name=name, markers=("@A$", "@B$"))
        assert [(example.text, example.label) for example in data.train] == want
        assert data.labels == ["no", "yes"]


@pytest.mark.parametrize(
    ("rows", "name", "message"),
    [
        (TABLE + "@A$\tyes\n@A$\tyse\n", "a.tsv", "a.tsv:3: stray label 'yse': the task has no, yes"),
        (TABLE + "@A$\n", "a.tsv", "a.tsv:2: 1 columns instead of 2 (sentence, label)"),
        (TABLE + "\tyes\n", "a.tsv", "a.tsv:2: the sentence is empty"),
        (TABLE + "B\tyes\n", "a.tsv", "a.tsv:2: no '@A$' in the sentence"),
        ("a\tb\tc\td\n", "a.tsv", "a.tsv:1: 4 columns and no header"),
        ("id\tsentence\n1\t@A$\n", "a.tsv", "a.tsv:1: a column is missing: `label`"),
        ("id\tlabel\n1\tyes\n", "a.tsv", "a.tsv:1: a column is missing: `sentence`"),
        (TABLE, "a.tsv", "no examples in the train set (PLACE/a.tsv)"),
        ("", "a.tsv", "a.tsv:1: the file is empty"),
        ('{"text": "@A$", "label": "yes"}\n{"text"\n', "a.jsonl", "a.jsonl:2: not JSON"),
        ('{"text": "@A$"}\n', "a.jsonl", "a.jsonl:1: needs `text` and `label`"),
        ("[]\n", "a.jsonl", "a.jsonl:1: not a JSON object"),
    ],
)
def test_bad_relations_are_told_with_file_and_line(rows: str, name: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        relations(rows, name=name, markers=("@A$",))
    assert message.replace("PLACE", str(Path.cwd())) in str(caught.value)


FOLDS = "fold\tsentence\tlabel\n" + "".join(f"{n % 3 + 1}\tsentence {n % 25}\t{n % 2}\n" for n in range(30))


def test_folds_are_test_set_and_development_set_once() -> None:
    data = folds(FOLDS, dev_fold=1)
    assert data.sizes == {"train": 10, "dev": 10, "test": 10}
    assert [example.identity for example in data.test][:2] == ["fold 2 1", "fold 2 2"]
    assert "5 of 25 sentences stand in more than one fold" in data.notes
    shared = len({example.text for example in data.train} & {example.text for example in data.test})
    assert f"{shared} of 10 test texts stand in the training set too" in data.notes
    drawn = folds(FOLDS)
    assert drawn.sizes == {"train": 18, "dev": 2, "test": 10}
    assert drawn.fingerprint == folds(FOLDS).fingerprint != folds(FOLDS, subset_seed=2).fingerprint


def test_a_file_a_fold() -> None:
    for number in (1, 2, 3):
        write(f"{number}.tsv", f"index\tsentence\tlabel\n0\tsentence {number}\t1\n")
    data = folds(FOLDS, file="{fold}.tsv", dev_fold=3)
    assert [example.text for some in (data.train, data.dev, data.test) for example in some] == [
        "sentence 1",
        "sentence 3",
        "sentence 2",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fold": 4}, "there is no fold 4 of 3"),
        ({"dev_fold": 2}, "fold 2 chooses checkpoints (dev_fold), and cannot be the test set"),
        ({"folds": 2}, "folds.tsv:4: fold '3' is not one of 1 to 2"),
        ({"folds": 4, "fold": 4}, "folds.tsv: no rows of fold 4 of 4"),
    ],
)
def test_bad_folds(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        folds(FOLDS, **values)
    assert message in str(caught.value)


def test_a_tenth_is_held_out_by_a_constant_seed() -> None:
    given = {"kind": "relation_holdout", "name": "x", "labels": ("0", "1"), "score": "positive_f1"}
    path = write("folds.tsv", FOLDS)
    first, again, other = (read_task(task(file=path, subset_seed=seed, **given)) for seed in (1, 1, 2))
    assert first.sizes == {"train": 27, "dev": 0, "test": 3}
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert not {example.identity for example in first.train} & {example.identity for example in first.test}


# ------------------------------------------------------------------ labels and pairs

HOC = "id\tlabels\tsentence\n1_s0\t\tNone.\n1_s1\t0,1\tBoth.\n2_s0\t1\tSecond.\n3_s0\t\tNone again.\n"


def test_sentences_of_an_abstract_stay_together() -> None:
    data = hoc(HOC)
    assert [(example.labels, example.group) for example in data.train] == [
        (frozenset(), "1"),
        (frozenset({0, 1}), "1"),
        (frozenset({1}), "2"),
        (frozenset(), "3"),
    ]
    assert data.labels == ["first", "second"]
    assert len(hoc(HOC, max_train=2).train) == 2
    for seed in range(1, 6):
        whole = hoc(HOC, unit="abstract", max_train=2, subset_seed=seed).train
        assert len({example.group for example in whole}) == 2
        assert len(whole) == sum(2 if group == "1" else 1 for group in {example.group for example in whole})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1_s0\t2\tx\n", ":2: stray label '2': the labels are 0 to 1"),
        ("1_s0\tfirst\tx\n", ":2: stray label 'first'"),
        ("1\t0\tx\n", ":2: the id '1' is not of the form PMID_sN"),
        ("1_s0\t0\n", ":2: 2 columns instead of 3"),
        ("1_s0\t0\tx\n1_s0\t0\ty\n", ":3: the id '1_s0' stands in line 2 already"),
    ],
)
def test_bad_labels(line: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        hoc("id\tlabels\tsentence\n" + line)
    assert f"train.tsv{message}" in str(caught.value)
    with pytest.raises(SpecError, match=r"train\.tsv:1: the first line names the columns"):
        hoc(line)


def test_pairs() -> None:
    good = '{"sentence1": "a", "sentence2": "b", "gold_label": "neutral", "pairID": "x"}\n'
    data = read_task(task(kind="pairs", train=write("a.jsonl", good), test="a.jsonl"))
    assert [(example.text, example.pair, example.label) for example in data.train] == [("a", "b", 1)]
    for bad, message in (
        (good.replace("neutral", "-"), "a.jsonl:1: stray label '-'"),
        (good.replace("sentence2", "two"), "a.jsonl:1: no text under `sentence2`"),
    ):
        with pytest.raises(SpecError, match=message):
            read_task(task(kind="pairs", train=write("a.jsonl", bad), test="a.jsonl"))


# ------------------------------------------------------------------ questions


def choices(**changes: object) -> TaskData[Any]:
    asked = {
        str(n): {"QUESTION": f"{n}?", "CONTEXTS": ["a", "b"], "LONG_ANSWER": "yes!", "final_decision": "maybe"}
        for n in range(4)
    }
    files = {"questions": asked, "test_ids": {"3": "maybe"}, "folds": {"0": {"train": ["0", "1"], "dev": ["2"]}}}
    for name, value in {**files, **changes}.items():
        write(f"{name}.json", json.dumps(value))
    return read_task(task(kind="choice", **{name: f"{name}.json" for name in files}))


def test_choices_hide_the_conclusion() -> None:
    data = choices()
    assert data.sizes == {"train": 2, "dev": 1, "test": 1}
    assert (data.test[0].text, data.test[0].pair, data.labels[data.test[0].label]) == ("3?", "a b", "maybe")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_ids": {"9": "yes"}}, "test_ids.json: there is no question 9"),
        ({"folds": {"0": {"train": ["0", "3"], "dev": []}}}, "folds.json: 0: question 3 is in the test set too"),
        ({"folds": {"1": {}}}, "folds.json: 0: needs the lists `train` and `dev`"),
        ({"questions": {"3": {"QUESTION": "x"}}}, "questions.json: 3: needs QUESTION (text) and CONTEXTS"),
        (
            {"questions": {"3": {"QUESTION": "x", "CONTEXTS": [], "final_decision": "no way"}}},
            "questions.json: 3: final_decision 'no way' is none of yes, no, maybe",
        ),
        ({"questions": []}, "questions.json:1: a JSON object is needed"),
    ],
)
def test_bad_choices(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        choices(**changes)
    assert message in str(caught.value)


def test_squad_answers_stand_where_they_are_said_to() -> None:
    path = write("a.json", squad("a heart", 2, "heart"))
    data = read_task(task(kind="questions", format="squad", train=path, test=path))
    (question,) = data.train
    assert (question.identity, question.answers, question.passages[0].spans) == ("7", (("heart",),), ((2, "heart"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (squad("a heart", 3, "heart"), "a.json: question 7: at answer_start 3 stands 'eart', not the answer 'heart'"),
        (squad("a heart", -5, "hear"), "a.json: question 7: at answer_start -5"),
        (squad("a heart", 2, ""), "a.json: question 7: an answer without `text`"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "a.json: data.0.paragraphs.0: no text under `context`"),
        ('{"data": []}', "a.json: data: no questions"),
        ('{"questions": []}', "a.json:1: not in SQuAD's format"),
        ('{"data": [\n{]}', "a.json:2: not JSON"),
        (
            squad("a heart", 2, "heart").replace('"answers": [', '"answers": null, "was": ['),
            "question 7: `answers` is no",
        ),
    ],
)
def test_bad_squad(content: str, message: str) -> None:
    path = write("a.json", content)
    with pytest.raises(SpecError) as caught:
        read_task(task(kind="questions", format="squad", train=path, test=path))
    assert message in str(caught.value)


def test_questions_without_an_answer_are_trained_on_and_not_scored() -> None:
    path, other = write("a.json", squad("a heart", 2, "heart")), write("b.json", squad("a heart", 2, "heart"))
    Path(other).write_text(Path(other).read_text().replace('"id": 7', '"id": 8, "is_impossible": true'))
    data = read_task(task(kind="questions", format="squad", train=other, test=path))
    assert data.train[0].answers == ()
    with pytest.raises(SpecError, match=r"b.json: question 8: has no answer, and so cannot be scored"):
        read_task(task(kind="questions", format="squad", train=path, test=other))


def test_no_article_is_in_two_sets() -> None:
    data = read_task(task(kind="question_holdout", file=write("c.json", covid(20))))
    assert data.sizes == {"train": 42, "dev": 6, "test": 12}
    sets = [{example.identity.split(".")[0] for example in some} for some in (data.train, data.dev, data.test)]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])


def test_bioasq_golden_files() -> None:
    other = {"id": "q2", "type": "yesno", "body": "Is it?", "exact_answer": "yes", "snippets": []}
    flat = {**FACTOID, "id": "q3", "exact_answer": ["BRCA1", "breast cancer 1"]}
    train, test = write("train.json", golden(FACTOID, other)), write("b1.json", golden(FACTOID))
    given = {"kind": "questions", "format": "bioasq", "train": train, "test": test}
    data = read_task(task(**given, more_tests=(write("b2.json", golden(flat)),), sizes={"total": 2}))
    assert data.sizes == {"train": 1, "dev": 0, "test": 2}
    assert data.as_expected is True
    assert data.notes[0].endswith("train.json: 2 questions, 1 of them factoid")
    assert data.train[0].answers == (("BRCA1", "breast cancer 1"), ("p53",))
    assert data.test[1].answers == (("BRCA1", "breast cancer 1"),)
    assert [passage.spans for passage in data.train[0].passages] == [((8, "brca1"), (30, "p53")), ()]


def test_answers_are_whole_words() -> None:
    assert spans_of([["IL-2"], ["+"]], "IL-2, il-2R and IL-2.") == ((0, "IL-2"), (16, "IL-2"))


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({**FACTOID, "snippets": []}, "question q1: no snippets"),
        ({**FACTOID, "exact_answer": 3}, "question q1: `exact_answer` is no list of answers"),
        ({**FACTOID, "id": 1}, "questions.0: no text under `id`"),
    ],
)
def test_bad_bioasq(question: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_golden(AnnotatedFile(Path(write("g.json", golden(question)))))
    assert message in str(caught.value)
    with pytest.raises(SpecError, match="question q1: the id stands twice"):
        read_golden(AnnotatedFile(Path(write("g.json", golden(FACTOID, FACTOID)))))


def test_a_submission_comes_back_as_it_was_written() -> None:
    questions = read_golden(AnnotatedFile(Path(write("g.json", golden(FACTOID, {**FACTOID, "id": "q3"})))))
    answers = {"q1": ["naïve", "b", "c", "d", "e", "f"], "q3": []}
    write_submission(Path("answers.json"), questions, answers)
    assert read_submission(AnnotatedFile(Path("answers.json"))) == {"q1": answers["q1"][:5], "q3": []}
    entry = json.loads(Path("answers.json").read_text())["questions"][0]
    assert (entry["type"], entry["exact_answer"][:2]) == ("factoid", [["naïve"], ["b"]])


# ------------------------------------------------------------------ subsets, sizes, missing data


def many(*, sentences: int = 60, **values: Any) -> TaskData[Any]:
    return ner("".join(f"w{number}\tB-Sign\n\n" for number in range(sentences)), **values)


def test_subsets_are_fixed_by_their_seed_and_grow_by_adding() -> None:
    small, large, again, other = (
        many(max_train=10),
        many(max_train=20),
        many(max_train=10),
        many(max_train=10, subset_seed=2),
    )
    chosen = [{example.identity for example in data.train} for data in (small, large, again, other)]
    assert len(chosen[0]) == 10
    assert chosen[0] < chosen[1]
    assert chosen[0] == chosen[2] != chosen[3]
    assert small.fingerprint == again.fingerprint
    assert len({data.fingerprint for data in (small, large, other, many())}) == 4
    assert small.sizes["train"] == 60


def test_the_fingerprint_is_of_what_is_used() -> None:
    assert many(max_train=60).fingerprint == many().fingerprint
    assert many(sentences=61).fingerprint != many().fingerprint


def test_sizes_that_are_not_the_expected_ones_are_told() -> None:
    data = many(sizes={"train": 61, "test": 1, "total": 61})
    assert data.as_expected is False
    assert data.notes == ("train: 60 examples, 61 are expected",)
    assert many(sizes={"train": 59}).as_expected is False
    assert many(sizes={"train": 60}).as_expected is True
    assert many().as_expected is None


def test_missing_data_say_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_ROOT, raising=False)
    for name, benchmark in benchmark_tasks(["mednli", "i2b2-2014", "eu-adr"]).items():
        with pytest.raises(MissingDataError) as caught:
            read_task(benchmark, f"tasks.{name}")
        assert isinstance(benchmark, Benchmark)
        assert str(caught.value).startswith(f"tasks.{name}: there are no files ")
        assert str(caught.value).endswith(str(benchmark.obtain))
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), MissingDataError)
    with pytest.raises(MissingDataError, match=r"tasks\.dev: there is no file 'nowhere\.tsv'"):
        ner(GOOD, dev="nowhere.tsv")


def test_held_out_text_is_what_a_corpus_holds_out() -> None:
    path = write("text.txt", "\n\n".join(f"document {number}" for number in range(200)))
    part, whole = (read_task(task(kind="mlm", file=path, held_out=share)) for share in (0.2, 1.0))
    assert len(whole.test) == 200
    assert {example.text for example in part.test} < {example.text for example in whole.test}
    assert 20 < len(part.test) < 60


HERE = ["BC4CHEMD", "Species-800", "i2b2-2010", "i2b2-2012", "i2b2-2014", "chemprot-cpr5", "i2b2-2010-RE", "mednli"]
BROUGHT = {*HERE, "bioasq7b", *(f"eu-adr-fold{number}" for number in range(2, 11))}


@needs_data
@pytest.mark.parametrize("group", list(groups()))
def test_real_data_have_the_sizes_of_table_1(group: str) -> None:
    read = 0
    for name, benchmark in benchmark_tasks([group]).items():
        try:
            data = read_task(benchmark, f"tasks.{name}")
        except MissingDataError:
            assert name in BROUGHT
            continue
        read += 1
        assert data.as_expected in (True, None), (name, data.notes)
        assert data.test, name
    assert read > 0
