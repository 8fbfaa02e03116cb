"""Where runs are kept: a folder, or an address in an object store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

_FILE = "file://"
_STORES = ("s3", "gs")
_KEYS = "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION in the environment"


def is_url(storage: str) -> bool:
    """Whether it is the address of an object store, and no folder."""
    return "://" in storage and not storage.startswith(_FILE)


def local_folder(storage: str) -> Path:
    """The folder that a path or a `file://` address names."""
    path = unquote(urlsplit(storage).path) if storage.startswith(_FILE) else storage
    return Path(path).expanduser()


def storage_problem(storage: str) -> str | None:
    """What is wrong with where runs are to be kept, which the message does not repeat where it may hold a secret."""
    if "://" not in storage:
        return None
    parts = urlsplit(storage)
    if "@" in parts.netloc or parts.query or parts.fragment:
        return f"an address of a bucket takes neither keys nor options; {_KEYS}"
    if parts.scheme == "file":
        return f"'{storage}' names another machine; write file:///PATH" if parts.netloc else None
    if parts.scheme not in _STORES:
        return f"'{storage}' is nothing that runs are kept in: name a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
    if not parts.netloc:
        return f"'{storage}' names no bucket: s3://BUCKET/PREFIX"
    if any(part in ("", ".", "..") for part in parts.path.strip("/").split("/") if parts.path.strip("/")):
        return f"'{storage}' has an empty part, `.` or `..` in it"
    return None
