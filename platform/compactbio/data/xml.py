"""What the readers of XML share: parsing one record at a time, and its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from lxml import etree

_CHUNK = 2**20

# Prefixes that records use and that their file's root may have declared.
_OPEN = b'<record xmlns:mml="http://www.w3.org/1998/Math/MathML" xmlns:xlink="http://www.w3.org/1999/xlink">'
_CLOSE = b"</record>"
_PARSER = etree.XMLParser(
    resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
)


def read_elements(file: BinaryIO, names: tuple[str, ...], max_bytes: int) -> Iterator[tuple[int, etree._Element | str]]:
    """The outermost elements of these names, each with its number from 1 on, or why it cannot be read.

    They are found by their tags alone, so that a malformed one costs only itself. One that is longer
    than about `max_bytes` is never in memory.
    """
    opening = re.compile(b"<(" + "|".join(names).encode() + rb")[\s/>]")
    reader = _Buffer(file)
    number = 0
    while reader.find(opening):
        number += 1
        record = reader.take(opening, max_bytes)
        try:
            yield number, _parse(record) if isinstance(record, bytes) else record
        except etree.XMLSyntaxError as error:
            yield number, f"malformed XML: {error.msg}"


class _Buffer:
    """A window on a file that moves forward."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes = b""
        self._at = 0

    def find(self, opening: re.Pattern[bytes]) -> bool:
        """Moves to the next opening tag; false where there is none."""
        while True:
            if found := opening.search(self._bytes, self._at):
                self._at = found.start()
                return True
            self._at = max(self._at, len(self._bytes) - 64)  # a tag may begin in what is there and end in what comes
            if not self._more():
                return False

    def take(self, opening: re.Pattern[bytes], max_bytes: int) -> bytes | str:
        """The element that begins here, and moves behind it, or a reason and moves to where the search goes on."""
        begun = opening.match(self._bytes, self._at)
        assert begun is not None
        name = begun[1]
        again, end = re.compile(b"<" + name + rb"[\s/>]"), b"</" + name + b">"
        looked = len(begun[0])  # from the record's start
        while True:
            stop = self._bytes.find(end, self._at + looked)
            nested = again.search(self._bytes, self._at + len(begun[0]), stop if stop >= 0 else len(self._bytes))
            if nested:
                self._at = nested.start()
                return f"<{name.decode()}> is not closed"
            if stop >= 0:
                record = self._bytes[self._at : stop + len(end)]
                self._at = stop + len(end)
                return record
            looked = max(looked, len(self._bytes) - self._at - len(end))
            if looked > max_bytes:
                self._at += looked
                return f"more than {max_bytes:,} bytes"
            if not self._more():
                self._at = len(self._bytes)
                return "the file ends in the middle of it"

    def _more(self) -> bool:
        chunk = self._file.read1(_CHUNK)  # type: ignore[attr-defined]  # what is there before any damage
        self._bytes = self._bytes[self._at :] + chunk
        self._at = 0
        return bool(chunk)


def _parse(record: bytes) -> etree._Element:
    return etree.fromstring(_OPEN + record + _CLOSE, _PARSER)[0]


def text_of(element: etree._Element, skip: frozenset[str] = frozenset()) -> str:
    """The text of an element and of everything in it, without the elements named in `skip`."""
    return "".join(_texts(element, skip))


def name_of(element: etree._Element) -> str:
    """The element's name without its namespace."""
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _texts(element: etree._Element, skip: frozenset[str]) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if name_of(child) not in skip and isinstance(child.tag, str):
            yield from _texts(child, skip)
        yield child.tail or ""
