"""The commands for those who come with a config or a catalog of other code; importing this adds them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ticklake.cli.app import JsonOption, QuietOption, one_of
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
    from ticklake.errors import ConfigError

    values = read_values(config)
    if "lake" in values:
        raise ConfigError(
            f"{config} is a run config already", hint=f"Run it as it is: `ticklake backtest {config}`."
        )
    found = translate(values, buckets={})
    parse_config(found.values, source=str(config))
    typer.echo(yaml.safe_dump(found.values, sort_keys=False, allow_unicode=True), nl=False)
    for key in found.without_equivalent:
        print_warning(key, kind="no equivalent")
    for note in found.notes:
        print_warning(note, kind="note")


@app.command(name="convert-catalog")
def convert_catalog(
    source: Annotated[Path, typer.Argument(help="Folder of the catalog.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="Folder of the new one.", show_default=False)],
    *,
    to: Annotated[
        str,
        typer.Option(
            help="v1 (NautilusTrader 1.231) or v2.", metavar="v1|v2", autocompletion=one_of("v1", "v2")
        ),
    ],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Convert a catalog of NautilusTrader 1.x into one of 2.x, or back. Exits 1 if a part was left out.

    Example: `ticklake convert-catalog old new --to v2`
    """
    from ticklake.cli.console import print_json, print_warning, stdout
    from ticklake.cli.progress import work
    from ticklake.display import counted
    from ticklake.errors import ConfigError
    from ticklake.v1 import convert_catalog as convert

    if to not in ("v1", "v2"):
        raise ConfigError(f"--to {to}: give v1 or v2")
    with work(f"converting {source}", enabled=not (quiet or as_json)):
        report = convert(source, target, to="v1" if to == "v1" else "v2")
    for text in report.left_out:
        print_warning(text, kind="left out")
    if as_json:
        print_json(report.to_dict())
    else:
        written = sum(file.written for file in report.files)
        stdout().print(f"{counted(len(report.files), 'file')} in {target}, {written} of them written now")
    if report.left_out:
        raise typer.Exit(1)
