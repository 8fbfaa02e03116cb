from __future__ import annotations

import json
import lzma
import os
import re
import tarfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pubmed_files import HEAD, TAIL, article, deletion, write_file

from compactbio.data.corpus import records
from compactbio.data.files import Part, pieces
from compactbio.data.records import Bad, Deletion, Document, Record
from compactbio.spec import corpus as spec
from compactbio.spec.base import SpecError
from compactbio.spec.references import DATA_ROOT

DATA = os.environ.get("COMPACTBIO_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="COMPACTBIO_DATA does not name the folder of real data")


def read(source: spec.Source, **settings: int) -> list[Record]:
    corpus = spec.Corpus(sources=(source,), **settings)
    return [
        record for piece in pieces(corpus, online=False) for part in piece.parts for record in records(corpus, part)
    ]


def lines(path: Path, text: bytes, **settings: int) -> list[Record]:
    path.write_bytes(text)
    return read(spec.LinesSource(format="lines", files=str(path)), **settings)


def pubmed(path: Path, text: str, **options: bool) -> list[Record]:
    path.write_text(HEAD + text + TAIL)
    return read(spec.PubmedSource(format="pubmed", files=str(path), **options))


def texts(found: list[Record]) -> list[str]:
    return [record.text for record in found if isinstance(record, Document)]


def reasons(found: list[Record]) -> list[str]:
    return [f"{record.place}: {record.reason}" for record in found if isinstance(record, Bad)]


def test_lines(tmp_path: Path) -> None:
    found = lines(
        tmp_path / "a.txt",
        b"one  two\n\n \nthree\xff\nfour\r\n" + b"x" * 5000 + b"\n" + b"y" * 1001 + b"\nlast",
        max_document_chars=1000,
    )
    assert texts(found) == ["one two", "four", "last"]
    assert reasons(found) == [
        "line 4: not UTF-8: invalid start byte at byte 5 of the line",
        "line 6: 5,001 characters, more than 1,000 (corpus.max_document_chars)",
        "line 7: 1,001 characters, more than 1,000 (corpus.max_document_chars)",
    ]


def test_every_line_falls_into_one_range(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {number} {'x' * (number % 17)}\n" for number in range(200)))
    corpus = spec.Corpus(sources=(spec.LinesSource(format="lines", files=str(path)),))
    whole = texts(list(records(corpus, Part(0, str(path)))))
    size = path.stat().st_size
    for step in (1, 7, len("line 0 \n"), 100, 999, size):
        parts = [Part(0, str(path), start, min(start + step, size)) for start in range(0, size, step)]
        assert [text for part in parts for text in texts(list(records(corpus, part)))] == whole


def test_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\n\nTitle\nbody  one\n\n\nsecond\n \nbad \xff\nrest\n\nlast")
    found = read(spec.BlocksSource(format="blocks", files=str(path)))
    assert texts(found) == ["Title\nbody one", "second", "last"]
    assert reasons(found) == ["line 9: not UTF-8: invalid start byte at byte 4 of the line"]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"body": "one\ntwo"}, {"body": None}, {"text": "x"}, {"body": 3}]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n" + '{"body": "a \\ud800 b"}\n' + "[" * 100_000)
    found = read(spec.JsonLinesSource(format="jsonl", files=str(path), field="body"))
    assert texts(found) == ["one\ntwo", ""]
    assert [reason.split(":")[1].strip() for reason in reasons(found)] == [
        "no object with the key 'body'",
        "'body' is no text",
        "not JSON",
        "not Unicode",
        "not JSON",
    ]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": [f"text {number}" for number in range(10)] + [None]}), path, row_group_size=4)
    source = spec.ParquetSource(format="parquet", files=str(path), field="body")
    assert texts(read(source)) == [*(f"text {number}" for number in range(10)), ""]
    with pytest.raises(SpecError, match="has no column 'text'; it has: body"):
        read(spec.ParquetSource(format="parquet", files=str(path)))


def test_a_data_set_on_disk(tmp_path: Path) -> None:
    import datasets

    rows = [f"text {number}" for number in range(700)]
    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": rows})}).save_to_disk(tmp_path / "set")
    assert texts(read(spec.HuggingFaceSource(format="huggingface", dataset=str(tmp_path / "set")))) == rows
    with pytest.raises(SpecError, match="no data set"):
        read(spec.HuggingFaceSource(format="huggingface", dataset=str(tmp_path / "set"), split="test"))


def test_a_citation_is_its_title_and_abstract(tmp_path: Path) -> None:
    text = article(7, "[The heart.]", "One & two < three.", version=2).replace(
        "<AbstractText>",
        '<AbstractText Label="AIM">Why <i>so</i> <sup>2</sup>.</AbstractText><AbstractText Label="UNLABELLED">',
    )
    [found] = pubmed(tmp_path / "a.xml", text)
    assert found == Document("pmid:7", "The heart.\nAIM: Why so 2. One & two < three.", 2)
    [plain] = pubmed(tmp_path / "a.xml", text, section_labels=False)
    assert isinstance(plain, Document)
    assert "AIM" not in plain.text


def test_citations_may_stand_in_a_set_of_their_own(tmp_path: Path) -> None:
    wrapped = article(7, "The heart.", "Beats.")
    citation = wrapped[wrapped.index("<MedlineCitation") : wrapped.index("<PubmedData>")]
    path = tmp_path / "medline.xml"
    path.write_text(f"<MedlineCitationSet>\n{citation}{deletion([5])}</MedlineCitationSet>\n")
    found = read(spec.PubmedSource(format="pubmed", files=str(path)))
    assert found == [Document("pmid:7", "The heart.\nBeats.", 1), Deletion("pmid:5", 1)]


def test_a_title_alone_is_no_text_unless_wanted(tmp_path: Path) -> None:
    text = article(7, "The heart.", "")
    assert texts(pubmed(tmp_path / "a.xml", text)) == [""]
    assert texts(pubmed(tmp_path / "a.xml", text, require_abstract=False)) == ["The heart."]


def test_a_malformed_citation_costs_only_itself(tmp_path: Path) -> None:
    good = [article(number, "Title.", f"Abstract {number}.") for number in range(4)]
    unclosed = article(9, "Open.", "Never closed.").replace("</PubmedArticle>", "")
    undefined = article(8, "T.", "X").replace("X", "&nbsp;")
    found = pubmed(tmp_path / "a.xml", good[0] + unclosed + good[1] + undefined + good[2] + deletion([5, 6]) + good[3])
    assert [text[-2:] for text in texts(found)] == ["0.", "1.", "2.", "3."]
    assert [record for record in found if isinstance(record, Deletion)] == [
        Deletion("pmid:5", 1),
        Deletion("pmid:6", 1),
    ]
    first, second = reasons(found)
    assert first == "record 2: <PubmedArticle> is not closed"
    assert second.startswith("record 4: malformed XML: Entity 'nbsp' not defined")


def test_records_across_the_edges_of_what_is_read_at_once(tmp_path: Path) -> None:
    big = "word " * 60_000  # 300 kB each: a few make up more than one read
    found = pubmed(tmp_path / "a.xml", "".join(article(number, "T.", f"{big}{number}") for number in range(12)))
    assert [text.rsplit(" ", 1)[1] for text in texts(found)] == [str(number) for number in range(12)]


def test_an_abstract_of_ten_megabytes_is_a_bad_record(tmp_path: Path) -> None:
    text = article(1, "A.", "Small.") + article(2, "B.", "x" * 10_000_000) + article(3, "C.", "Small.")
    found = pubmed(tmp_path / "a.xml", text)
    assert texts(found) == ["A.\nSmall.", "C.\nSmall."]
    assert len(reasons(found)) == 1


def test_a_record_without_an_end_is_never_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    with path.open("w") as file:
        file.write(HEAD + "<PubmedArticle>")
        file.writelines("x" * 1_000_000 for _ in range(40))
        file.write(article(3, "C.", "Small.") + TAIL)
    tracemalloc.start()
    found = read(spec.PubmedSource(format="pubmed", files=str(path)), max_document_chars=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts(found) == ["C.\nSmall."]
    assert reasons(found) == ["record 1: more than 8,000 bytes"]
    assert peak < 8_000_000


def test_bytes_that_are_not_utf8_spoil_one_citation(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(
        (HEAD + article(1, "A.", "B.") + article(2, "C.", "?!?")).encode().replace(b"?!?", b"\xff") + TAIL.encode()
    )
    found = read(spec.PubmedSource(format="pubmed", files=str(path)))
    assert texts(found) == ["A.\nB."]
    assert len(reasons(found)) == 1


def test_what_stands_before_the_damage_of_a_packed_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.xml.gz"
    write_file(path, (article(number, "T.", f"Abstract {number}. {number * 7919}") for number in range(3000)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = read(spec.PubmedSource(format="pubmed", files=str(path)))
    kept = texts(found)
    assert 1400 < len(kept) < 1600
    assert all(f"Abstract {number}." in text for number, text in enumerate(kept))
    [reason] = reasons(found)
    assert reason.startswith("file: damaged, and what follows is lost: Compressed file ended")


JATS = """<article><front><article-meta><article-id pub-id-type="pmc">12</article-id><title-group><article-title>The
 <italic>heart</italic></article-title></title-group><abstract><p>Why.</p></abstract>
<abstract abstract-type="graphical"><p>Picture.</p></abstract></article-meta></front><body><sec><title>Methods</title>
<p>We did <inline-formula><mml:math><mml:mi>x</mml:mi></mml:math></inline-formula>this.</p>
<table-wrap><p>Cell</p></table-wrap>
<p>And<table-wrap><table><tr><td>5</td></tr></table></table-wrap> that.</p></sec></body>
<back><ref-list><p>Ref</p></ref-list></back>
</article>"""


def test_an_article_is_its_running_text(tmp_path: Path) -> None:
    (tmp_path / "a.nxml").write_text(JATS)
    (tmp_path / "b.nxml").write_text("<html/>")
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        for name in ("a.nxml", "b.nxml"):
            archive.add(tmp_path / name, name)
    expected = Document("pmc:12", "The heart\nWhy.\nWe did this.\nAnd that.")
    for files in ("*.nxml", "all.tar.gz"):
        found = read(spec.JatsSource(format="jats", files=str(tmp_path / files)))
        assert found == [expected, Bad("b.nxml", "no <article> in it")]


def test_an_article_may_have_a_namespace_and_no_number(tmp_path: Path) -> None:
    text = JATS.replace("<article>", '<article xmlns="https://jats.nlm.nih.gov/ns/archiving/1.3/">')
    (tmp_path / "a.xml").write_text(text.replace('<article-id pub-id-type="pmc">12</article-id>', ""))
    expected = "The heart\nWhy.\nWe did this.\nAnd that."
    found = read(spec.JatsSource(format="jats", files=str(tmp_path / "a.xml")))
    assert found == [Document(expected, expected)]


def test_a_file_without_a_citation_is_a_bad_record(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<html>Not found</html>")
    found = read(spec.PubmedSource(format="pubmed", files=str(tmp_path / "a.xml")))
    assert found == [Bad("file", "no citation in it")]


def test_a_damaged_archive_and_a_damaged_table_are_bad_records(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no archive" * 100)
    [archive] = read(spec.JatsSource(format="jats", files=str(tmp_path / "a.tar")))
    table = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {number}" for number in range(5000)]}), table, compression="none")
    whole = bytearray(table.read_bytes())
    whole[4:400] = b"\xff" * 396
    table.write_bytes(whole)
    found = read(spec.ParquetSource(format="parquet", files=str(table)))
    assert isinstance(archive, Bad) and isinstance(found[-1], Bad)
    assert "damaged" in archive.reason and "damaged" in found[-1].reason


def test_a_line_without_an_end_is_not_read_by_the_ranges_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 30_000_000)
    corpus = spec.Corpus(sources=(spec.LinesSource(format="lines", files=str(path)),), max_document_chars=1000)
    tracemalloc.start()
    assert list(records(corpus, Part(0, str(path), 8_000_000, 16_000_000))) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"corpus.sources.0.files: no file matches '.*\*.gz'"):
        read(spec.PubmedSource(format="pubmed", files=str(tmp_path / "*.gz")))


def test_relative_files_are_looked_for_in_the_data_root_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, root = tmp_path / "here", tmp_path / "root"
    for folder in (here, root):
        (folder / "text").mkdir(parents=True)
    (root / "text" / "a.txt").write_text("from the root\n")
    monkeypatch.chdir(here)
    monkeypatch.delenv(DATA_ROOT, raising=False)
    for files in ("text/a.txt", "text/*.txt"):
        with pytest.raises(SpecError, match="--data DIR names another place"):
            read(spec.LinesSource(format="lines", files=files))
    monkeypatch.setenv(DATA_ROOT, str(root))
    for files in ("text/a.txt", "text/*.txt"):
        [found] = read(spec.LinesSource(format="lines", files=files))
        assert isinstance(found, Document) and found.text == "from the root"
    (here / "text" / "a.txt").write_text("from here\n")
    [found] = read(spec.LinesSource(format="lines", files="text/*.txt"))
    assert isinstance(found, Document) and found.text == "from here"


@needs_data
def test_real_citations() -> None:
    found = read(spec.PubmedSource(format="pubmed", files=f"{DATA}/xml/pubmed/*", require_abstract=False))
    documents = [record for record in found if isinstance(record, Document)]
    assert not reasons(found)
    assert {record.identity for record in documents} >= {"pmid:12091962", "pmid:9997"}
    assert all(record.text and not re.search("</?[a-z]", record.text) for record in documents)


@needs_data
def test_real_articles_agree_with_text_that_was_taken_from_them_otherwise() -> None:
    found = read(spec.JatsSource(format="jats", files=f"{DATA}/xml/pmc_jats/*"))
    assert not reasons(found)
    assert len(found) == 40
    given = lzma.decompress(Path(f"{DATA}/text/pmc_rct_ccby.txt.xz").read_bytes()).decode()
    paragraphs = [line for record in found if isinstance(record, Document) for line in record.text.split("\n")]
    long = [line for line in paragraphs if len(line) > 200]
    starts = {line[:100] for line in given.split("\n")}
    assert sum(line[:100] in starts for line in long) / len(long) > 0.9
