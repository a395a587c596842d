"""Triton's IR as it is printed, into a tree of operations.

Triton's Python bindings name an operation and its operands, but give no integer attributes, no constants and no loop bounds, so
the printed form is read: one operation a line, operands before attributes before types, regions in braces, locations by number.
Only that shape is relied upon; what an operation means is decided by who reads the tree. A line of another shape is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from costmodel.errors import UnsupportedError

__all__ = ["Block", "Location", "Module", "Operation", "TensorType", "parse_lines", "parse_module", "split_types", "tensor_type"]


@dataclass(frozen=True, slots=True)
class Location:
    """Where an operation comes from in the source."""

    file: str
    line: int
    column: int
    name: str
    """Of the variable it is assigned to, or empty."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor's shape, element type and layout, as printed; a scalar has an empty shape."""

    shape: tuple[int, ...]
    element: str
    encoding: str


@dataclass(slots=True)
class Block:
    """A region of one block: its arguments and operations."""

    arguments: tuple[str, ...]
    operations: list[Operation] = field(default_factory=list)


@dataclass(slots=True)
class Operation:
    """One operation."""

    name: str
    results: tuple[str, ...]
    operands: tuple[str, ...]
    text: str
    """All that follows the name, without the location."""
    types: str
    """What follows the last colon outside brackets."""
    where: str
    """Reference to its location."""
    regions: list[Block] = field(default_factory=list)

    def attribute(self, name: str) -> str | None:
        """An attribute's value as printed, without its type."""
        found = re.search(rf"(?<![\w.]){re.escape(name)} = ([^,}}>:]+)", self.text)
        return found.group(1).strip() if found else None

    @property
    def result_type(self) -> str:
        """The type of its (first) result, as printed."""
        for arrow in (" -> ", " to "):
            if arrow in self.types:
                return split_types(self.types.rsplit(arrow, 1)[1].strip())[0].strip("() ")
        return split_types(self.types)[-1]

    def inner(self) -> Iterator[Operation]:
        """All operations in its regions, outermost first."""
        for block in self.regions:
            for operation in block.operations:
                yield operation
                yield from operation.inner()


@dataclass(slots=True)
class Module:
    """A kernel's module."""

    name: str
    """Of the kernel."""
    arguments: tuple[tuple[str, str, str], ...]
    """Name and type of each, and its name in the source, which several begin with that make up one there: `a`, `a.shape.0`."""
    body: Block
    aliases: dict[str, str]
    """Layouts by their short name."""
    locations: dict[str, str]
    attributes: str
    _found: dict[str, Location] = field(default_factory=dict)

    def location(self, where: str) -> Location:
        """The source line behind a reference, that of the kernel for code it calls."""
        if where not in self._found:
            self._found[where] = self._resolved(where)
        return self._found[where]

    def _resolved(self, where: str) -> Location:
        text, name = self.locations.get(where, where), ""
        for _ in range(64):
            named, call, fused, place = (form.match(text) for form in _LOCATIONS)
            if place:
                return Location(place.group(1), int(place.group(2)), int(place.group(3)), name)
            if named:
                name, text = name or named.group(1), self._of(named.group(2))
            elif call:
                text = self._of(call.group(2))
            elif fused:
                text = self._of(fused.group(1).split(",")[0].strip())
            else:
                break
        return Location("", 0, 0, name)

    def _of(self, reference: str) -> str:
        return self.locations.get(reference, f"loc({reference})")


