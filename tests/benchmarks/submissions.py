"""Submits many jobs to one head at once, and counts what becomes of them: `python tests/benchmarks/submissions.py [N]`.

N (50) corpora are to be built, each with other settings; the head has memory for four drivers. Every fifth is submitted
twice, which has to be refused.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

sys.path[:0] = [str(Path(__file__).parents[1])]

from cluster_head import Head  # noqa: E402
from conftest import make_tiny_corpus, make_tiny_model  # noqa: E402

GIB = 1024**3


def main(number: int) -> None:
    folder = Path(tempfile.mkdtemp())
    head = Head(folder, f"--memory={4 * GIB}")
    os.environ.update(head.environment)  # before Ray is imported
    model, corpus = make_tiny_model(folder / "model"), make_tiny_corpus(folder / "corpus.txt")
    print(head.start(), flush=True)
    try:
        _submit_all(head, model, corpus, number)
    finally:
        head.close()


def _submit_all(head: Head, model: Path, corpus: Path, number: int) -> None:
    from compactbio.launch import submission
    from compactbio.launch.shipping import packed
    from compactbio.spec.base import SpecError
    from compactbio.spec.load import load_any

    client = submission.connect(head.url)
    sent, refused, started = [], Counter[str](), time.monotonic()
    for index in range(number):
        sources = [{"format": "lines", "files": str(corpus)}]
        section = {"sources": sources, "tokenizer": str(model), "max_tokens": 10 + index, "held_out": 0.1}
        path = head.folder / f"corpus-{index}.yaml"
        spec = {"name": f"corpus-{index}", "corpus": section, "storage": str(head.folder / "stores")}
        path.write_text(yaml.safe_dump(spec))
        loaded = load_any(path)
        for _ in range(2 if index % 5 == 0 else 1):
            with packed(loaded, None) as shipment:
                try:
                    sent.append(submission.submit(client, submission.order_of(loaded, None), shipment, again=False))
                except SpecError as error:
                    refused[str(error).split(" as ")[0]] += 1
    print(f"{len(sent)} taken and {dict(refused)} in {time.monotonic() - started:.1f} s", flush=True)
    most = 0
    while True:
        states = Counter(submission.find(client, job_id).status.value for job_id in sent)
        most = max(most, states["RUNNING"])
        if not states["RUNNING"] and not states["PENDING"]:
            break
        print(f"{time.monotonic() - started:6.0f} s  {dict(states)}", flush=True)
        time.sleep(20)
    stores = len(list((head.folder / "stores" / "stores").glob("*/manifest.json")))
    took = time.monotonic() - started
    print(f"{dict(states)}, {stores} stores, at most {most} at once, {took:.0f} s in all", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
