"""The command line: `costmodel devices | estimate | rank | score | measure | probe | validate`.

Deliberate errors (`CostModelError`) become one line on stderr and exit code 2. `--json` prints JSON
and nothing else on stdout.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from costmodel import __version__
from costmodel.cli import show
from costmodel.cli.devices import device_sheet, device_table, device_values
from costmodel.cli.inputs import columns, settings, table_of, told
from costmodel.cli.measuring import measure_command
from costmodel.cli.options import DeviceOption, Json, Sets, Target, print_result
from costmodel.cli.probing import probe_command
from costmodel.cli.score import score_command
from costmodel.cost import estimate, find_description, rank
from costmodel.device import device_names, find_device, write_schemas
from costmodel.errors import CostModelError, DataError
from costmodel.measure import compiled_registers
from costmodel.report import as_dict, breakdown
from costmodel.validate import Report
from costmodel.validate.page import write_report
from costmodel.validate.suite import Choice, Skipped, data_files, load_files, reports

__all__ = ["app", "main"]

app = typer.Typer(
    help="What a GPU kernel will cost, before any GPU runs it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Usage: type[BaseException] = typer.BadParameter.__mro__[1]
"""Mistakes in the options; Typer has its own copy of this class in some versions and click's in others."""


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """What a GPU kernel will cost, before any GPU runs it."""
    if version:
        typer.echo(f"costmodel {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("devices")
def devices_command(
    name: Annotated[str | None, typer.Argument(help="Name or alias: print its sheet with sources.")] = None,
    schema: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the JSON Schemas of profiles into a folder of them, for editors.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the GPUs that have a profile, or print one profile.

    Example: costmodel devices H100
    """
    if schema is not None and name is not None:
        raise typer.BadParameter("--schema writes those of all profiles; leave out the name")
    if schema is not None:
        for written in write_schemas(schema):
            typer.echo(f"wrote {written}", err=True)
        return
    if name is not None:
        device = find_device(name)
        print_result(device_values(device), device_sheet(device), as_json)
        return
    known = [find_device(n) for n in device_names()]
    print_result([device_values(d) for d in known], device_table(known), as_json)


@app.command("estimate")
def estimate_command(
    target: Target,
    device: DeviceOption,
    sets: Sets = None,
    registers: Annotated[int | None, typer.Option(help="Registers of a thread, if a compiler has told.")] = None,
    ask_compiler: Annotated[bool, typer.Option("--ask-compiler", help="Compile it with nvcc for its registers.")] = False,
    as_json: Json = False,
) -> None:
    """Price one configuration and show where the time goes.

    Example: costmodel estimate vector_add --device H100 --set N=67108864 --set B=256
    """
    description = find_description(target)
    sizes = settings(sets, description)
    spilled = 0.0
    if ask_compiler:
        told = compiled_registers(description, device, **sizes)
        registers, spilled = told.registers, told.spilled_words
    cost = estimate(description, device, registers=registers, spilled=spilled, **sizes)
    print_result(as_dict(cost), breakdown(cost), as_json)


@app.command("rank")
def rank_command(
    target: Target,
    device: DeviceOption,
    space: Annotated[
        Path | None,
        typer.Option(
            help="YAML or JSON (argument: list or value), or a CSV or Parquet table; the description's own if left out."
        ),
    ] = None,
    sets: Sets = None,
    top: Annotated[int, typer.Option(min=1, help="How many to print.")] = 10,
    as_json: Json = False,
) -> None:
    """Price a space of configurations and print the fastest.

    Example: costmodel rank gemm --device H100 --set M=4096 --set N=4096 --set K=4096
    """
    description = find_description(target)
    table = table_of(description, space, settings(sets, description))
    best = rank(description, device, table, top)
    values = {
        "kernel": description.name,
        "device": find_device(device).name,
        "configurations": len(table),
        "infeasible": best.attrs["infeasible"],
        "best": best.to_dict("records"),
    }
    print_result(values, show.ranking(values, best), as_json)


@app.command("validate")
def validate_command(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="FILE|FOLDER …", help="Measured timings: Parquet, CSV, or the JSON of Kernel Tuner, T4 or KTT."),
    ],
    kernel: Annotated[str | None, typer.Option(help="Description to use instead of the one named in the file.")] = None,
    device: Annotated[
        str | None, typer.Option("--device", "-d", help="Profile to use instead of the one named in the file.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="Choose rows: a pandas query such as 'SA == 1 and M > 1024'.")] = None,
    only_kernel: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Keep kernels whose name in the data matches; repeat for more.")
    ] = None,
    only_gpu: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="The same for GPUs, such as 'RTX*'.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="K=V", help="A size that a file does not have; repeat for each.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write a page (index.html) and its figures as Markdown; implies --thorough."),
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also switch off each charge, train trees, and list the worst outliers.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; as many as cores if thorough, else one.")] = None,
    as_json: Json = False,
) -> None:
    """Compare predicted with measured times.

    One report for each kernel and GPU in the files. What has no description is named and left out.

    Example: costmodel validate measurements.parquet --query "SA == 1"
    """
    chosen = None if device is None else find_device(device)
    if kernel is not None:
        find_description(kernel)
    thorough = thorough or report is not None
    given = {name: text for name, text in (("kernel", kernel), ("gpu", device)) if text is not None} | columns(sets)
    choice = Choice(kernel, chosen, query, given, tuple(only_kernel or ()), tuple(only_gpu or ()))
    measured, skipped = load_files(paths, choice, told)
    processes = jobs or (os.cpu_count() or 1 if thorough else 1)
    alone = len(data_files(paths)) == 1
    found: list[Report] = []
    for n, item in enumerate(reports(measured, choice, alone=alone, thorough=thorough, jobs=processes)):
        found += [item] if isinstance(item, Report) else []
        skipped += [item] if isinstance(item, Skipped) else []
        if thorough:
            typer.echo(f"{n + 1}/{len(measured)} {item.kernel} on {item.gpu}", err=True)
    for line in show.skipped_lines(skipped, found):
        typer.echo(line, err=True)
    if not found:
        raise DataError(f"{', '.join(paths)}: no measured row is left; check status and --query")
    if report is not None:
        for written in write_report(report, found, skipped):
            typer.echo(f"wrote {written}", err=True)
    print_result([show.report_values(r) for r in found], show.reports(found), as_json)


app.command("measure")(measure_command)
app.command("probe")(probe_command)
app.command("score")(score_command)


def main() -> None:
    """Run the command line.

    Exit codes: 0; 2 for anything wrong with what was given; 130 when interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without µ shows a question mark
    try:
        status = app(standalone_mode=False)
    except CostModelError as error:
        _fail(str(error))
    except _Usage as error:
        _fail(_usage(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    sys.exit(status if isinstance(status, int) else 0)


def _usage(error: BaseException) -> str:
    """What is wrong with the options, and where they are explained."""
    context = getattr(error, "ctx", None)
    command = getattr(context, "info_name", None) if getattr(context, "parent", None) else None
    message = str(getattr(error, "format_message", error.__str__)()).strip().rstrip(".")
    return f"{message[:1].lower()}{message[1:]}; see {' '.join(filter(None, ('costmodel', command, '--help')))}"


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
