"""Building token stores on Ray."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from compactbio.data.build import build_store, in_turn
from compactbio.data.corpus import require_text
from compactbio.data.store import Manifest, read_manifest
from compactbio.launch import environment
from compactbio.launch.failures import failures
from compactbio.launch.progress import say
from compactbio.launch.ray_session import ray_session
from compactbio.launch.run_folder import check_lasts, new_storage
from compactbio.models.load import load_tokenizer, quiet_transformers
from compactbio.spec.base import SpecError
from compactbio.spec.corpus import Corpus
from compactbio.spec.job import CorpusJob, JobSpec
from compactbio.storage.copies import Storage
from compactbio.tracking import metrics
from compactbio.tracking.journal import Journal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def on_ray(function: Callable[[Any], Any], items: list[Any]) -> Iterator[Any]:
    """Calls the function with every item in tasks of Ray Data, one CPU each, and yields results as they come.

    A task whose worker or node dies is done again.
    """
    if len(items) <= 1:  # there is nothing to spread, and Ray Data takes seconds to start
        yield from in_turn(function, items)
        return
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray.data.DataContext.get_current().enable_progress_bars = False
    tasks = ray.put((function, items))

    def call(row: dict[str, Any]) -> dict[str, Any]:
        called, rows = ray.get(tasks)
        try:
            result = called(rows[row["id"]])
        except (SpecError, OSError) as error:  # Ray Data would hand on their text alone
            result = _Failed(error)
        return {"result": pickle.dumps(result)}

    for row in ray.data.range(len(items), override_num_blocks=len(items)).map(call).iter_rows():
        result = pickle.loads(row["result"])
        if isinstance(result, _Failed):
            raise result.error
        yield result


@dataclass(frozen=True)
class _Failed:
    error: Exception


def corpus_store(spec: JobSpec, journal: Journal, storage: Storage) -> tuple[Path, Manifest]:
    """The token store of a job: the one that it names, or its corpus made into one unless that is there."""
    if spec.store is not None:
        store = Path(spec.store).expanduser().resolve()
    else:
        assert spec.corpus is not None
        tokenizer = load_tokenizer(*spec.tokenizer_source(), online=spec.online)

        def report(done: int, total: int) -> None:
            journal.metrics({metrics.PIECES.name: float(done)}, done, num_steps=total)

        store = _kept_store(spec.corpus, tokenizer, storage, online=spec.online, report=report)
    return store, read_manifest(store)


def _kept_store(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    storage: Storage,
    *,
    online: bool,
    report: Callable[[int, int], None],
) -> Path:
    """The store of a corpus, built unless it is in the storage, and kept there."""
    store = build_store(
        corpus,
        tokenizer,
        storage.folder / "stores",
        online=online,
        spread=in_turn if storage.url is not None and _has_several_nodes() else on_ray,
        report=report,
        fetch=storage.fetch,
    )
    storage.push_whole(store)
    return store


def _has_several_nodes() -> bool:
    """Whether tasks may run where the pieces of others are not, unless nodes share a folder."""
    return sum(node["Alive"] for node in ray.nodes()) > 1


def build_corpus(spec: CorpusJob, console: Console) -> Path:
    """Builds the token store of a corpus job, unless it is there. Returns its folder.

    Raises SpecError for bad input and JobFailedError for what fails later; what is finished is kept.
    """
    env_vars = environment.for_workers(use_gpu=False, online=spec.online)
    quiet_transformers()
    if environment.is_submitted():
        check_lasts(spec.storage)
    require_text(spec.corpus, online=spec.online)
    assert spec.corpus.tokenizer is not None
    tokenizer = load_tokenizer(spec.corpus.tokenizer, "corpus.tokenizer", online=spec.online)
    storage = new_storage(spec.storage)
    with ray_session(spec.cluster, env_vars), failures("the build", None), _progress(console) as progress:
        bar = progress.add_task("pieces of the corpus", total=None)
        store = _kept_store(
            spec.corpus,
            tokenizer,
            storage,
            online=spec.online,
            report=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    if storage.url is not None:
        say(console, f"stored as {storage.address(store)}")
    return store


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
