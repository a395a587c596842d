"""A whole folder of measurements: which files are timings, which of them have a description, and a report for each.

Nothing is lost silently: what cannot be compared is `Skipped`, with its reason. Where one file was named alone, its
error is raised instead; a GPU of it without rows to judge (`NoRowsError`) only where no other is left.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from costmodel.device import Device
from costmodel.errors import CostModelError, DataError, DescriptionError, ProfileError
from costmodel.measure.fake import DRY
from costmodel.validate.baselines import Others
from costmodel.validate.case import Case, NoRowsError, NotDescribedError, prepare
from costmodel.validate.data import READABLE, Measured, NotTimingsError, load
from costmodel.validate.run import Report, compare

__all__ = ["Choice", "Skipped", "data_files", "load_files", "reports"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be compared, and with what."""

    kernel: str | None = None
    """Description to use instead of the one that the data name."""
    device: Device | None = None
    """Profile to use instead of the one that the data name."""
    query: str | None = None
    """Pandas query that chooses rows."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Columns that a file may lack."""
    kernels: tuple[str, ...] = ()
    """Patterns of kernels to keep, such as `gemm*`; all if empty."""
    gpus: tuple[str, ...] = ()
    """Patterns of GPUs to keep, by the name in the data."""

    def keeps(self, measured: Measured) -> bool:
        """Whether the patterns let this kernel and GPU through, and the query leaves any of its rows."""
        named = _matches(measured.kernel, self.kernels) and _matches(measured.gpu, self.gpus)
        return named and not (self.query and _nothing_left(measured, self.query))


@dataclass(frozen=True, slots=True)
class Skipped:
    """What could not be compared."""

    file: str
    kernel: str
    gpu: str
    rows: int
    what: str
    """`not timings`, `no description`, `not described`, `no profile`, `no rows`, `unreadable` or `cannot be compared`."""
    reason: str


def data_files(paths: Sequence[str | Path]) -> list[str]:
    """The files that are meant: themselves, or what a folder holds, in order of name.

    Raises:
        DataError: a folder has no file that can be read.
    """
    found: list[str] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(str(path))
            continue
        inside = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in READABLE and p.is_file())
        if not inside:
            raise DataError(f"{path}: no data in this folder; expected files that end in {', '.join(READABLE)}")
        found += inside
    return found


def load_files(
    paths: Sequence[str | Path], choice: Choice, said: Callable[[list[str]], Iterator[str]] = iter
) -> tuple[list[Measured], list[Skipped]]:
    """Read all files.

    Args:
        paths: files and folders.
        choice: what is to be compared.
        said: wraps the names of the files, to tell how far it is.

    Raises:
        DataError: a file that was named, not found in a folder, cannot be read; or the only one cannot be used.
    """
    named = {str(path) for path in map(Path, paths) if not path.is_dir()}
    files = data_files(paths)
    measured: list[Measured] = []
    skipped: list[Skipped] = []
    for file in said(files):
        try:
            measured += filter(choice.keeps, load(file, choice.given))
        except DataError as error:
            wanted = isinstance(error, NotTimingsError)
            if file in named and (len(files) == 1 or not wanted):
                raise
            skipped.append(Skipped(file, "", "", 0, "not timings" if wanted else "unreadable", _without(file, error)))
    return measured, skipped


def reports(
    measured: Sequence[Measured], choice: Choice, *, alone: bool, thorough: bool = False, jobs: int = 1
) -> Iterator[Report | Skipped]:
    """A report for each kernel × GPU, or why there is none, in the order given.

    Args:
        measured: what was read.
        choice: what is to be compared.
        alone: one file was named: what is wrong with it is raised.
        thorough: as for `compare`.
        jobs: processes.

    Raises:
        CostModelError: what is wrong with a single file.
    """
    prepared = [_prepared(m, choice, alone) for m in measured]
    if alone and prepared and all(isinstance(p, Skipped) for p in prepared):
        prepare(measured[0], choice.kernel, choice.device, choice.query)  # says what is wrong
    cases = [p for p in prepared if isinstance(p, Case)]
    tasks = ((p, _others(p, cases), alone, thorough) if isinstance(p, Case) else p for p in prepared)
    if jobs <= 1 or len(cases) <= 1:
        yield from (_compared(*t) if isinstance(t, tuple) else t for t in tasks)
        return
    with ProcessPoolExecutor(min(jobs, len(cases)), mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(_remote, t[0].measured, choice, *t[1:]) if isinstance(t, tuple) else t for t in tasks]
        for item in waiting:
            yield item if isinstance(item, Skipped) else item.result()


def _prepared(measured: Measured, choice: Choice, alone: bool) -> Case | Skipped:
    try:
        return prepare(measured, choice.kernel, choice.device, choice.query)
    except CostModelError as error:
        if alone and not isinstance(error, NoRowsError):
            raise _placed(measured, error) from None
        return _skipped(measured, error, _WHAT.get(type(error), _OTHER))


def _compared(case: Case, others: Sequence[Others], alone: bool, thorough: bool) -> Report | Skipped:
    try:
        return compare(case, others, thorough=thorough)
    except CostModelError as error:
        if alone:
            raise _placed(case.measured, error) from None
        return _skipped(case.measured, error, _OTHER)


def _remote(measured: Measured, choice: Choice, others: Sequence[Others], alone: bool, thorough: bool) -> Report | Skipped:
    """In another process: descriptions are functions of files and do not travel, so they are found again."""
    return _compared(prepare(measured, choice.kernel, choice.device, choice.query), others, alone, thorough)


def _others(case: Case, cases: Sequence[Case]) -> list[Others]:
    """The same description on other devices; dry runs are none."""
    name = case.mapping.description.name
    same = [c for c in cases if c.mapping.description.name == name and not c.measured.gpu.startswith(DRY)]
    return [c.as_other for c in same if c.device.name != case.device.name]


def _skipped(measured: Measured, error: CostModelError, what: str) -> Skipped:
    rows = len(measured.rows) + len(measured.failed)
    reason = _without(measured.file, error).removeprefix(f"{measured.kernel} on {measured.gpu}: ")
    return Skipped(measured.file, measured.kernel, measured.gpu, rows, what, reason)


_OTHER = "cannot be compared"
_WHAT: dict[type, str] = {
    DescriptionError: "no description", ProfileError: "no profile", NoRowsError: "no rows", NotDescribedError: "not described",
}  # fmt: skip


def _nothing_left(measured: Measured, query: str) -> bool:
    """Whether a query that works leaves no row of this kernel and GPU; of one that does not, `prepare` says why."""
    try:
        return bool(measured.rows.query(query).empty)
    except Exception:  # pandas raises whatever its parser met
        return False


def _placed(measured: Measured, error: CostModelError) -> CostModelError:
    """The error with its file, kernel and GPU in front."""
    if str(error).startswith(measured.file):
        return error
    return type(error)(f"{measured.file}: {measured.kernel} on {measured.gpu}: {error}")


def _without(file: str, error: Exception) -> str:
    return str(error).removeprefix(f"{file}: ")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name.casefold(), p.casefold()) for p in patterns)
