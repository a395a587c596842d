"""`costmodel score`: prices for programs in any language, over standard input and output."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from costmodel.adapters.json_lines import Readable, ScoreStream, serve
from costmodel.cost import descriptions_in
from costmodel.device import find_device
from costmodel.errors import DescriptionError
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
) -> None:
    """Answer requests on standard input, one JSON object a line; answers come in their order.

    A request: {"id": 1, "kernel": "gemm", "device": "H100", "sizes": {"M": 4096, …}}; sizes may be lists. Kernels may be
    defined: {"define": "mine", "ir": {…}} (costmodel.ir.to_json). A bad request is answered by {"error": …}.

    Example: echo '{"sizes": {"N": 65536, "B": [64, 256]}}' | costmodel score --kernel vector_add --device H100
    """
    own: dict[str, Description] = {}
    for path in files or ():
        for name, description in descriptions_in(path).items():
            if name in own:
                raise DescriptionError(f"{path}: {name} is described in another of the files too; rename one")
            own[name] = description
    stream = ScoreStream(kernel, None if device is None else find_device(device).name, breakdown, own)
    gc.freeze()  # what the package itself holds is not gone through again for each batch
    try:
        serve(cast(Readable, sys.stdin.buffer), _write, stream)
    except BrokenPipeError:  # the caller has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
