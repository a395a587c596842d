"""`costmodel score`: requests as JSON Lines in, prices as JSON Lines out, for callers in any language (PROTOCOL.md).

What has arrived is read at once, requests for the same kernel on the same device become one table, and answers leave in the
order of the requests; a caller that waits for each answer gets it, one that does not is served in large batches. Memory is
bounded by the largest batch. A request that cannot be met is answered by an error, and the stream goes on.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from costmodel.adapters.arriving_lines import Readable, lines
from costmodel.adapters.score_answers import as_error, as_lists, as_rows
from costmodel.adapters.score_requests import BadRequestError, Definition, Request, check_names, parse
from costmodel.adapters.score_schema import LONGEST_LINE_BYTES, MOST_KERNELS, MOST_ROWS
from costmodel.cost import Scorer, find_description
from costmodel.cost.scorer import Scores
from costmodel.device import Device, find_device
from costmodel.errors import CostModelError, DescriptionError, ProfileError
from costmodel.ir import Description, Kernel, from_json

__all__ = ["ScoreStream", "serve"]

MOST_SCORERS = 4096
_REGISTERS, _SPILLED = "registers of a thread", "words spilled"
"""Columns beside the sizes; no size is called so, since these are no identifiers."""
_MOST_FAILURES = 64
"""Calls that may fail while the requests to blame are looked for by halving."""
Waiting = list[tuple[int, Request]]
"""Requests and their places in the batch."""


@dataclass(slots=True)
class ScoreStream:
    """Answers batches of requests; remembers kernels that were defined and scorers that were used.

    Example:
        >>> stream = ScoreStream(kernel="vector_add", device="H100")
        >>> print(*stream.answers([b'{"id": 1, "sizes": {"N": 1048576, "B": 4096}}']))
        {"id": 1, "seconds": null, "reason": "4096 threads per block, at most 1024"}
    """

    kernel: str | None = None
    """Where a request names none."""
    device: str | None = None
    breakdown: bool = False
    """Whether answers hold the seconds of each term, the occupancy and registers."""
    described: Mapping[str, Description] = field(default_factory=dict)
    """Descriptions of the caller's own, by name; the shipped ones are known too."""
    devices: Mapping[str, Device] = field(default_factory=dict)
    """GPUs of the caller's own, likewise."""
    defined: OrderedDict[str, Kernel] = field(default_factory=OrderedDict)
    _scorers: OrderedDict[tuple[Any, ...], Scorer] = field(default_factory=OrderedDict)

    def answers(self, batch: Sequence[bytes]) -> list[str]:
        """One line of JSON for each line of the batch, in its order."""
        found = [""] * len(batch)
        waiting: dict[tuple[Any, ...], Waiting] = {}
        for place, line in enumerate(batch):
            try:
                if len(line) > LONGEST_LINE_BYTES:
                    raise BadRequestError(f"a line of more than {LONGEST_LINE_BYTES} bytes; send fewer rows at once")
                request = parse(line, self.kernel, self.device)
            except BadRequestError as error:
                found[place] = as_error(error.id, error)
                continue
            if isinstance(request, Definition):
                self._answer_all(waiting, found)  # what came before meant the old one
                waiting = {}
                found[place] = self._define(request)
            elif request.rows is None:
                key = (request.kernel, request.device, frozenset(request.sizes), request.registers is None)
                waiting.setdefault(key, []).append((place, request))
            else:
                found[place] = self._answer_lists(request)
        self._answer_all(waiting, found)
        return found

    def _answer_all(self, waiting: Mapping[Any, Waiting], found: list[str]) -> None:
        for group in waiting.values():
            try:
                scorer = self._scorer(group[0][1])
                self._answer_group(scorer, group, found, [_MOST_FAILURES])
            except Exception as error:  # so it is for all of them
                for place, request in group:
                    found[place] = found[place] or as_error(request.id, error)

    def _answer_group(self, scorer: Scorer, group: Waiting, found: list[str], failures: list[int]) -> None:
        """Price requests with the same names; where the model itself fails, halves of them until one stands alone."""
        first = group[0][1]
        columns: dict[str, Any] = {name: [r.sizes[name] for _, r in group] for name in first.sizes}
        if first.registers is not None:
            columns |= {_REGISTERS: [r.registers for _, r in group], _SPILLED: [r.spilled for _, r in group]}
        try:
            rows = as_rows(_scores(scorer, columns), self.breakdown)
        except CostModelError:
            raise
        except Exception as error:
            failures[0] -= 1
            if failures[0] < 0:
                raise
            if len(group) == 1:
                found[group[0][0]] = as_error(first.id, error)
                return
            half = len(group) // 2
            self._answer_group(scorer, group[:half], found, failures)
            self._answer_group(scorer, group[half:], found, failures)
            return
        for (place, request), answer in zip(group, rows, strict=True):
            found[place] = f"{{{request.id}{answer}}}"

    def _answer_lists(self, request: Request) -> str:
        """Price the lists of one request; the answer has lists too."""
        try:
            assert request.rows is not None
            if request.rows > MOST_ROWS:
                raise BadRequestError(f"{request.rows} configurations in one request, at most {MOST_ROWS}; send several")
            scorer = self._scorer(request)
            columns = dict(request.sizes)
            if request.registers is not None:
                columns |= {_REGISTERS: request.registers, _SPILLED: request.spilled}
            return f"{{{request.id}{as_lists(_scores(scorer, columns), self.breakdown)}}}"
        except Exception as error:
            return as_error(request.id, error)

    def _scorer(self, request: Request) -> Scorer:
        """What prices the kernel of a request, if it has sizes of these names."""
        key = (request.kernel, request.device, request.registers is None)
        scorer = self._scorers.get(key)
        if scorer is None:
            kernel, device = self._found(request.kernel), self._device(request.device)
            told = request.registers is not None
            scorer = Scorer(kernel, device, registers=_REGISTERS if told else None, spilled=_SPILLED if told else 0.0)
            _keep(self._scorers, key, scorer, MOST_SCORERS)
        check_names(request, request.kernel, scorer.arguments)
        return scorer

    def _found(self, name: str) -> Description | Kernel:
        if name in self.defined:
            return self.defined[name]
        if name in self.described:
            return self.described[name]
        if name.endswith(".py") or ".py:" in name:
            raise DescriptionError(f"{name}: a request cannot load files; name it on the command line: costmodel score FILE.py")
        return find_description(name)

    def _device(self, name: str) -> Device:
        if name in self.devices:
            return self.devices[name]
        if name.endswith((".yaml", ".yml")):
            raise ProfileError(f"{name}: a request cannot load files; name it on the command line: costmodel score --device FILE")
        return find_device(name)

    def _define(self, definition: Definition) -> str:
        try:
            kernel = from_json(json.dumps(definition.ir))
        except RecursionError:
            return as_error(definition.id, BadRequestError("ir: nested too deep"))
        except Exception as error:
            return as_error(definition.id, error)
        _keep(self.defined, definition.name, kernel, MOST_KERNELS)
        for key in [k for k in self._scorers if k[0] == definition.name]:
            del self._scorers[key]
        return f'{{{definition.id}"defined": {json.dumps(definition.name)}, "arguments": {json.dumps(kernel.params)}}}'


def serve(source: Readable, write: Callable[[str], object], stream: ScoreStream) -> None:
    """Answer until the source ends; `write` gets the answers of a batch with their line ends, and sends them off."""
    for batch in lines(source):
        write("\n".join([*stream.answers(batch), ""]))


def _scores(scorer: Scorer, columns: Mapping[str, Any]) -> Scores:
    with np.errstate(all="ignore"):  # what comes of it is no time, and answered so
        return scorer.score(columns, errors="report")


def _keep(store: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    store[key] = value
    store.move_to_end(key)
    if len(store) > most:
        store.popitem(last=False)
