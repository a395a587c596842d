"""Every finished benchmark on a line of its own, so that a probe that was stopped goes on where it was.

The first line says which GPU, driver and probe; a journal of another one is begun anew. A half-written last line is dropped.
A journal can also stand for its GPU (`Replay`): a profile is then made again where there is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from costmodel.errors import MeasureError
from costmodel.measure.live import StickyError
from costmodel.measure.probe.lab import Lab, Sample

__all__ = ["Journal", "Replay"]

_VERSION = 1
_SAME = ("name", "architecture", "driver", "cuda", "compiler", "torch")


class Journal:
    """A lab that remembers: what a file holds is not run again."""

    def __init__(self, lab: Lab, path: Path) -> None:
        """Read the file, or begin it.

        Raises:
            MeasureError: the file is something else.
        """
        self._lab, self._path = lab, path
        self._known: dict[str, dict[str, Any]] = {}
        facts = lab.facts()
        header = {"probe": _VERSION, "facts": dict(facts)}
        lines = _lines(path)
        if path.exists() and path.stat().st_size and not (lines and "probe" in lines[0]):
            raise MeasureError(f"{path} is no journal of a probe and is not overwritten; name another profile with --out")
        if lines and _same(lines[0], header):
            self._known = {line["key"]: line for line in lines[1:]}
        self.resumed = len(self._known)
        path.write_text("".join(json.dumps(line) + "\n" for line in (header, *self._known.values())))

    def facts(self) -> Mapping[str, Any]:
        """Return those of the machine."""
        return self._lab.facts()

    def clock_s(self) -> float:
        """Return that of the machine."""
        return self._lab.clock_s()

    def run(self, benchmark: str, **parameters: int | str) -> Sample:
        """Return what the file holds, or run the benchmark and note it; a refusal is noted too."""
        key = _key(benchmark, parameters)
        if key not in self._known:
            try:
                done = self._lab.run(benchmark, **parameters)
                line: dict[str, Any] = {"key": key, **asdict(done)}
            except StickyError:
                raise  # a new process may do better
            except MeasureError as error:
                line = {"key": key, "refused": str(error)}
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            self._known[key] = json.loads(json.dumps(line))
        return _sample(self._known[key])


class Replay:
    """The GPU of a journal."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            MeasureError: it is no journal of this version.
        """
        lines = _lines(path)
        if not lines or lines[0].get("probe") != _VERSION:
            raise MeasureError(f"{path}: expected the journal of a probe (version {_VERSION}), which lies beside its profile")
        self._facts: dict[str, Any] = lines[0]["facts"]
        self._path, self._known = path, {line["key"]: line for line in lines[1:]}

    def facts(self) -> Mapping[str, Any]:
        """Return those of the machine when it was measured."""
        return self._facts

    def clock_s(self) -> float:
        """Return 0: nothing takes time."""
        return 0.0

    def run(self, benchmark: str, **parameters: int | str) -> Sample:
        """Return what the file holds."""
        key = _key(benchmark, parameters)
        if key not in self._known:
            raise MeasureError(f"{self._path}: it does not hold {key}")
        return _sample(self._known[key])


def _key(benchmark: str, parameters: Mapping[str, int | str]) -> str:
    return " ".join((benchmark, *(f"{name}={value}" for name, value in sorted(parameters.items()))))


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two first lines are of one GPU, driver and probe."""
    facts = one.get("facts", {})
    return one.get("probe") == other["probe"] and all(facts.get(key) == other["facts"].get(key) for key in _SAME)


def _sample(line: Mapping[str, Any]) -> Sample:
    """Return what a line holds.

    Raises:
        MeasureError: a refusal.
    """
    if "refused" in line:
        raise MeasureError(line["refused"])
    before, after = line["sm_hz"]
    return Sample(tuple(line["seconds"]), tuple(line["cycles"]), (before, after))


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if not isinstance(line, dict):
            break
        found.append(line)
    return found
