"""Passwords in addresses: refused in specs, which are copied far and wide, and never shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from compactbio.spec.base import Problem, Section

_PASSWORD = re.compile(r"(?<=://)[^/@\s\"']*:[^/@\s\"']*@")


def without_password(text: str) -> str:
    """The text with `***` in place of user and password in every address like `scheme://user:password@host`."""
    return _PASSWORD.sub("***@", text)


def password_problems(spec: Section) -> Iterator[Problem]:
    """The fields that hold an address with a password."""
    for path, value in spec.flat().items():
        if _PASSWORD.search(json.dumps(value)):
            yield Problem(
                path,
                "an address with a password in it, and specs are copied to many places; leave it out, and "
                "set in the environment what needs it (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_URI as a whole; PGPASSWORD for the study of a sweep; AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY for a bucket)",
            )
