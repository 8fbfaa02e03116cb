"""Arguments that several commands take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from compactbio.spec.base import SpecError
from compactbio.spec.references import DATA_ROOT
from compactbio.spec.storage import is_url

spec_argument = click.argument("spec", type=click.Path(path_type=Path))
overrides_option = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a value of the spec."
)


class _Folder(click.Path):
    """A folder, and no address."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_url(value):
            raise SpecError.at(
                "--storage",
                f"'{value}' is an address, and what this command reads is none of what lies there: set "
                "MLFLOW_TRACKING_URI to MLflow's server, or name the folder that the run said it works in, without its "
                "last part",
            )
        return super().convert(value, param, ctx)


storage_option = click.option(
    "--storage",
    type=_Folder(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="The folder of the runs.",
)


class ManyValues(click.Command):
    """A command whose options that may stand several times also take several values at once: `--tasks ner re`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's own, which takes one value behind each option."""
        many = {
            name
            for option in self.params
            if isinstance(option, click.Option) and option.multiple
            for name in option.opts
        }
        spread: list[str] = []
        current = None
        num_values = 0
        for word in args:
            if word.startswith("-"):
                current, num_values = word, 0
            elif current in many:
                spread += [current] if num_values else []
                num_values += 1
            spread.append(word)
        return super().parse_args(ctx, spread)


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
