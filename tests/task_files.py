"""Small tasks on files in the formats of the benchmarks, which a model can learn in a few steps."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from conftest import WORDS

ENTITIES = ("heart", "hand", "foot")
_OTHERS = [word for word in WORDS if word not in ENTITIES]


def make_ner(folder: Path, num: int = 48) -> dict[str, Any]:
    """Sentences in which the names of body parts, with `weak` before them or not, are entities."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(1)
    for name in ("train", "dev", "test"):
        sentences = []
        for _ in range(num):
            lines = []
            for word in draw.choices([*_OTHERS, *ENTITIES * 4], k=draw.randint(3, 12)):
                lines.append(f"{word}\t{'B-Part' if word in ENTITIES else 'O'}")
            sentences.append("\n".join(lines) + "\n")
        (folder / f"{name}.tsv").write_text("\n".join(sentences))
    return {"kind": "ner", **{name: str(folder / f"{name}.tsv") for name in ("train", "dev", "test")}}


def make_relations(folder: Path, num: int = 48) -> dict[str, Any]:
    """Texts about hearts or about feet."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(2)
    for name in ("train", "dev", "test"):
        lines = []
        for number in range(num):
            label = ("heart", "foot")[number % 2]
            words = [*draw.choices(_OTHERS, k=draw.randint(2, 8)), *[label] * 3]
            draw.shuffle(words)
            lines.append(json.dumps({"text": f"{' '.join(words)} {'a ' * number}", "label": label.upper()}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    files = {name: str(folder / f"{name}.jsonl") for name in ("train", "dev", "test")}
    return {"kind": "relations", "name": "parts", "labels": ["HEART", "FOOT"], "score": "macro_f1", **files}


def make_pairs(folder: Path, num: int = 48) -> dict[str, Any]:
    """Pairs of texts about the same part, or about two."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(5)
    for name in ("train", "dev", "test"):
        lines = []
        for _ in range(num):
            one, other = draw.choices(ENTITIES, k=2)
            label = "entailment" if one == other else "contradiction"
            pair = {"sentence1": f"the {one} was weak", "sentence2": f"a {other}", "gold_label": label}
            lines.append(json.dumps(pair))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return {"kind": "pairs", **{name: str(folder / f"{name}.jsonl") for name in ("train", "dev", "test")}}


def make_questions(folder: Path, num: int = 12) -> dict[str, Any]:
    """Questions in SQuAD's form; the answer is the body part in the text."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(3)
    for name in ("train", "dev", "test"):
        articles = []
        for number in range(num):
            part = ENTITIES[number % 3]
            words = draw.choices(_OTHERS, k=30)
            words.insert(draw.randrange(30), part)
            context = " ".join(words)
            answer = {"text": part, "answer_start": context.index(part)}
            asked = {"id": f"{name}{number}", "question": "a part in pain", "answers": [answer]}
            articles.append({"title": str(number), "paragraphs": [{"context": context, "qas": [asked]}]})
        (folder / f"{name}.json").write_text(json.dumps({"version": "1", "data": articles}))
    files = {name: str(folder / f"{name}.json") for name in ("train", "dev", "test")}
    return {"kind": "questions", "format": "squad", **files}


def make_labels(folder: Path, num: int = 48) -> dict[str, Any]:
    """Sentences with the body parts in them as their labels; two sentences an abstract."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(4)
    (folder / "labels.txt").write_text("\n".join(ENTITIES) + "\n")
    for name in ("train", "dev", "test"):
        lines = ["id\tlabels\tsentence"]
        for number in range(num):
            words = draw.choices([*_OTHERS, *ENTITIES], k=8)
            labels = ",".join(str(index) for index, part in enumerate(ENTITIES) if part in words)
            lines.append(f"{name}{number // 2}_s{number % 2}\t{labels}\t{' '.join(words)}")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    files = {name: str(folder / f"{name}.tsv") for name in ("train", "dev", "test")}
    return {"kind": "labels", "names": str(folder / "labels.txt"), "unit": "abstract", **files}
