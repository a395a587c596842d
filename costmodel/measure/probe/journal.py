"""Every finished benchmark on a line of its own, so that a probe that was stopped goes on where it was.

The first line says which GPU, driver and probe; a journal of another one is begun anew. A half-written last line is dropped.
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

__all__ = ["Journal"]

_VERSION = 1
_SAME = ("name", "architecture", "driver", "cuda", "compiler", "torch")


class Journal:
    """A lab that remembers: what a file holds is not run again."""

    def __init__(self, lab: Lab, path: Path) -> None:
        """Read the file, or begin it."""
        self._lab, self._path = lab, path
        self._known: dict[str, dict[str, Any]] = {}
        facts = lab.facts()
        self._header = {"probe": _VERSION, **{key: facts.get(key) for key in _SAME}}
        lines = _lines(path)
        if lines and lines[0] == self._header:
            self._known = {line["key"]: line for line in lines[1:]}
        self.resumed = len(self._known)
        path.write_text("".join(json.dumps(line) + "\n" for line in (self._header, *self._known.values())))

    def facts(self) -> Mapping[str, Any]:
        """Return those of the machine."""
        return self._lab.facts()

    def clock_s(self) -> float:
        """Return that of the machine."""
        return self._lab.clock_s()

    def run(self, benchmark: str, **parameters: int | str) -> Sample:
        """Return what the file holds, or run the benchmark and note it; a refusal is noted too."""
        key = " ".join((benchmark, *(f"{name}={value}" for name, value in sorted(parameters.items()))))
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
        line = self._known[key]
        if "refused" in line:
            raise MeasureError(line["refused"])
        before, after = line["sm_hz"]
        return Sample(tuple(line["seconds"]), tuple(line["cycles"]), (before, after))


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return found
