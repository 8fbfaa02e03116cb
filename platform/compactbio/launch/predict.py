"""`compactbio predict`: texts in, lines of entities, labels or answers out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from compactbio.models.load import quiet_transformers
from compactbio.spec.base import SpecError
from compactbio.training.predict import Prediction, load_predictor

STDIN = "-"


def predictions(model: str, text: str, *, question: str | None, online: bool) -> Iterator[str]:
    """The lines to print. Raises SpecError for a model or a text that cannot be used."""
    quiet_transformers()
    texts = read_texts(text)
    predict = load_predictor(model, question=question, online=online)
    for number, found in enumerate(predict(texts)):
        if len(texts) > 1:
            yield f"{'' if number == 0 else chr(10)}{texts[number]}"
        yield from (_line(one) for one in found) if found else ("nothing found",)


def read_texts(text: str) -> list[str]:
    """The text itself, or the lines of the file or of standard input that it names."""
    if text == STDIN:
        lines = sys.stdin.read()
    elif len(text) < 4096 and "\n" not in text and Path(text).is_file():
        try:
            lines = Path(text).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SpecError.at("TEXT", f"cannot read {text}: {reason}") from None
    elif text.endswith(".txt") or text.startswith(("/", "./", "../", "~")):
        raise SpecError.at("TEXT", f"there is no file '{text}'")
    else:
        lines = text
    texts = [line.strip() for line in lines.splitlines() if line.strip()]
    if not texts:
        raise SpecError.at("TEXT", "there is no text in it")
    return texts


def _line(found: Prediction) -> str:
    place = "" if found.start is None else f"\t{found.start}-{found.end}"
    return f"{found.probability:.3f}\t{found.label}" + (f"\t{found.text}" if found.text else "") + place
