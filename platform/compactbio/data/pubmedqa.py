"""PubMedQA: titles of papers that are questions, which the abstract answers with yes, no or maybe."""

from __future__ import annotations

from typing import Any

from compactbio.data.annotated import AnnotatedFile, notes_of
from compactbio.data.examples import ClassifiedText
from compactbio.data.sets import Sets
from compactbio.spec.references import locate_file
from compactbio.spec.text_tasks import ChoiceTask

ANSWERS = ("yes", "no", "maybe")


def read_choices(task: ChoiceTask) -> Sets[ClassifiedText]:
    """The question, and the abstract without its conclusion, which would tell the answer (Jin et al. 2019).

    Raises SpecError with the file, and the place in it.
    """
    files = {name: AnnotatedFile(locate_file(path, name)) for name, path in task.files()}
    questions = _questions(files["questions"])
    test = list(_mapping(files["test_ids"]))
    fold = _mapping(files["folds"]).get(str(task.fold))
    if not isinstance(fold, dict) or not all(isinstance(fold.get(name), list) for name in ("train", "dev")):
        files["folds"].refuse(None, "needs the lists `train` and `dev`", str(task.fold))
    chosen = {
        "train": _chosen(files["folds"], questions, fold["train"], f"{task.fold}.train"),
        "dev": _chosen(files["folds"], questions, fold["dev"], f"{task.fold}.dev"),
        "test": _chosen(files["test_ids"], questions, test, ""),
    }
    for identity in set(fold["train"] + fold["dev"]) & set(test):
        files["folds"].wrong(None, f"question {identity} is in the test set too", str(task.fold))
    for file in files.values():
        file.raise_problems()
    return Sets(chosen["train"], chosen["dev"], chosen["test"], list(ANSWERS), notes_of(files.values()))


def _mapping(file: AnnotatedFile) -> dict[str, Any]:
    value = file.json()
    if not isinstance(value, dict):
        file.refuse(1, "a JSON object is needed")
    return dict(value)


def _questions(file: AnnotatedFile) -> dict[str, ClassifiedText]:
    found = {}
    for identity, value in _mapping(file).items():
        question, contexts, answer = (
            (value.get("QUESTION"), value.get("CONTEXTS"), value.get("final_decision"))
            if isinstance(value, dict)
            else (None, None, None)
        )
        if not isinstance(question, str) or not isinstance(contexts, list):
            file.wrong(None, "needs QUESTION (text) and CONTEXTS (a list of texts)", identity)
        elif answer not in ANSWERS:
            file.wrong(None, f"final_decision '{answer}' is none of {', '.join(ANSWERS)}", identity)
        else:
            abstract = " ".join(str(context) for context in contexts)
            found[identity] = ClassifiedText(identity, question, abstract, ANSWERS.index(answer))
    file.raise_problems()
    return found


def _chosen(
    file: AnnotatedFile, questions: dict[str, ClassifiedText], identities: list[str], place: str
) -> list[ClassifiedText]:
    for identity in identities:
        if identity not in questions:
            file.wrong(None, f"there is no question {identity}", place)
    return [questions[identity] for identity in identities if identity in questions]
