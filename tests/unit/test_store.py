from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pubmed_files import article, deletion, write_file
from transformers import PreTrainedTokenizerBase

from compactbio.data import files
from compactbio.data.build import Spread, build_store, in_turn
from compactbio.data.store import TokenStore, read_manifest
from compactbio.data.tokens import load_encoder
from compactbio.models.load import load_tokenizer
from compactbio.spec.base import SpecError
from compactbio.spec.corpus import BlocksSource, Corpus, LinesSource, PubmedSource


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(tiny_model), "teacher", online=False)


def lines(path: Path, texts: list[str]) -> LinesSource:
    path.write_text("\n".join(texts) + "\n")
    return LinesSource(format="lines", files=str(path))


def rows(store: Path, split: str = "train") -> list[str]:
    opened = TokenStore(store)
    encoder = load_encoder(str(store / "tokenizer"))
    numbers = np.arange(opened.num_rows(split))
    return [
        encoder.tokenizer.decode(opened.padded(numbers[at : at + 1], 0, split)[0].tolist(), skip_special_tokens=False)
        for at in numbers
    ]


@pytest.fixture
def pubmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """Two baseline files and an update, each a piece: 60 citations, of which some change, go, or stand twice."""
    monkeypatch.setattr(files, "_PIECE_BYTES", 1)

    def words(number: int) -> str:
        return " ".join(["pain in the heart", *("hand" if bit == "1" else "foot" for bit in f"{number:07b}")])

    first = [article(number, "The heart.", words(number)) for number in range(30)]
    second = [article(number, "The heart.", words(number)) for number in range(30, 59)]
    write_file(tmp_path / "pubmed25n0001.xml.gz", [*first, article(100, "The heart.", "")])
    write_file(tmp_path / "pubmed25n0002.xml.gz", [*second, "<PubmedArticle>\n<broken\n</PubmedArticle>\n"])
    update = [article(3, "The heart.", words(103)), article(90, "The heart.", words(7)), deletion([40, 41, 999])]
    write_file(tmp_path / "pubmed25n0003.xml.gz", [*update, article(41, "The heart.", words(41))])
    source = PubmedSource(format="pubmed", files=str(tmp_path / "*.xml.gz"))
    return Corpus(sources=(source,), max_tokens=32, held_out=0.2, min_tokens=4)


