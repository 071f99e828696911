"""The commands for those who come with a config or a catalog of other code; importing this adds them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ticklake.cli.upkeep import app

__all__ = ["app"]


@app.command(name="migrate-config")
def migrate_config(
    config: Annotated[Path, typer.Argument(help="A JSON config of such code.", show_default=False)],
) -> None:
    """Print the run config that an old JSON config amounts to; what has no equivalent is listed on stderr.

    Example: `ticklake migrate-config old.json > run.yaml`
    """
    import yaml

    from ticklake.cli.console import print_warning
    from ticklake.compat.configs import translate
    from ticklake.config import parse_config, read_values

    found = translate(read_values(config), buckets={})
    parse_config(found.values, source=str(config))
    typer.echo(yaml.safe_dump(found.values, sort_keys=False, allow_unicode=True), nl=False)
    for key in found.without_equivalent:
        print_warning(key, kind="no equivalent")
    for note in found.notes:
        print_warning(note, kind="note")
