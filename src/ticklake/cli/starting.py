"""The command that writes a first run config; importing this adds it to the app, and makes that whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.models import CommandInfo

from ticklake.cli.app import LayoutOption, QuietOption, StorageOption
from ticklake.cli.helping import Command
from ticklake.cli.results import app

__all__ = ["app"]


@app.command()
def init(
    url: Annotated[str, typer.Argument(help="URL of the bucket (or folder) with the ticks.")],
    file: Annotated[Path, typer.Argument(help="The run config to write.")] = Path("run.yaml"),
    *,
    instruments: Annotated[
        str | None,
        typer.Option(
            help="URL of the bucket with the instrument lists; else they are looked for beside the ticks.",
            metavar="URL",
        ),
    ] = None,
    layout: LayoutOption = None,
    storage: StorageOption = None,
    quiet: QuietOption = False,
) -> None:
    """Look at what is in a lake, and write a commented run config for it that runs as it is.

    It names an instrument of one of the newest days, five minutes that have data, and an example strategy,
    which is copied beside it. What is there already is not replaced. The lake must be one that can be listed.

    Example: `ticklake init gs://market-data-tick-cefi run.yaml`
    """
    from ticklake.cli.console import print_warning
    from ticklake.cli.options import storage_config, storage_from
    from ticklake.cli.progress import work
    from ticklake.cli.render import print_proposal
    from ticklake.cli.template import check_free, config_text, copy_strategy, write_new
    from ticklake.fetching.proposal import propose

    check_free(file)
    with work(f"looking at {url}", enabled=not quiet):
        found = propose(url, instruments, layout=layout, storage=storage_config(storage))
    strategy = copy_strategy(file.parent)
    write_new(file, config_text(found, url, storage_from(storage), file=file, strategy=strategy))
    print_proposal(found, url, file)
    for doubt in found.doubts:
        print_warning(doubt, kind="to do")
    if strategy is None:
        print_warning("strategies: name one of your own; the examples are in a checkout only", kind="to do")


# As the README has them: what one begins with and does every day comes first.
_ORDER = (
    *("init", "backtest", "fetch", "runs", "report", "compare", "coverage", "verify", "prune", "compact"),
    *("doctor", "ls", "migrate-config", "convert-catalog", "synth", "demo"),
)


def _place(command: CommandInfo) -> int:
    return _ORDER.index(command.name or getattr(command.callback, "__name__", ""))


app.registered_commands.sort(key=_place)
for each in app.registered_commands:
    each.cls = Command
