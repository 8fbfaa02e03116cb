"""Plain text and JSON lines, as records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby

from compactbio.data.files import Part, open_bytes
from compactbio.data.records import Bad, Record, plain_document, too_long

_BYTES_A_CHAR = 4

Line = tuple[str, str | Bad]
"""A place in the file, and what stands there."""


def read_lines(part: Part, max_chars: int) -> Iterator[Record]:
    """One document a line; blank lines are none."""
    for place, line in _lines(part, max_chars):
        if line:
            yield line if isinstance(line, Bad) else plain_document(line, place, max_chars)


def read_blocks(part: Part, max_chars: int) -> Iterator[Record]:
    """Documents parted by blank lines. A block with a bad line is bad as a whole."""
    for some, block in groupby(_lines(part, max_chars), key=lambda item: item[1] != ""):
        if some:
            yield _block(block, max_chars)


def read_json_lines(part: Part, max_chars: int, field: str) -> Iterator[Record]:
    """One JSON object a line, the text under `field`; null is no text."""
    for place, line in _lines(part, max_chars):
        if line:
            yield line if isinstance(line, Bad) else _json_document(line, place, max_chars, field)


def _lines(part: Part, max_chars: int) -> Iterator[Line]:
    """The lines that begin in the part, stripped."""
    behind = f" after byte {part.start}" if part.start else ""
    for number, raw in enumerate(_raw_lines(part, max_chars * _BYTES_A_CHAR), start=1):
        place = f"line {number}{behind}"
        if isinstance(raw, int):
            yield place, Bad(place, too_long(raw, max_chars))
            continue
        try:
            yield place, raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            yield place, Bad(place, f"not UTF-8: {error.reason} at byte {error.start} of the line")


def _raw_lines(part: Part, max_bytes: int) -> Iterator[bytes | int]:
    """Lines with their ends; of one longer than `max_bytes`, which is never in memory, the number of bytes."""
    with open_bytes(part.path) as file:
        at = part.start
        if at:  # the line that reaches into the part belongs to the one before
            at -= 1
            file.seek(at)
            while at < (part.stop or at + 1) and (rest := file.readline(max_bytes)):
                at += len(rest)
                if rest.endswith(b"\n"):
                    break
        while part.stop is None or at < part.stop:
            line = file.readline(max_bytes)
            if not line:
                return
            length = len(line)
            whole = length < max_bytes or line.endswith(b"\n")
            while not whole and (rest := file.readline(max_bytes)):
                length += len(rest)
                if rest.endswith(b"\n"):
                    break
            at += length
            yield line if whole else length


def _block(block: Iterator[Line], max_chars: int) -> Record:
    kept: list[str] = []
    bad: Bad | None = None
    first, length = "", 0
    for place, line in block:  # to its end, whatever is in it
        first = first or place
        if isinstance(line, Bad):
            bad = bad or line
            continue
        length += len(line) + 1
        if length <= max_chars:
            kept.append(line)
    if length > max_chars:
        return bad or Bad(first, too_long(length, max_chars))
    return bad or plain_document("\n".join(kept), first, max_chars)


def _json_document(line: str, place: str, max_chars: int, field: str) -> Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Bad(place, f"not JSON: {error}")
    if not isinstance(value, dict) or field not in value:
        return Bad(place, f"no object with the key '{field}'")
    text = value[field]
    if text is not None and not isinstance(text, str):
        return Bad(place, f"'{field}' is no text")
    return plain_document(text or "", place, max_chars)
