"""A table of texts, and how it is written in Markdown, LaTeX, CSV and HTML."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from html import escape

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{letter: "\\" + letter for letter in "&%$#_{}"},
    }
)


@dataclass(frozen=True)
class Grid:
    """Header and rows of cells, and the notes that belong below. Raises ValueError for ragged rows."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    notes: tuple[str, ...] = ()
    is_text: bool = False
    """Whether all cells are texts, which begin on the left; otherwise those of the first column."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"a row of {len(row)} cells under a header of {len(self.header)}: {row}")


def markdown(grid: Grid) -> str:
    """Aligned, so that it can be read as it is; notes as a list below."""
    header, *rows = [[cell.replace("|", r"\|") for cell in row] for row in (grid.header, *grid.rows)]
    widths = [max(len(line[column]) for line in [header, *rows]) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    body = [line(header), rule, *map(line, rows)]
    return "\n".join([*([grid.caption, ""] if grid.caption else []), *body, *_list(grid.notes)])


def latex(grid: Grid) -> str:
    """A `table` for the booktabs package; notes below the rules."""
    lines = [r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{grid.caption.translate(_LATEX)}}}"] if grid.caption else []
    lines += [
        rf"\begin{{tabular}}{{l{('l' if grid.is_text else 'r') * (len(grid.header) - 1)}}}",
        r"\toprule",
        _latex_row(grid.header),
        r"\midrule",
    ]
    lines += [*map(_latex_row, grid.rows), r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {note.translate(_LATEX)}" for note in grid.notes]
    return "\n".join([*lines, r"\end{table}"])


def comma_separated(grid: Grid) -> str:
    """RFC 4180. Notes are not part of it: a CSV file has rows of one form."""
    out = io.StringIO()
    csv.writer(out).writerows([grid.header, *grid.rows])
    return out.getvalue()


def html(grid: Grid) -> str:
    """A `table` element, and its notes as a list."""
    caption = f"<caption>{escape(grid.caption)}</caption>" if grid.caption else ""
    side = ' class="text"' if grid.is_text else ""
    head = "".join(f"<th{side}>{escape(cell)}</th>" for cell in grid.header)
    body = "\n".join("<tr>" + "".join(f"<td{side}>{escape(cell)}</td>" for cell in row) + "</tr>" for row in grid.rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in grid.notes)
    return f"<table>{caption}\n<tr>{head}</tr>\n{body}\n</table>" + (f"\n<ul>{notes}</ul>" if notes else "")


def _latex_row(cells: tuple[str, ...]) -> str:
    return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"


def _list(notes: tuple[str, ...]) -> list[str]:
    return ["", *(f"- {note}" for note in notes)] if notes else []
