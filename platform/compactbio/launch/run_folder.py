"""The folder of a run: made anew for every run, never written over."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import yaml

from compactbio.reporting.collect import SPEC_FILE
from compactbio.spec.base import SpecError
from compactbio.spec.job import JobSpec


def create_run_folder(spec: JobSpec) -> Path:
    """A new folder NAME-TIME-DIGEST under the spec's storage, with the resolved spec in it."""
    storage = Path(spec.storage).expanduser().resolve()
    stem = f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}-{spec.digest()[:6]}"
    for attempt in range(100):
        folder = storage / (stem if attempt == 0 else f"{stem}-{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise SpecError.at("storage", f"cannot make the folder {folder}: {error.strerror}") from None
        text = yaml.safe_dump(spec.resolved(), sort_keys=False, allow_unicode=True)
        (folder / SPEC_FILE).write_text(text, encoding="utf-8")
        return folder
    raise SpecError.at("storage", f"no free name for a run folder like {stem} in {storage}")


def git_sha() -> str:
    """The commit of the code that runs, `-dirty` behind it where files differ; `unknown` outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
