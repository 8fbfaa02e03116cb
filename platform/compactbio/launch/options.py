"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path

import click

spec_argument = click.argument("spec", type=click.Path(path_type=Path))
overrides_option = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a value of the spec."
)
