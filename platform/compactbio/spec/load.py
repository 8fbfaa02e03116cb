"""From a YAML file to a checked spec, or to one message for each thing that is wrong with it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from compactbio.spec.base import Problem, Section, SpecError
from compactbio.spec.benchmarks import expand_tasks
from compactbio.spec.check import corpus_problems, problems
from compactbio.spec.job import CorpusJob, JobSpec
from compactbio.spec.secrets import password_problems

BASE, SCALE, SPACE = "base", "scale", "space"

SpecT = TypeVar("SpecT", bound=Section)
ReadT = TypeVar("ReadT")

_FLOAT = re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$")


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: `5e-4` is a number, and a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise SpecError([Problem("", "a key is text; is this an unfilled template?", line)])
            if key_node.value in seen:
                raise SpecError([Problem(str(key_node.value), "stands twice in the same section", line)])
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {  # a date is text
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def load(path: str | Path, overrides: list[str] | None = None) -> JobSpec:
    """The job that the file at `path` describes, with `a.b=c` overrides applied.

    Raises SpecError, which names file, line and dotted path of every problem.
    """
    return read(path, overrides, from_raw)


def load_corpus_job(path: str | Path, overrides: list[str] | None = None) -> CorpusJob:
    """As `load`, for a file that describes a token store."""
    return read(path, overrides, _corpus_from_raw)


def load_any(path: str | Path, overrides: list[str] | None = None) -> JobSpec | CorpusJob:
    """As `load`, for a file that describes whatever can be submitted."""
    return read(path, overrides, lambda raw, lines: _builder(raw)(raw, lines))


def load_values(values: dict[str, Any], overrides: list[str]) -> JobSpec:
    """The job that plain values describe, with `a.b=c` overrides applied; raises SpecError as `load`."""
    raw = json.loads(json.dumps(values))
    for override in overrides:
        _override(raw, override)
    return from_raw(raw)


def from_raw(raw: dict[str, Any], lines: dict[str, int] | None = None) -> JobSpec:
    """The job that plain values describe; `lines` maps dotted paths to lines of the file that they came from."""
    return validate(JobSpec, _with_benchmarks(raw, lines or {}), lines or {}, problems)


def _corpus_from_raw(raw: dict[str, Any], lines: dict[str, int]) -> CorpusJob:
    return validate(CorpusJob, raw, lines, corpus_problems)


def _builder(raw: dict[str, Any]) -> Callable[[dict[str, Any], dict[str, int]], JobSpec | CorpusJob]:
    """What makes a spec of these values: their kind shows in the sections that they have."""
    return _corpus_from_raw if "corpus" in raw and "stages" not in raw else from_raw


def read(
    path: str | Path,
    overrides: list[str] | None,
    build: Callable[[dict[str, Any], dict[str, int]], ReadT],
    *,
    on_base: bool = True,
) -> ReadT:
    """What `build` makes of the plain values of a file, and of the line of each dotted path in it.

    Without `on_base` a `base:` is a value like any other.
    """
    source = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecError([Problem("", f"cannot read the spec: {reason}")], source) from None
    try:
        raw, lines = _parse(text)
        if on_base and BASE in raw:
            raw, lines = _on_base(raw, lines, Path(path).parent)
        for override in overrides or []:
            _override(raw, override)
            changed = override.partition("=")[0]
            lines = {place: line for place, line in lines.items() if not f"{place}.".startswith(f"{changed}.")}
        return build(raw, lines)
    except SpecError as error:
        raise SpecError(error.problems, source) from None


def validate(
    kind: type[SpecT], raw: dict[str, Any], lines: dict[str, int], check: Callable[[SpecT], list[Problem]]
) -> SpecT:
    """The section of that kind that plain values describe. Raises SpecError with lines, also for what `check` finds."""
    try:
        spec = kind.model_validate_json(json.dumps(raw))  # JSON mode: strict types, yet a list is a tuple
    except ValidationError as error:
        raise SpecError([_problem(kind, raw, details, lines) for details in error.errors()]) from None
    if found := [*password_problems(spec), *check(spec)]:
        raise SpecError([Problem(p.path, p.message, _line(p.path, lines)) for p in found])
    return spec


def _with_benchmarks(raw: dict[str, Any], lines: dict[str, int]) -> dict[str, Any]:
    """The values with the tasks that benchmarks stand for in place of their names."""
    stages = raw.get("stages")
    if not isinstance(stages, dict):
        return raw
    expanded = {}
    for name, stage in stages.items():
        expanded[name] = stage
        if isinstance(stage, dict) and "tasks" in stage:
            try:
                expanded[name] = {**stage, "tasks": expand_tasks(stage["tasks"], f"stages.{name}.tasks")}
            except SpecError as error:
                raise SpecError([Problem(p.path, p.message, _line(p.path, lines)) for p in error.problems]) from None
    return {**raw, "stages": expanded}


def _parse(text: str) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        node = yaml.compose(text, Loader=_Loader)
        raw = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        raise SpecError([Problem("", f"not YAML: {what}", mark.line + 1 if mark else None)]) from None
    if not isinstance(raw, dict):
        raise SpecError([Problem("", "a spec is a mapping of sections; this file holds none")])
    lines: dict[str, int] = {}
    _record_lines(node, "", lines)
    try:
        separate = json.loads(json.dumps(raw))  # sections that share a YAML anchor are overridden one by one
    except (TypeError, ValueError) as error:
        raise SpecError([Problem("", f"a value is neither text nor a number: {error}")]) from None
    return separate, lines


def _record_lines(node: yaml.Node | None, prefix: str, lines: dict[str, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = f"{prefix}.{key.value}" if prefix else str(key.value)
            lines[path] = key.start_mark.line + 1
            _record_lines(value, path, lines)


def _on_base(raw: dict[str, Any], lines: dict[str, int], folder: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The values of a file that stands on another: that one's, with the entries of `scale` in their place.

    Other sections replace those of the base, and stages come before its stages.
    """
    reference, scale = raw[BASE], raw.get(SCALE)
    if not isinstance(reference, str) or not isinstance(scale, dict):
        raise SpecError.at(BASE, "a file with a `base: FILE` says under `scale:` what stands in for what in it")
    try:
        base, _ = _parse((folder / reference).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise SpecError([Problem(BASE, f"cannot read '{folder / reference}'", _line(BASE, lines))]) from None
    if BASE in base:
        raise SpecError([Problem(BASE, f"'{reference}' stands on a base itself; only one is allowed", lines[BASE])])
    own = {key: value for key, value in raw.items() if key not in (BASE, SCALE)}
    stages = [some.get("stages") or {} for some in (own, base)]
    if not all(isinstance(some, dict) for some in stages):
        raise SpecError([Problem("stages", "a mapping of names to stages", _line("stages", lines))])
    merged = {**base, **own, "stages": {**stages[0], **stages[1]}}
    told = {}
    for path, value in scale.items():
        before = put(merged, str(path).split("."), value)
        told[str(path)] = f"{json.dumps(value)} instead of {json.dumps(before)}"
    merged[SCALE] = told
    moved = {path.removeprefix(f"{SCALE}."): line for path, line in lines.items() if path.startswith(f"{SCALE}.")}
    return merged, {**lines, **moved}


def put(raw: dict[str, Any], keys: list[str], value: Any) -> Any:
    """Sets the value behind some keys, of which a number may be a place in a list. Returns what stood there."""
    path = ".".join(keys)
    *sections, key = keys
    here: Any = raw
    for section in sections:
        if isinstance(here, dict) and here.get(section) is None:
            here[section] = {}
        here = here[_place(here, section, path)]
        if not isinstance(here, dict | list):
            raise SpecError.at(path, f"'{section}' is a value, not a section")
    before = here.get(key) if isinstance(here, dict) else here[_place(here, key, path)]
    here[_place(here, key, path)] = value
    return before


def _place(here: Any, key: str, path: str) -> Any:
    """The key in a section, or the index in a list."""
    if isinstance(here, dict):
        return key
    if not key.isdigit() or int(key) >= len(here):
        raise SpecError.at(path, f"'{key}' is not one of the list's places, 0 to {len(here) - 1}")
    return int(key)


def _override(raw: dict[str, Any], override: str) -> None:
    """Sets one dotted path; the value is read as YAML."""
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise SpecError.at("--set", f"'{override}' is not of the form a.b=c")
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise SpecError.at(path, f"the value '{text}' is not YAML") from None
    section, _, rest = path.partition(".")
    put(raw, [section, rest] if section in (SCALE, SPACE) and rest else path.split("."), value)


def _problem(kind: type[Section], raw: Any, details: ErrorDetails, lines: dict[str, int]) -> Problem:
    path = _dotted(raw, details["loc"])
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "extra_forbidden":
        message = "unknown key" + _suggestion(kind, details["loc"])
    elif details["type"] == "missing":
        message = "missing"
    elif "input" in details and not isinstance(details["input"], dict):
        message += f" (it is {json.dumps(details['input'])})"
    return Problem(path, message, _line(path, lines))


def _dotted(raw: Any, location: tuple[int | str, ...]) -> str:
    """The path in the file: pydantic's location without the tags of unions that it puts in between."""
    parts: list[str] = []
    here = raw
    for index, part in enumerate(location):
        inside = isinstance(here, dict) and part in here
        if not inside and not isinstance(here, list) and index < len(location) - 1:
            continue
        parts.append(str(part))
        if inside or (isinstance(here, list) and isinstance(part, int)):
            here = here[part]
    return ".".join(parts)


def _suggestion(kind: type[Section], location: tuple[int | str, ...]) -> str:
    """The known keys beside an unknown one, the nearest first."""
    known = _known_keys(kind, location)
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known here: {', '.join(known)}" if known else ""


def _known_keys(kind: type[Section], location: tuple[int | str, ...]) -> list[str]:
    """Keys of the section that `location` lies in, read from the JSON schema."""
    schema = kind.model_json_schema(by_alias=True)
    here = schema
    for part in location[:-1]:
        here = _child(schema, here, str(part))
    return sorted(_deref(schema, here).get("properties", {}))


def _child(schema: dict[str, Any], node: dict[str, Any], part: str) -> dict[str, Any]:
    node = _deref(schema, node)
    if part in node.get("properties", {}):
        return dict(node["properties"][part])
    mapping = node.get("discriminator", {}).get("mapping", {})
    if part in mapping:
        return {"$ref": mapping[part]}
    extra = node.get("additionalProperties")
    return dict(extra) if isinstance(extra, dict) else {}


def _deref(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for option in node.get("anyOf", []):
        if "$ref" in option:
            node = option
    reference = node.get("$ref")
    return dict(schema["$defs"][reference.rsplit("/", 1)[1]]) if reference else node


def _line(path: str, lines: dict[str, int]) -> int | None:
    """The line of `path`, or of the section that it is missing in."""
    return lines.get(path) or lines.get(path.rpartition(".")[0])
