"""Files of annotated text, whatever their format: opened, checked for damage, and complained of by line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from compactbio.data.files import DAMAGE, open_bytes
from compactbio.spec.base import Problem, SpecError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MOST_PROBLEMS = 20
_LONG_SENTENCE = 1000
"""Words; the longest sentence of the data sets that the catalogue names has 426."""

Json = dict[str, Any]


@dataclass
class AnnotatedFile:
    """A file that is being read: what is wrong with it, and what was found and is no error."""

    path: Path
    notes: list[str] = field(default_factory=list)
    _problems: list[Problem] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The lines without their ends. Raises SpecError where the file is empty, damaged, or not UTF-8.

        A byte-order mark is the signature that Unicode says it is, and a carriage return before a line feed is part of
        the line's end; both are noted.
        """
        content = self._content()
        if content.startswith(_BYTE_ORDER_MARK):
            content = content.removeprefix(_BYTE_ORDER_MARK)
            self.notes.append(f"{self.path}:1: begins with a byte-order mark, which is left out")
        try:
            lines = content.decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            number, begin = content.count(b"\n", 0, error.start) + 1, content.rfind(b"\n", 0, error.start) + 1
            self.refuse(number, f"not UTF-8: {error.reason} at byte {error.start - begin} of the line")
        if not lines[-1]:
            lines.pop()
        return self._without_carriage_returns(lines) if b"\r" in content else lines

    def json(self) -> Any:
        """The one JSON value that the file holds. Raises SpecError, with the line, where it holds none."""
        text = "\n".join(self.lines())
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            self.refuse(error.lineno, f"not JSON: {error.msg}")

    def json_lines(self) -> Iterator[tuple[int, Json]]:
        """The JSON objects of a file that has one a line, with the numbers of their lines; blank lines are none."""
        for number, line in enumerate(self.lines(), start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                self.wrong(number, f"not JSON: {error.msg}")
                continue
            if isinstance(value, dict):
                yield number, value
            else:
                self.wrong(number, "not a JSON object")

    def wrong(self, line: int | None, message: str, path: str = "") -> None:
        """Remembers a problem: at a line, or at a place inside a JSON file."""
        self._problems.append(Problem(path, message, line))

    def note_length(self, line: int, num_words: int) -> None:
        """Notes a sentence that is so long that something may be wrong with the file: it is kept as it is."""
        if num_words > _LONG_SENTENCE:
            self.notes.append(f"{self.path}:{line}: a sentence of {num_words:,} words; is an end of it missing?")

    def refuse(self, line: int | None, message: str, path: str = "") -> NoReturn:
        """Raises SpecError with this problem behind those that were found before."""
        self.wrong(line, message, path)
        raise self._error()

    def raise_problems(self) -> None:
        """Raises SpecError with the first problems and the number of the others, where there are any."""
        if self._problems:
            raise self._error()

    def _error(self) -> SpecError:
        told = self._problems[:_MOST_PROBLEMS]
        if rest := len(self._problems) - len(told):
            told.append(Problem("", f"and {rest:,} more problems"))
        return SpecError(told, str(self.path))

    def _content(self) -> bytes:
        try:
            with open_bytes(self.path) as file:
                content = file.read()
        except (*DAMAGE, OSError) as error:
            self.refuse(None, f"cannot be read: {error or type(error).__name__}")
        if not content.removeprefix(_BYTE_ORDER_MARK).strip():
            self.refuse(1, "the file is empty")
        return content

    def _without_carriage_returns(self, lines: list[str]) -> list[str]:
        windows = [number for number, line in enumerate(lines, start=1) if line.endswith("\r")]
        if windows:
            self.notes.append(f"{self.path}:{windows[0]}: Windows line ends ({len(windows):,} lines from here on)")
        lines = [line.removesuffix("\r") for line in lines]
        for number, line in enumerate(lines, start=1):
            if "\r" in line:
                self.wrong(number, "a carriage return inside the line")
        self.raise_problems()
        return lines


def notes_of(files: Iterable[AnnotatedFile]) -> tuple[str, ...]:
    """What was found in the files and is no error."""
    return tuple(note for file in files for note in file.notes)
