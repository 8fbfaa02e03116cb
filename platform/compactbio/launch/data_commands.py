"""The command line's part about corpora: vocabularies and token stores."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click
from rich.console import Console

from compactbio.launch import environment
from compactbio.launch.options import data_option, overrides_option, spec_argument
from compactbio.spec.base import SpecError
from compactbio.spec.job import STORE_TOKENIZER
from compactbio.spec.load import load_corpus_job

_BAR = 40

_store = click.argument("store", type=click.Path(path_type=Path))


@click.group()
def data() -> None:
    """Make text into token stores, and look into them."""


@data.command()
@spec_argument
@overrides_option
@data_option
def build(spec: Path, overrides: tuple[str, ...]) -> None:
    """Build the token store that SPEC describes, or go on with a build that was stopped."""
    job = load_corpus_job(spec, list(overrides))
    environment.allow_downloads(job.online)
    from compactbio.launch.corpora import build_corpus

    store = build_corpus(job, Console(stderr=True))
    click.echo(describe_store(store))


@data.command()
@_store
def describe(store: Path) -> None:
    """Print what is in the token store STORE and where it came from."""
    click.echo(describe_store(store))


@data.command()
@_store
@click.option("--row", type=int, required=True, help="The row's number, counted from 0.")
@click.option("--split", type=click.Choice(["train", "held_out"]), default="train", show_default=True)
def show(store: Path, row: int, split: str) -> None:
    """Print a row of the token store STORE as text again."""
    import numpy as np

    from compactbio.data.store import TokenStore
    from compactbio.data.tokens import load_encoder

    opened = TokenStore(store)
    if not 0 <= row < opened.num_rows(split):
        raise SpecError.at("--row", f"{row} is not one of the {opened.num_rows(split):,} rows of {split}, from 0 on")
    [tokens] = opened.padded(np.array([row]), 0, split)
    encoder = load_encoder(str(store / STORE_TOKENIZER))
    click.echo(f"{len(tokens)} tokens\n{encoder.tokenizer.decode(tokens.tolist(), skip_special_tokens=False)}")


@click.command()
@spec_argument
@overrides_option
@data_option
@click.option("--algorithm", type=click.Choice(["bpe", "wordpiece"]), default="bpe", show_default=True)
@click.option("--size", type=click.IntRange(300, 250_000), default=50_000, show_default=True, help="Entries.")
@click.option("--lowercase", is_flag=True, help="Let upper and lower case be the same.")
def vocab(spec: Path, overrides: tuple[str, ...], algorithm: str, size: int, lowercase: bool) -> None:
    """Learn a vocabulary from the corpus of SPEC, into the new folder that it names as its tokenizer."""
    job = load_corpus_job(spec, list(overrides))
    environment.allow_downloads(job.online)
    from compactbio.data.vocabulary import Algorithm, learn_vocabulary

    [kind] = [known for known in get_args(Algorithm) if known == algorithm]
    assert job.corpus.tokenizer is not None
    folder = Path(job.corpus.tokenizer).expanduser()
    learnt = learn_vocabulary(job.corpus, folder, algorithm=kind, size=size, lowercase=lowercase, online=job.online)
    click.echo(f"{learnt:,} entries in {folder}")
    if learnt < size:
        click.echo(f"fewer than the {size:,} asked for: the text has no more", err=True)


def describe_store(path: Path) -> str:
    """The manifest of a token store, for people."""
    from compactbio.data.store import BAD_RECORDS, HISTOGRAM_BIN, SOURCES, SPLITS, read_manifest

    manifest = read_manifest(path)
    lines = [
        f"token store  {path}",
        f"fingerprint  {manifest.fingerprint}, rows {manifest.rows_sha256[:16]}, tokenizer "
        f"{manifest.tokenizer_fingerprint}, format {manifest.format_version}",
        f"sources      {', '.join(manifest.sources)}",
        f"             {manifest.num_files:,} files, {manifest.num_bytes / 1e6:,.1f} MB; listed in {SOURCES}",
        f"documents    {manifest.num_documents:,} read",
        f"bad records  {manifest.num_bad:,}" + (f"; listed in {path / BAD_RECORDS}" if manifest.num_bad else ""),
    ]
    lines += [f"dropped      {count:,} {reason}" for reason, count in manifest.dropped.items()]
    lines.append(
        f"rows         {manifest.segmentation}, at most {manifest.max_tokens} tokens; {manifest.num_cut:,} rows cut"
    )
    for split in SPLITS:
        lines.append(f"  {split:<9}  {manifest.num_rows[split]:,} rows, {manifest.num_tokens[split]:,} tokens")
    lines.append("length       rows")
    most = max(manifest.length_histogram)
    for number, count in enumerate(manifest.length_histogram):
        span = f"{number * HISTOGRAM_BIN + 1} to {(number + 1) * HISTOGRAM_BIN}"
        lines.append(f"  {span:>12} {count:>12,} {'#' * round(_BAR * count / most)}".rstrip())
    return "\n".join(lines)
