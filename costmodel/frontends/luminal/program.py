"""A term as a program: kernels in the order of their launches, and which reads what another has written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from typing import Any

from costmodel.cost import Cost, estimate
from costmodel.device import Device, find_device
from costmodel.dtypes import DType, tf32
from costmodel.errors import DescriptionError, SizeError
from costmodel.frontends.luminal.egraph import Choice, EGraph, chosen_term, read_egraph
from costmodel.frontends.luminal.frames import Levels, Part, free_name, identifier
from costmodel.frontends.luminal.terms import OPERATORS, Term, read_text
from costmodel.frontends.luminal.writer import Writer
from costmodel.ir import Kernel

__all__ = ["Feed", "Program", "ProgramCost", "from_luminal", "price"]

OUTPUT = "out"


@dataclass(frozen=True, slots=True)
class Feed:
    """A buffer that one kernel writes and a later one reads."""

    buffer: str
    producer: int
    """Place of the kernel in the order of launches."""
    consumer: int


@dataclass(frozen=True, slots=True)
class Program:
    """Kernels that run one after the other."""

    kernels: tuple[Kernel, ...]
    """In the order of their launches."""
    feeds: tuple[Feed, ...]
    inputs: Mapping[str, str]
    """Global buffers that no kernel writes, by the label that luminal has for them."""
    output: str
    """The buffer of the result, which the last kernel writes."""

    @property
    def params(self) -> tuple[str, ...]:
        """Sizes that any of the kernels has."""
        return tuple(sorted({name for kernel in self.kernels for name in kernel.params}))


@dataclass(frozen=True, slots=True)
class ProgramCost:
    """What each kernel of a program costs."""

    costs: tuple[Cost, ...]

    @property
    def seconds(self) -> float:
        """All launches, one after the other."""
        return sum(c.seconds for c in self.costs)


def from_luminal(
    source: str | Mapping[str, Any] | EGraph,
    *,
    choice: Choice | None = None,
    root: str | None = None,
    grid: int = 2,
    block: int = 2,
    matrix: DType = tf32,
    name: str = "luminal",
) -> Program:
    """Read a program in luminal's loop language.

    Args:
        source: an S-expression, with `(let name term)` bindings before it if need be; or an e-graph as egraph-serialize writes it
            (JSON, its object, or what `read_egraph` made of it).
        choice: of an e-graph: the node of each e-class, as a mapping or as a function of the e-class and its nodes. Left out: the
            tree that is cheapest as serialized, see `cheapest_nodes`.
        root: of an e-graph: the e-class of the program, or the name that `let` gave it. Needed if it has not just one root.
        grid: outermost loops that are dimensions of the grid, x first; luminal has 2.
        block: loops inside these that are dimensions of a block, x first; luminal has 2, in other versions 1.
        matrix: what `TCMatmul` multiplies; luminal has Metal's float32 there, for which NVIDIA's GPUs have tf32.
        name: of the kernels, which are numbered.

    Returns:
        The kernels. A `LoopIn` of a `LoopOut` in the grid or the block is read from memory that another kernel has written. Equal
        terms are one: a kernel that two others read is launched once.

    Raises:
        DescriptionError: malformed.
        UnsupportedError: a helper of the search, or something that does not become a kernel; says which operator, and where.

    Example:
        >>> program = from_luminal(
        ...     '(LoopOut (Exp2 (LoopIn (GMEM "A") (Loop "i" (MNum 4096)) (MVar "z"))) (Loop "i" (MNum 4096)) (MVar "z"))'
        ... )
        >>> program.kernels[0].name, program.inputs, program.output
        ('luminal_0', {'A': 'A'}, 'out')
    """
    for argument, given in (("grid", grid), ("block", block)):
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= 3:
            raise DescriptionError(f"luminal: {argument}={given!r}: expected 1, 2 or 3 dimensions")
    if not isinstance(matrix, DType):
        raise DescriptionError(f"luminal: matrix: expected a DType such as tf32, got {matrix!r}")
    if not isinstance(name, str) or not name.strip():
        raise DescriptionError(f"luminal: name: expected text, got {name!r}")
    if isinstance(source, str) and not source.lstrip().startswith("{"):
        if choice is not None or root is not None:
            raise DescriptionError("luminal: choice= and root= belong to an e-graph; an S-expression is one program")
        term = read_text(source)
    else:
        egraph = source if isinstance(source, EGraph) else read_egraph(source)
        term = chosen_term(egraph, choice, root)
    if (sort := OPERATORS[term.op][0]) != "IR":
        raise DescriptionError(f"luminal: {term.where}: {term.op} is of sort {sort}, no program; expected an IR, such as LoopOut")
    return _Programmer(term, Levels(grid, block, matrix), name).program()


def price(program: Program, device: Device | str, **sizes: int) -> ProgramCost:
    """What a program costs on a device: the sum of its kernels, each as if launched over and over.

    Args:
        program: from `from_luminal`.
        device: a device, its name, or the path of a profile.
        sizes: the sizes that are not numbers, `program.params`.

    Raises:
        SizeError: a size is missing or unknown, or a kernel cannot run.
        ProfileError: the device is unknown.
    """
    for unknown in sizes.keys() - set(program.params):
        raise SizeError(f"luminal: unknown size {unknown!r}; expected {', '.join(program.params) or 'none'}")
    found = device if isinstance(device, Device) else find_device(device)
    own = ({n: sizes[n] for n in k.params if n in sizes} for k in program.kernels)
    return ProgramCost(tuple(estimate(k, found, **s) for k, s in zip(program.kernels, own, strict=True)))


class _Programmer:
    """Finds the kernels of a term, from the last to the first."""

    def __init__(self, root: Term, levels: Levels, name: str) -> None:
        self.root, self.levels, self.name = root, levels, name
        self.labels = _buffer_names(root)
        self.sizes = frozenset(t.text() for t in _terms(root) if t.op == "MVar")
        self.results: dict[Part, str] = {}

    def program(self) -> Program:
        written = dict(self._writers())
        order = list(TopologicalSorter({part: writer.reads for part, (writer, _) in written.items()}).static_order())
        place = {part: n for n, part in enumerate(order)}
        return Program(
            tuple(replace(written[part][1], name=f"{self.name}_{n}") for n, part in enumerate(order)),
            tuple(
                Feed(self.results[read], place[read], place[part])
                for part in order
                for read in dict.fromkeys(written[part][0].reads)
            ),
            self.labels,
            OUTPUT,
        )

    def _writers(self) -> Iterator[tuple[Part, tuple[Writer, Kernel]]]:
        """All kernels, each before those that it reads from."""
        queue = [Part(self.root, ())]
        self.results[queue[0]] = OUTPUT
        done: set[Part] = set()
        for part in queue:
            if part not in done:
                done.add(part)
                writer = Writer(self.levels, self._taken(), self._result, self.labels)
                yield part, (writer, writer.write(part, self.results[part], self.name))
                queue += writer.reads

    def _result(self, part: Part) -> str:
        """The buffer that a kernel writes."""
        return self.results.setdefault(part, free_name(f"t{len(self.results) - 1}", {*self.labels.values(), OUTPUT}))

    def _taken(self) -> frozenset[str]:
        """Names that loops and arrays of one kernel cannot have."""
        axes = (f"{kind}_{axis}" for kind in ("block", "thread") for axis in "xyz")
        return frozenset({*axes, *self.sizes, *self.labels.values(), OUTPUT})


def _terms(root: Term) -> Iterator[Term]:
    """Every term once, in order of appearance."""
    seen, stack = {root}, [root]
    while stack:
        term = stack.pop()
        yield term
        for argument in reversed(term.args):
            if isinstance(argument, Term) and argument not in seen:
                seen.add(argument)
                stack.append(argument)


def _buffer_names(root: Term) -> dict[str, str]:
    """A name for each label of global memory."""
    names: dict[str, str] = {}
    for label in dict.fromkeys(t.text() for t in _terms(root) if t.op == "GMEM"):
        names[label] = free_name(identifier(label, "buffer"), {*names.values(), OUTPUT})
    return names