_LINE = re.compile(
    r'^(?:(?P<results>%[\w$.-]+(?::\d+)?(?:, %[\w$.-]+(?::\d+)?)*) = )?"?(?P<name>[a-z_]+(?:\.[\w.]+)+)"?(?P<rest>.*)$'
)
_LOCATION = re.compile(r" loc\((#loc\d*|unknown|.*)\)$")
_LOCATIONS = (
    re.compile(r'loc\("([^"]*)"\((.+)\)\)$'),
    re.compile(r"loc\(callsite\((.+) at (\S+?)\)\)$"),
    re.compile(r"loc\(fused(?:<.*>)?\[(.*)\]\)$"),
    re.compile(r'loc\("([^"]*)":(\d+):(\d+)(?: to .*)?\)$'),
)
"""Of a named value, of a call, of several places, and of one."""
_PLACED = re.compile(r"loc\(.*?\)+")
_FUNCTION = re.compile(r"tt\.func (?:public |private )?@([\w$.-]+)\((.*)\) (?:attributes .*)?\{$")
_ARGUMENT = re.compile(r"%([\w$.-]+): ([^{ ]+|!tt\.\w+<.*?>+) ?(\{.*?\})?(?: loc\(.*\))?$")
_SOURCE = re.compile(r'loc\("([^"]+)"')
_VALUE = re.compile(r"%[\w$.-]+(?:#\d+)?")
_CARRIED = re.compile(r"(%[\w$.-]+) = %")
_REGION = ("scf.for", "scf.if", "scf.while", "tt.reduce", "tt.scan", "tt.map_elementwise", "ttg.warp_specialize")


def parse_module(text: str) -> Module:
    """Read a module of one kernel.

    Raises:
        UnsupportedError: a line that has not the shape of an operation, or no kernel.
    """
    return _reader(text).module()


def parse_lines(text: str, names: tuple[str, ...]) -> Module:
    """Read only those lines of a module that are operations of these names, wherever they stand.

    Raises:
        UnsupportedError: such a line has not the shape of an operation.
    """
    reader = _reader(text)
    lines = [line for line in reader.lines if any(name in line for name in names)]
    operations = [o for o in map(reader.operation, lines) if o.name in names]
    return Module("", (), Block((), operations), reader.aliases, reader.locations, "")


def _reader(text: str) -> _Reader:
    aliases: dict[str, str] = {}
    locations: dict[str, str] = {}
    lines: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if line.startswith("#loc"):
            name, value = stripped.split(" = ", 1)
            locations[name] = value
        elif line.startswith("#"):
            name, value = stripped.split(" = ", 1)
            aliases[name] = value
        elif stripped and not stripped.startswith("//"):
            lines.append(stripped)
    return _Reader(lines, aliases, locations)


class _Reader:
    """Reads lines one after the other."""

    def __init__(self, lines: list[str], aliases: dict[str, str], locations: dict[str, str]) -> None:
        self.lines, self.aliases, self.locations, self.at = lines, aliases, locations, 0

    def module(self) -> Module:
        attributes, found = "", None
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if line.startswith("module"):
                attributes = line
            elif line.startswith("tt.func"):
                if found is not None:
                    raise UnsupportedError(
                        "Triton IR: several functions in one module; expected calls to be inlined (noinline=False)"
                    )
                found = self._function(line, attributes)
        if found is None:
            raise UnsupportedError("Triton IR: expected a module with a tt.func")
        return found

    def _function(self, line: str, attributes: str) -> Module:
        head = _FUNCTION.match(line)
        if head is None:
            raise UnsupportedError(f"Triton IR: cannot read the function {line[:80]!r}")
        arguments = []
        for part in split_types(head.group(2)):
            found = _ARGUMENT.match(part)
            if found is None:
                raise UnsupportedError(f"Triton IR: cannot read the argument {part!r}")
            source = _SOURCE.search(part)
            arguments.append((found.group(1), found.group(2), source.group(1) if source else found.group(1)))
        return Module(head.group(1), tuple(arguments), self._body(), self.aliases, self.locations, attributes)

    def _body(self) -> Block:
        """The body of the function; blocks that are left early become branches."""
        blocks = {"": Block(())}
        current = blocks[""]
        while (end := self._block(current)).startswith("^"):
            label = re.match(r"(\^\w+)(\()?", end)
            if label is None or label.group(2):
                raise UnsupportedError(f"Triton IR: a block with arguments, {end[:60]!r}; expected structured branches")
            current = blocks[label.group(1)] = Block(())
        return _folded(blocks, "", ())

    def _block(self, block: Block) -> str:
        """Operations up to the closing brace or the next block's label, which is returned."""
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if line.startswith("}"):
                return line
            if line.startswith("^bb"):
                if block.operations:
                    return line
                block.arguments = (*block.arguments, *_VALUE.findall(_PLACED.sub("", line)))
                continue
            block.operations.append(self.operation(line))
        raise UnsupportedError("Triton IR: a block without an end")

    def operation(self, line: str) -> Operation:
        found = _LINE.match(line)
        if found is None:
            raise UnsupportedError(f"Triton IR: cannot read the line {line[:120]!r}")
        name, rest = found.group("name"), found.group("rest")
        results = tuple(found.group("results").split(", ")) if found.group("results") else ()
        if name.startswith(_REGION) and rest.endswith("{"):
            return self._with_regions(name, results, rest)
        where = _LOCATION.search(rest)
        rest = rest[: where.start()] if where else rest
        rest, types = _split_at_types(rest)
        operands = tuple(_VALUE.findall(rest))
        return Operation(name, results, operands, rest, types, where.group(1) if where else "")

    def _with_regions(self, name: str, results: tuple[str, ...], rest: str) -> Operation:
        arguments: tuple[str, ...] = ()
        head = rest[:-1].rstrip("( ")
        operands = tuple(_VALUE.findall(head))
        if name == "scf.for":
            arguments = (operands[0], *_CARRIED.findall(head[head.index(" step ") :]))
            operands = tuple(o for o in operands if o not in arguments)
        operation = Operation(name, results, operands, head, "", "")
        while True:
            block = Block(arguments)
            operation.regions.append(block)
            end = self._block(block)
            if end.startswith("^"):
                raise UnsupportedError(f"Triton IR: {name} has several blocks (it is left early); expected structured loops")
            where = _LOCATION.search(end)
            operation.where = where.group(1) if where else operation.where
            if not (end.endswith("{") and ("else" in end or "do" in end or end.startswith("},"))):
                break
        end = (end[: where.start()] if where else end).lstrip("})")
        operation.text += end
        if " : " in end:
            operation.types = _split_at_types(end)[1]
        elif "->" in head:
            operation.types = head[head.index("->") :]
        return operation


