"""`costmodel score`: prices for programs in any language, over standard input and output."""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from costmodel.adapters.arriving_lines import Readable
from costmodel.adapters.json_lines import ScoreStream, serve
from costmodel.adapters.score_schema import line_schema
from costmodel.cost import descriptions_in
from costmodel.device import find_device
from costmodel.errors import DataError, DescriptionError
from costmodel.ir import Description

__all__ = ["score_command"]


def score_command(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE.py …]", help="Descriptions that requests may name.")
    ] = None,
    kernel: Annotated[str | None, typer.Option(help="What is priced where a request names no kernel.")] = None,
    device: Annotated[str | None, typer.Option("--device", "-d", help="GPU where a request names none.")] = None,
    breakdown: Annotated[
        bool, typer.Option("--breakdown", help="Say the seconds of each term, occupancy and registers.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of requests and answers, and end.")] = False,
) -> None:
    """Answer requests on standard input, one JSON object a line; answers come in their order.

    A request: {"id": 1, "kernel": "gemm", "device": "H100", "sizes": {"M": 4096, …}}; sizes may be lists. Kernels may be
    defined: {"define": "mine", "ir": {…}}. A bad request is answered by {"error": …}. All of it, with a client and a kernel as
    examples: PROTOCOL.md beside costmodel/adapters/README.md.

    Example: echo '{"sizes": {"N": 65536, "B": [64, 256]}}' | costmodel score --kernel vector_add --device H100
    """
    if schema:
        typer.echo(json.dumps(line_schema(), indent=1, ensure_ascii=False))
        return
    if sys.stdin is None or sys.stdout is None:
        raise DataError("costmodel score: standard input or output is closed; requests come on one, answers go to the other")
    own: dict[str, Description] = {}
    for path in files or ():
        for name, description in descriptions_in(path).items():
            if name in own:
                raise DescriptionError(f"{path}: {name} is described in another of the files too; rename one")
            own[name] = description
    board = None if device is None else find_device(device)
    stream = ScoreStream(kernel, board.name if board else None, breakdown, own, {board.name: board} if board else {})
    gc.freeze()  # what the package itself holds is not gone through again for each batch
    try:
        serve(cast(Readable, sys.stdin.buffer), _write, stream)
    except BrokenPipeError:  # the caller has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
