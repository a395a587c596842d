"""Finding descriptions: `file.py:function`, or the name of one that comes with the package.

The package's own descriptions lie in `validation/kernels/` of a checkout and in
`costmodel/_descriptions/` of a wheel. Such a module may say `SPACE` (a default search space) and
`DATASETS`: for the name under which a data set lists its kernel, which description it is, which column
or constant is which argument, and which column is which counter of `cost.counters`: on every GPU
(`counters`), and further ones that mean this only on some (`counters_by_architecture`), each in `units` of ours. How it was
measured belongs there too: which kernels a library could choose from (`schedules`), which buffers were `warm`,
how many `registers` a compiler gave a thread, and what the time of a launch holds besides the kernel (`launch_s`).
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from costmodel.cost.warmth import BACK_TO_BACK
from costmodel.device import Device
from costmodel.errors import DescriptionError
from costmodel.ir import Description

__all__ = [
    "DatasetMapping",
    "dataset_mapping",
    "description_names",
    "descriptions_in",
    "find_description",
    "search_space",
]


Schedules = Mapping[str, Sequence[Any]] | Callable[[Device], Mapping[str, Sequence[Any]]]
"""Columns of a table of schedules, or what gives them for a device."""


@dataclass(frozen=True, slots=True)
class DatasetMapping:
    """How the rows of a data set become arguments of a description."""

    description: Description
    columns: Mapping[str, str | int]
    """Argument to column name, constant, or `=` and a pandas expression; those left out have a column of their own name."""
    counters: Mapping[str, str]
    """Column to counter name, where it means the same on every GPU."""
    where: str = ""
    """Query that keeps the rows that the description holds for."""
    otherwise: str = ""
    """What is so of the other rows: why the description does not hold for them."""
    names: tuple[str, ...] = field(default=())
    counters_by_architecture: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Architecture to further columns that mean a counter of ours there only."""
    schedules: Schedules | None = None
    """Arguments that a library chose, as a table of what it has; the prediction is the least over it (`cost.schedules`)."""
    warm: Mapping[str, int] | int = BACK_TO_BACK
    """What earlier launches left in L2 (`cost.warmth`)."""
    launch_s: float | None = None
    """What the measurement adds to each launch; the device's launch overhead if None."""
    units: Mapping[str, float] = field(default_factory=dict)
    """Column to how much of our counter is one of it (a transaction of 32 bytes); 1 where it is left out."""
    gpus: Mapping[str, str] = field(default_factory=dict)
    """GPU as the data name it to the profile that is meant, where the name alone would mean another."""
    registers: int | None = None
    """Of a thread, where a compiler was asked what it made of the code that was measured; estimated if None."""

    def counters_for(self, device: Device) -> dict[str, str]:
        """Column to counter name on this device."""
        return {**self.counters, **self.counters_by_architecture.get(device.architecture, {})}


def folder() -> Path:
    """Where the package's descriptions are."""
    here = Path(__file__).resolve().parent.parent
    shipped = here / "_descriptions"
    return shipped if shipped.is_dir() else here.parent / "validation" / "kernels"


def find_description(target: str) -> Description:
    """A description by `file.py:function`, by its name, or by the name a data set gives its kernel.

    Raises:
        DescriptionError: there is none; the message lists close names or what the file has.
    """
    path, colon, function = target.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path), function)
    if target.endswith(".py"):
        found = _descriptions(_load(Path(target)))
        if len(found) == 1:
            return next(iter(found.values()))
        raise DescriptionError(f"{target}: expected file.py:function; it describes {', '.join(found) or 'nothing'}")
    known = _shipped()
    if target in known:
        return known[target][0]
    mapping = dataset_mapping(target)
    if mapping is not None:
        return mapping.description
    near = difflib.get_close_matches(target.casefold(), known, 3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise DescriptionError(f"no description {target!r}; {hint}known: {', '.join(sorted(known))}; or give file.py:function")


def description_names() -> tuple[str, ...]:
    """Names of the descriptions that come with the package."""
    return tuple(sorted(_shipped()))


def dataset_mapping(kernel_name: str) -> DatasetMapping | None:
    """How a data set's kernel of this name is described; None where no description says so."""
    return _datasets().get(kernel_name)


def descriptions_in(path: Path) -> dict[str, Description]:
    """The descriptions of a file, by their names.

    Raises:
        DescriptionError: there is no such file, it cannot be imported, or it describes nothing.
    """
    found = {d.name: d for d in _descriptions(_load(path)).values()}
    if not found:
        raise DescriptionError(f"{path}: describes nothing; expected a function under @kernel")
    return found


def search_space(description: Description) -> dict[str, Any] | None:
    """The default search space of a description, if its module has one."""
    module = sys.modules.get(description.function.__module__)
    space = getattr(module, "SPACE", None)
    if isinstance(space, Mapping) and description.name in space and isinstance(space[description.name], Mapping):
        return dict(space[description.name])
    return None


def _from_file(path: Path, function: str) -> Description:
    found = _descriptions(_load(path))
    if function in found:
        return found[function]
    raise DescriptionError(
        f"{path}: no description {function!r}; it describes {', '.join(found) or 'nothing'} (functions under @kernel)"
    )


def _descriptions(module: ModuleType) -> dict[str, Description]:
    return {n: v for n, v in vars(module).items() if isinstance(v, Description)}


def _load(path: Path) -> ModuleType:
    """Import a file under a name of its own."""
    if not path.is_file():
        raise DescriptionError(f"{path}: no such file; expected a Python file with a function under @kernel")
    name = f"costmodel_description_{abs(hash((path.resolve(), path.stat().st_mtime_ns)))}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except DescriptionError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise DescriptionError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    return module


@lru_cache(maxsize=1)
def _shipped() -> dict[str, tuple[Description, ModuleType]]:
    return {d.name: (d, module) for module in _modules() for d in _descriptions(module).values()}


def _modules() -> Iterator[ModuleType]:
    """Files of descriptions; `NAME_triton.py` is a kernel's code, which needs Triton and is imported when it is measured."""
    for path in sorted(folder().glob("*.py")):
        if not (path.name.startswith("_") or path.stem.endswith("_triton")):
            yield _load(path)


@lru_cache(maxsize=1)
def _datasets() -> dict[str, DatasetMapping]:
    found: dict[str, DatasetMapping] = {}
    for module in _modules():
        for name, entry in getattr(module, "DATASETS", {}).items():
            found[name] = DatasetMapping(
                entry["description"],
                entry.get("columns", {}),
                entry.get("counters", {}),
                entry.get("where", ""),
                entry.get("otherwise", ""),
                counters_by_architecture=entry.get("counters_by_architecture", {}),
                schedules=entry.get("schedules"),
                warm=entry.get("warm", BACK_TO_BACK),
                launch_s=entry.get("launch_s"),
                units=entry.get("units", {}),
                gpus=entry.get("gpus", {}),
                registers=entry.get("registers"),
            )
    return found
