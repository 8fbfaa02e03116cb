"""Parquet tables and data sets of Hugging Face `datasets`, as records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from compactbio.data.files import Part
from compactbio.data.records import Bad, Record, plain_document
from compactbio.spec.base import SpecError
from compactbio.spec.corpus import HuggingFaceSource

_ROWS_A_BATCH = 256


def read_parquet(part: Part, max_chars: int, field: str) -> Iterator[Record]:
    """The column `field` of the part's row groups."""
    file = pq.ParquetFile(part.path)
    if field not in file.schema_arrow.names:
        names = ", ".join(file.schema_arrow.names)
        raise SpecError.at("corpus.sources", f"{part.path} has no column '{field}'; it has: {names}")
    groups = range(part.start, min(part.stop or 0, file.num_row_groups))
    row = 0
    for batch in file.iter_batches(_ROWS_A_BATCH, row_groups=list(groups), columns=[field]):
        for value in batch.column(0):
            yield _document(f"row {row} of row group {part.start}", value, max_chars)
            row += 1


def read_data_set(part: Part, max_chars: int, source: HuggingFaceSource) -> Iterator[Record]:
    """The column `field` of the part's rows."""
    here = source.model_copy(update={"dataset": part.path})
    rows = load_rows(here, online=False).with_format("arrow")  # a hub name was downloaded when the work was cut
    stop = part.stop or 0
    for start in range(part.start, stop, _ROWS_A_BATCH):
        table = rows[start : min(start + _ROWS_A_BATCH, stop)]
        for offset, value in enumerate(table.column(source.field)):
            yield _document(f"row {start + offset}", value, max_chars)


def data_set_place(source: HuggingFaceSource) -> str:
    """The folder of a data set on disk, whole, for workers in other folders; otherwise its hub name."""
    path = Path(source.dataset).expanduser()
    return str(path.resolve()) if path.is_dir() else source.dataset


def load_rows(source: HuggingFaceSource, *, online: bool) -> Any:
    """The split, memory-mapped. Raises SpecError where there is none."""
    import datasets
    import datasets.exceptions

    field = "corpus.sources"
    try:
        if Path(source.dataset).expanduser().is_dir():
            loaded = datasets.load_from_disk(str(Path(source.dataset).expanduser()))
            found = loaded[source.split] if isinstance(loaded, datasets.DatasetDict) else loaded
        else:
            mode = None if online else datasets.DownloadConfig(local_files_only=True)
            found = datasets.load_dataset(
                source.dataset, source.configuration, split=source.split, download_config=mode
            )
    except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        advice = "" if online else "; to download it set online: true"
        raise SpecError.at(field, f"no data set '{source.dataset}' ({source.split}): {reason}{advice}") from None
    if source.field not in found.column_names:
        names = ", ".join(found.column_names)
        raise SpecError.at(field, f"'{source.dataset}' has no column '{source.field}'; it has: {names}")
    return found


def _document(place: str, value: Any, max_chars: int) -> Record:
    try:
        text = value.as_py()
    except UnicodeDecodeError as error:
        return Bad(place, f"not UTF-8: {error.reason}")
    if text is not None and not isinstance(text, str):
        return Bad(place, "no text in it")
    return plain_document(text or "", place, max_chars)