def test_every_document_is_in_the_rows_or_accounted_for(
    pubmed: Corpus, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    store = build_store(pubmed, tokenizer, tmp_path / "stores")
    manifest = read_manifest(store)
    assert manifest.dropped == {"superseded": 1, "deleted": 2, "duplicate": 1, "empty": 1}
    assert manifest.num_documents == 63
    assert sum(manifest.num_rows.values()) == 63 - 5
    assert sum(manifest.length_histogram) == 58
    texts = rows(store) + rows(store, "held_out")
    assert len(set(texts)) == 58
    [bad] = map(json.loads, (store / "bad_records.jsonl").read_text().splitlines())
    assert bad["file"].endswith("pubmed25n0002.xml.gz")
    assert bad["place"] == "record 30"
    assert [json.loads(line)["path"][-7:] for line in (store / "sources.jsonl").open()] == [".xml.gz"] * 3


def test_a_build_that_was_stopped_goes_on_and_gives_the_same_store(
    pubmed: Corpus, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    whole = read_manifest(build_store(pubmed, tokenizer, tmp_path / "stores"))
    for calls in range(8):  # three pieces, a range of identities, one of texts, three shards
        folder = tmp_path / f"stores {calls}"
        with pytest.raises(KeyboardInterrupt):
            build_store(pubmed, tokenizer, folder, spread=stopping_after(calls))
        assert not [path for path in folder.iterdir() if not path.name.startswith(".")]
        assert len(list(folder.rglob("piece.json"))) == min(calls + 1, 3)
        again = build_store(pubmed, tokenizer, folder)
        assert read_manifest(again) == whole
        assert [path.name for path in folder.iterdir()] == [again.name]


def stopping_after(calls: int) -> Spread:
    done: list[object] = []

    def spread(function: Callable[[object], object], items: list[object]) -> Iterator[object]:
        for result in in_turn(function, items):
            done.append(result)
            if len(done) > calls:
                raise KeyboardInterrupt
            yield result

    return spread


def test_finished_pieces_are_not_read_again(pubmed: Corpus, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    strict = pubmed.model_copy(update={"max_bad_records": 0})
    with pytest.raises(SpecError, match=r"max_bad_records: more than 0 bad records; the last is .*n0002.*record 30"):
        build_store(strict, tokenizer, tmp_path / "stores")
    reports: list[tuple[int, int]] = []
    for _ in range(4):  # whatever is finished by now
        with pytest.raises(SpecError, match="more than 0 bad records"):
            build_store(strict, tokenizer, tmp_path / "stores")
    build_store(pubmed, tokenizer, tmp_path / "stores", report=lambda done, total: reports.append((done, total)))
    assert reports[0][0] > 0


def test_another_process_that_builds_the_same_store_is_told(
    pubmed: Corpus, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    def meanwhile(function: Callable[[object], object], items: list[object]) -> Iterator[object]:
        with pytest.raises(SpecError, match="another process is building"):
            build_store(pubmed, tokenizer, tmp_path / "stores")
        return in_turn(function, items)

    build_store(pubmed, tokenizer, tmp_path / "stores", spread=meanwhile)


def test_the_fingerprint_tells_corpora_and_cuts_apart(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    source = lines(tmp_path / "a.txt", [f"the heart was weak {'of pain ' * number}" for number in range(30)])
    corpus = Corpus(sources=(source,), max_tokens=16)
    first = build_store(corpus, tokenizer, tmp_path)
    assert build_store(corpus.model_copy(update={"max_bad_records": 5}), tokenizer, tmp_path) == first
    others = [
        build_store(corpus.model_copy(update={"max_tokens": 17}), tokenizer, tmp_path),
        build_store(corpus.model_copy(update={"segmentation": "pack"}), tokenizer, tmp_path),
    ]
    lines(tmp_path / "a.txt", [f"the heart was weak {'of pain ' * number}" for number in range(31)])
    others.append(build_store(corpus, tokenizer, tmp_path))
    assert len({first, *others}) == 4


def test_packed_rows_hold_full_sentences_and_every_token(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    documents = [
        "\n".join(f"{'A weak heart was in pain. ' * (number % 4 + 1)}" for number in range(start, start + 3))
        for start in range(20)
    ]
    documents.append("heart " * 100 + "pain.")  # one sentence that is longer than a row
    (tmp_path / "a.txt").write_text("\n\n".join(dict.fromkeys(documents)))
    source = BlocksSource(format="blocks", files=str(tmp_path / "a.txt"))
    corpus = Corpus(sources=(source,), segmentation="pack", max_tokens=40, held_out=0.0, min_tokens=1)
    store = build_store(corpus, tokenizer, tmp_path / "stores")
    packed = rows(store)
    sentence = "a weak heart was in pain."
    kept = dict.fromkeys(documents)
    assert sum(row.count(sentence) for row in packed) == sum(text.lower().count(sentence) for text in kept)
    assert sum(row.count("heart heart") for row in packed) > 0
    lengths = TokenStore(store).lengths(np.arange(len(packed)))
    assert lengths.max() <= 40
    assert read_manifest(store).num_cut == 3  # 103 tokens of one sentence over rows of 38
    separators = [
        int((TokenStore(store).padded(np.array([at]), 0)[0] == tokenizer.sep_token_id).sum())
        for at in range(len(packed))
    ]
    assert max(separators) > 1  # a row that holds the border of two documents
    assert sum(lengths) / len(lengths) > 25


def test_a_damaged_store_is_refused(pubmed: Corpus, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    store = build_store(pubmed, tokenizer, tmp_path / "stores")
    manifest = read_manifest(store)
    file = next(store.glob("train-*.arrow"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SpecError, match="is damaged"):
        TokenStore(store)
    file.write_bytes(whole)
    changed = replace(manifest, num_rows={**manifest.num_rows, "train": 7})
    (store / "manifest.json").write_text(json.dumps(vars(changed)))
    with pytest.raises(SpecError, match="rows in train, the manifest says 7"):
        TokenStore(store)
    (store / "manifest.json").unlink()
    with pytest.raises(SpecError, match="is no token store"):
        TokenStore(store)


def test_a_corpus_without_rows_says_where_its_documents_went(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    corpus = Corpus(sources=(lines(tmp_path / "a.txt", ["pain", "pain"]),), min_tokens=9)
    with pytest.raises(SpecError, match=r"of 2 documents \(1 duplicate, 1 short\); min_tokens is 9"):
        build_store(corpus, tokenizer, tmp_path / "stores")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mounted], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", mounted], check=True)


def test_a_full_disk_is_an_error_that_leaves_the_stores_alone(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, small_disk: Path
) -> None:
    small = Corpus(sources=(lines(tmp_path / "a.txt", [f"the heart of a patient {number}" for number in range(50)]),))
    store = build_store(small, tokenizer, small_disk)
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    texts = [f"the heart of a patient {number} was weak with pain" for number in range(200_000)]
    large = small.model_copy(update={"sources": (lines(tmp_path / "b.txt", texts),)})
    with pytest.raises(OSError, match="No space left on device"):
        build_store(large, tokenizer, small_disk)
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before
    assert [path.name for path in small_disk.iterdir() if not path.name.startswith(".")] == [store.name]
    assert os.statvfs(small_disk).f_bavail > 0  # what was half-written is gone