def _folded(blocks: dict[str, Block], name: str, inside: tuple[str, ...]) -> Block:
    """A block with those that it jumps to: `if …: return` is a branch around the rest."""
    if name in inside:
        raise UnsupportedError("Triton IR: blocks that jump back; expected structured loops")
    operations = blocks[name].operations
    last = operations[-1]
    targets = (
        [_folded(blocks, t, (*inside, name)) for t in re.findall(r"\^\w+", last.text)] if last.name.startswith("cf.") else []
    )
    if last.name == "cf.cond_br":
        return Block((), [*operations[:-1], Operation("scf.if", (), last.operands[:1], "", "", last.where, targets)])
    if last.name == "cf.br":
        return Block((), [*operations[:-1], *targets[0].operations])
    return blocks[name]


def _split_at_types(rest: str) -> tuple[str, str]:
    """What stands before and after the last ` : ` outside brackets."""
    at = rest.rfind(" : ")
    while at >= 0:
        before = rest[:at]
        closed = before.count(")") + before.count("]") + before.count("}") + before.count(">") - before.count("->")
        if before.count("(") + before.count("[") + before.count("{") + before.count("<") == closed:
            return before + " ", rest[at + 3 :].strip()
        at = before.rfind(" : ")
    return rest, ""


_MARK = re.compile(r"->|[()\[\]{}<>,]")


def split_types(text: str) -> list[str]:
    """Parts between commas outside brackets."""
    parts, depth, start = [], 0, 0
    for mark in _MARK.finditer(text) if "," in text else ():
        c = mark.group()
        if c in "([{<":
            depth += 1
        elif c in ")]}>":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start : mark.start()].strip())
            start = mark.end()
    return [*parts, text[start:].strip()] if text.strip() else []


_TENSOR = re.compile(r"^(?:!ttg\.memdesc|!tt\.tensordesc|tensor)?<((?:\d+x)*)(.*)>$")


@lru_cache(maxsize=1 << 10)
def tensor_type(text: str) -> TensorType:
    """A type as printed: `tensor<128x32xf16, #blocked>`, `!ttg.memdesc<…>` or a scalar's."""
    found = _TENSOR.match(text)
    if found is None or text.startswith("!tt.ptr"):
        return TensorType((), text, "")
    if text.startswith("!tt.tensordesc<tensor"):
        return tensor_type(found.group(2))
    element, *rest = split_types(found.group(2))
    return TensorType(tuple(int(n) for n in found.group(1).split("x") if n), element, rest[0] if rest else "")
