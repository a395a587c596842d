"""`costmodel score`: requests as JSON Lines in, prices as JSON Lines out, for callers in any language.

What has arrived is read at once, requests for the same kernel on the same device become one table, and answers leave in the
order of the requests; a caller that waits for each answer gets it, one that does not is served in large batches. Memory is
bounded by the largest batch. A request that cannot be met is answered by an error, and the stream goes on.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from costmodel.adapters.score_requests import NO_ID, BadRequestError, Definition, Request, check_names, parse
from costmodel.cost import Scorer, find_description
from costmodel.cost.scorer import Scores
from costmodel.errors import CostModelError, DescriptionError
from costmodel.ir import Description, Kernel, from_json

__all__ = ["ScoreStream", "lines", "serve"]

LONGEST_LINE_BYTES = 1 << 26
READ_BYTES = 1 << 21
MOST_ROWS = 1 << 20
"""Configurations in the lists of one request."""
MOST_KERNELS = 1024
MOST_SCORERS = 4096


class Readable(Protocol):
    """A binary stream that gives what is there."""

    def read1(self, size: int, /) -> bytes:
        """Return at least one byte, at most `size`, none at the end."""
        ...


def lines(stream: Readable) -> Iterator[list[bytes]]:
    """Lines as they arrive: all that are complete at a time. A line that is too long comes as its beginning."""
    rest, skipping = b"", False
    while chunk := stream.read1(READ_BYTES):
        *whole, last = (rest + chunk).split(b"\n")
        if skipping and whole:
            whole, skipping = whole[1:], False
        if len(last) > LONGEST_LINE_BYTES:
            if not skipping:
                whole.append(last[: LONGEST_LINE_BYTES + 1])
            last, skipping = b"", True
        rest = b"" if skipping else last
        if found := [line for line in whole if line.strip()]:
            yield found
    if rest.strip():
        yield [rest]


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
    defined: OrderedDict[str, Kernel] = field(default_factory=OrderedDict)
    _scorers: OrderedDict[tuple[Any, ...], Scorer] = field(default_factory=OrderedDict)

    def answers(self, batch: Sequence[bytes]) -> list[str]:
        """One line of JSON for each line of the batch, in its order."""
        found = [""] * len(batch)
        waiting: dict[tuple[Any, ...], list[tuple[int, Request]]] = {}
        for place, line in enumerate(batch):
            try:
                if len(line) > LONGEST_LINE_BYTES:
                    raise BadRequestError(f"a line of more than {LONGEST_LINE_BYTES} bytes; send fewer rows at once")
                request = parse(line, self.kernel, self.device)
            except BadRequestError as error:
                found[place] = _error(error.id, error, str(error))
                continue
            if isinstance(request, Definition):
                self._answer_all(waiting, found)  # what came before meant the old one
                waiting = {}
                found[place] = self._define(request)
            elif request.rows is None:
                key = (request.kernel, request.device, tuple(request.sizes), request.registers, request.spilled)
                waiting.setdefault(key, []).append((place, request))
            else:
                found[place] = self._answer_lists(request)
        self._answer_all(waiting, found)
        return found

    def _answer_all(self, waiting: Mapping[Any, list[tuple[int, Request]]], found: list[str]) -> None:
        for group in waiting.values():
            self._answer_group(group, found)

    def _answer_group(self, group: list[tuple[int, Request]], found: list[str]) -> None:
        """Price requests with the same names; where one is wrong, halves of them until it stands alone."""
        first = group[0][1]
        try:
            scorer = self._scorer(first)
            scores = scorer.score({name: [r.sizes[name] for _, r in group] for name in first.sizes})
        except CostModelError as error:
            if len(group) == 1:
                found[group[0][0]] = _error(first.id, error, str(error))
                return
            half = len(group) // 2
            self._answer_group(group[:half], found)
            self._answer_group(group[half:], found)
            return
        for (place, request), answer in zip(group, self._rows(scores), strict=True):
            found[place] = f"{{{_id(request.id)}{answer}}}"

    def _rows(self, scores: Scores) -> Iterator[str]:
        """What is said of each row, without its braces."""
        more = self._breakdowns(scores) if self.breakdown else [""] * len(scores.table)
        for seconds, bound, reason, text in zip(scores.seconds.tolist(), scores.bound, scores.reason, more, strict=True):
            if reason:
                yield f'"seconds": null, "reason": {json.dumps(reason)}'
            else:
                yield f'"seconds": {seconds!r}, "bound": "{bound}"{text}'

    def _breakdowns(self, scores: Scores) -> list[str]:
        """Seconds of each term that takes some, occupancy and registers."""
        names = [json.dumps(name) for name in scores.terms]
        columns = [values.tolist() for values in scores.terms.values()]
        occupancy = scores.counters.get("occupancy", np.zeros(len(scores.table))).tolist()
        registers = scores.counters.get("registers", np.zeros(len(scores.table))).tolist()
        return [
            f', "terms": {{{", ".join(f"{n}: {v!r}" for n, v in zip(names, row, strict=True) if v)}}}'
            f', "occupancy": {held!r}, "registers": {count:.0f}'
            for row, held, count in zip(zip(*columns, strict=True), occupancy, registers, strict=True)
        ]

    def _answer_lists(self, request: Request) -> str:
        """Price the lists of one request; the answer has lists too."""
        assert request.rows is not None
        try:
            if request.rows > MOST_ROWS:
                raise BadRequestError(f"{request.rows} configurations in one request, at most {MOST_ROWS}; send several")
            scores = self._scorer(request).score(request.sizes)
        except CostModelError as error:
            return _error(request.id, error, str(error))
        fine = scores.feasible
        answer: dict[str, Any] = {} if request.id is NO_ID else {"id": request.id}
        answer["seconds"] = [s if ok else None for s, ok in zip(scores.seconds.tolist(), fine, strict=True)]
        answer["bound"] = [b if ok else None for b, ok in zip(scores.bound, fine, strict=True)]
        if not fine.all():
            answer["reason"] = [r or None for r in scores.reason]
        if self.breakdown:
            answer["terms"] = {name: values.tolist() for name, values in scores.terms.items()}
            for name in ("occupancy", "registers"):
                values = scores.counters.get(name, np.full(len(scores.table), np.nan)).tolist()
                answer[name] = [v if ok else None for v, ok in zip(values, fine, strict=True)]
        return json.dumps(answer)

    def _scorer(self, request: Request) -> Scorer:
        key = (request.kernel, request.device, request.registers, request.spilled)
        scorer = self._scorers.get(key)
        if scorer is None:
            kernel = self._found(request.kernel)
            scorer = Scorer(kernel, request.device, registers=request.registers, spilled=request.spilled)
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

    def _define(self, definition: Definition) -> str:
        try:
            kernel = from_json(json.dumps(definition.ir))
        except CostModelError as error:
            return _error(definition.id, error, str(error))
        _keep(self.defined, definition.name, kernel, MOST_KERNELS)
        for key in [k for k in self._scorers if k[0] == definition.name]:
            del self._scorers[key]
        return f'{{{_id(definition.id)}"defined": {json.dumps(definition.name)}, "arguments": {json.dumps(kernel.params)}}}'


def serve(source: Readable, write: Callable[[str], object], stream: ScoreStream) -> None:
    """Answer until the source ends; `write` gets the answers of a batch with their line ends, and sends them off."""
    for batch in lines(source):
        write("\n".join([*stream.answers(batch), ""]))


def _keep(store: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    store[key] = value
    store.move_to_end(key)
    if len(store) > most:
        store.popitem(last=False)


def _id(own: Any) -> str:
    if own is NO_ID:
        return ""
    return f'"id": {own if type(own) is int else json.dumps(own)}, '


def _error(own: Any, error: CostModelError, text: str) -> str:
    return f'{{{_id(own)}"error": {json.dumps(text)}, "kind": "{type(error).__name__.removesuffix("Error")}"}}'
