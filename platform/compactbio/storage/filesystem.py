"""Object stores, opened with what the environment says about them."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

from compactbio.spec.base import SpecError
from compactbio.spec.storage import storage_problem

_CONNECT_SECONDS, _REQUEST_SECONDS, _ATTEMPTS = 10.0, 60.0, 3
_CODE = re.compile(r"AWS Error (\w+)")
_REFUSED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID")
_HOW = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and AWS_DEFAULT_REGION in the environment",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS in the environment",
}


@cache
def opened(url: str) -> tuple[Any, str]:
    """The pyarrow file system of an address, and the path in it. Raises OSError where it cannot be opened."""
    from pyarrow import fs

    parts = urlsplit(url)
    if parts.scheme == "file":
        return fs.LocalFileSystem(), unquote(parts.path)
    if parts.scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=_REQUEST_SECONDS)), f"{parts.netloc}{parts.path}"
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and _endpoint() is None:
        region = fs.resolve_s3_region(parts.netloc)
    system = fs.S3FileSystem(
        endpoint_override=_endpoint(),
        region=region,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )
    return system, f"{parts.netloc}{parts.path}"


def check_usable(url: str, field: str) -> None:
    """Raises SpecError under `field` where an address is malformed, nothing answers there, the credentials are not
    taken, or there is no such bucket."""
    if (problem := storage_problem(url)) is not None:
        raise SpecError.at(field, problem)
    from pyarrow.fs import FileSelector, FileType

    bucket = urlsplit(url).netloc
    try:
        system, path = opened(url)
        [found] = system.get_file_info([bucket])
        if found.type == FileType.NotFound:
            raise SpecError.at(field, f"there is no bucket '{bucket}'{_at()}; make it first, or name another one")
        system.get_file_info(FileSelector(path, allow_not_found=True))
    except OSError as error:
        raise SpecError.at(field, f"{url} cannot be used: {_advice(url, error)}") from None


def reason(error: OSError) -> str:
    """What the store said, without what only its makers need."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    text = re.sub(r" \(Request ID: .*?\)|; Details: .*", "", text).rstrip(". ")
    return re.sub(r".*AWS Error (\w+) during (\w+) operation(: )?", r"\1\3", text)


def _advice(url: str, error: OSError) -> str:
    how = _HOW[urlsplit(url).scheme]
    code = _CODE.search(str(error))
    if code is not None and code[1] in _REFUSED:
        return f"the credentials are not taken{_at()} ({reason(error)}); set {how}"
    if code is not None and code[1] == "NETWORK_CONNECTION":
        return f"nothing answers{_at()} ({reason(error)}); set {how}"
    return f"{reason(error)}; set {how}"


def _at() -> str:
    return f" at {_endpoint()}" if _endpoint() else ""


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
