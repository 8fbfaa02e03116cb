"""Arguments that several commands take."""

from __future__ import annotations

import os
from pathlib import Path

import click

from compactbio.spec.references import DATA_ROOT

spec_argument = click.argument("spec", type=click.Path(path_type=Path))
overrides_option = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a value of the spec."
)

storage_option = click.option(
    "--storage",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="The folder of the runs.",
)


def _set_data_root(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        os.environ[DATA_ROOT] = str(value.absolute())


data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    callback=_set_data_root,
    expose_value=False,
    help=f"The data root: relative files of the spec are looked for there too. Without it, ${DATA_ROOT}.",
)
