"""The tables of an error analysis."""

from __future__ import annotations

from compactbio.evaluation.errors import KINDS, ErrorAnalysis, Group, Mistake
from compactbio.reporting.grid import Grid


def error_tables(analysis: ErrorAnalysis, *, examples: int) -> list[Grid]:
    """Mistakes by kind, scores by type, length and seen or unseen mentions, and up to `examples` mistakes of each kind
    in their context, as they come in the test set."""
    return [
        _kinds(analysis),
        _scores("type", analysis.by_type),
        _scores("number of words", analysis.by_length),
        _scores(
            "mention",
            analysis.by_seen,
            "seen: the training set has the mention, in any case of letters, with this type",
        ),
        _examples(analysis, examples),
    ]


def _kinds(analysis: ErrorAnalysis) -> Grid:
    counts = analysis.counts()
    total = max(sum(counts.values()), 1)
    rows = tuple((kind, str(counts[kind]), f"{100 * counts[kind] / total:.1f} %") for kind in KINDS)
    return Grid(("mistake", "number", "share"), rows, caption="Mistakes by kind")


def _scores(name: str, groups: list[Group], note: str = "") -> Grid:
    rows = tuple(
        (
            group.name,
            str(group.gold),
            str(group.predicted),
            *(f"{group.score(score):.1f}" for score in ("precision", "recall", "f1")),
        )
        for group in groups
    )
    header = (name, "gold", "predicted", "precision, %", "recall, %", "F1, %")
    return Grid(header, rows, caption=f"Entities by {name}", notes=(note,) if note else ())


def _examples(analysis: ErrorAnalysis, number: int) -> Grid:
    chosen = [one for kind in KINDS for one in [two for two in analysis.mistakes if two.kind == kind][:number]]
    header = ("mistake", "gold", "predicted", "mention", "text", "in")
    rows = tuple(
        (one.kind, one.gold_type or "-", one.predicted_type or "-", _seen(one), _in_context(one), one.identity)
        for one in chosen
    )
    caption = f"Up to {number} mistakes of each kind, gold and predicted span together in [ ]"
    return Grid(header, rows, caption=caption, is_text=True)


def _in_context(mistake: Mistake) -> str:
    return f"{mistake.before} [{mistake.covered}] {mistake.after}".strip()


def _seen(mistake: Mistake) -> str:
    return "-" if mistake.seen is None else "seen" if mistake.seen else "unseen"
