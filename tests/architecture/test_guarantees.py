"""The tests that the table of guarantees names are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
NAMED = re.compile(r"`([a-z_/]+\.py)::(test_\w+)`")


def test_every_guarantee_has_a_test() -> None:
    text = (TESTS / "README.md").read_text()
    rows = [line for line in text.partition("## Guarantees")[2].splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not re.fullmatch(r"\| (fault|guarantee|contract) \| test \|", row)]
    assert len(rows) > 50
    assert [row for row in rows if not NAMED.search(row)] == []
    gone = [
        f"{file}::{name}"
        for file, name in NAMED.findall(text)
        if not re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.MULTILINE)
    ]
    assert gone == []
