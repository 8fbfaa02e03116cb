"""A real S3 server on a free port of this machine, moto's, whose buckets are in its memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3

BUCKET = "runs-of-tests"


class ObjectStore:
    """The server's address, what says so in an environment, and what lies in its bucket."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "s3.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": "a-key",
            "AWS_SECRET_ACCESS_KEY": "planted-secret-5d1c",
            "AWS_ENDPOINT_URL": self.address,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Starts a server with an empty bucket."""
        command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self._port)]
        with self._log.open("a") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **self.environment})
        for _ in range(480):
            with suppress(OSError), urllib.request.urlopen(f"{self.address}/moto-api/", timeout=5):
                break
            assert self._server.poll() is None, self._log.read_text()
            time.sleep(0.25)
        self._client().create_bucket(Bucket=BUCKET)

    def stop(self) -> None:
        """Ends the server, and with it what it holds."""
        self._server.kill()
        self._server.wait()

    def freeze(self, frozen: bool) -> None:
        """Lets nobody in, whatever their key, or everybody."""
        allowed = b"0" if frozen else b"inf"
        request = urllib.request.Request(f"{self.address}/moto-api/reset-auth", data=allowed, method="POST")
        request.add_header("Content-Type", "text/plain")
        urllib.request.urlopen(request, timeout=30).close()

    def names(self, prefix: str = "") -> list[str]:
        """The names of all objects under a prefix."""
        pages = self._client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", []) if not found["Key"].endswith("/")]

    def read(self, key: str) -> bytes:
        data: bytes = self._client().get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return data

    def _client(self):  # type: ignore[no-untyped-def]
        return boto3.client(
            "s3",
            endpoint_url=self.address,
            region_name="us-east-1",
            aws_access_key_id="a-key",
            aws_secret_access_key="planted-secret-5d1c",
        )


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    store = ObjectStore(folder)
    store.start()
    try:
        yield store
    finally:
        store.stop()
