"""Options that several commands have, and how their results are printed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from costmodel.report import jsonable
from costmodel.report.text import plain

__all__ = ["DeviceOption", "Json", "Sets", "Target", "print_result"]

Target = Annotated[str, typer.Argument(help="file.py:function, or the name of a description that comes with the package.")]
DeviceOption = Annotated[str, typer.Option("--device", "-d", help="Name, alias or profile file of a GPU.")]
Sets = Annotated[list[str] | None, typer.Option("--set", "-s", metavar="K=V", help="Value of an argument; repeat for each.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_result(values: Any, shown: Any, as_json: bool) -> None:
    """Print values as JSON, or what is shown of them: in colour on a terminal, as plain text elsewhere."""
    console = Console()
    if as_json:
        typer.echo(json.dumps(jsonable(values), indent=1))
    elif console.is_terminal:
        console.print(shown)
    else:
        typer.echo(plain(shown, console.width))
