"""Registers of a thread before there is machine code: the words that are live together in the module with layouts.

A value lives from where it is made to its last use; what a loop uses lives through its whole body. A tensor has the words of the
elements that its layout gives a thread. Constants are immediates, conditions are predicates and arguments lie in constant memory.
Of indices and addresses only those count that are not at a constant distance from another: rows whose stride only the run knows,
one for each vector. The sums of a matrix instruction stay where they are; those of a warp group keep their registers until all of
them are converted. To the largest number of words come `BASE`. What exceeds the most that a thread may have spills, but for
choices of constants (a mask), which an assembler that is short of registers makes again.

Source: registers of ptxas 12.8 in Triton 3.7.1, never timings. The rules were chosen on the first two sets; the others have
shown two types misread, that operands of `mma` are loaded step by step, and that masks are made again. Rms of what does not
spill, and in brackets that of `charges.registers`:

    26 tests' kernels        sm_80  8 (18), worst 24     sm_90  13 (21), worst -56
    48 matrix products                                   sm_90   7 (51), worst 16
    24 causal attentions     sm_80 17 (27), worst -38    sm_90  16 (27), worst 34
    18 softmax, layer norm   sm_80 38 (34), worst -112   sm_90  31 (42), worst -81

For 179 of the 183 it is told rightly whether anything spills. A word is said to spill once, where an assembler stores and loads
some often and others never; and one that spills may leave registers unused (64 of 255, with rows of 512 words).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from costmodel.frontends.triton.layouts import layout_of
from costmodel.frontends.triton.module_text import Block, Module, Operation, TensorType, parse_module, split_types, tensor_type

__all__ = ["BASE", "MOST_REGISTERS", "REGISTERS_PER_BLOCK", "estimated_registers"]

BASE = 12
"""Registers of a thread for what has no name in the module: its number, the loop's counter, addresses in shared memory."""
MOST_REGISTERS = 255
REGISTERS_PER_BLOCK = 65_536
"""Of 32 bits: the assembler keeps below, for Triton tells it the threads of a block. Source: CUDA C++ programming guide,
technical specifications, compute capabilities 8.0 to 10.0."""

_UNIFORM, _REGULAR, _DISTINCT, _LOADED = 0, 1, 2, 3
"""How the elements of indices differ along a dimension: not at all, by constants, by what only the run knows, and that within a
vector too."""
_VIEWS = ("tt.splat", "tt.broadcast", "tt.expand_dims", "tt.trans", "tt.reshape")
_MOVES = (
    "tt.splat",
    "tt.broadcast",
    "tt.expand_dims",
    "tt.trans",
    "tt.reshape",
    "arith.extsi",
    "arith.extui",
    "arith.index_cast",
)
"""Operations that give again what they are given; the views among them, of values, in the same registers."""
_SUMS = ("arith.addi", "arith.subi", "tt.addptr")
_DOTS = ("tt.dot", "ttng.warp_group_dot")
"""Operations that add to their third operand."""
_WAIT = "ttng.warp_group_dot_wait"
_CONVERSIONS = ("arith.truncf", "ttg.convert_layout", "tt.fp_to_fp")
_VECTOR_BITS = 128
_STEP_BITS, _STEPS = 256, 2
"""Of an operand's row in one `mma`, and steps whose operands are in registers together (as `charges.registers` has it)."""


def estimated_registers(text: str, warps: int, most: int = MOST_REGISTERS) -> tuple[int, int]:
    """Registers of a thread and words that spill.

    Args:
        text: the module with layouts, as it would be lowered to machine code.
        warps: of a block.
        most: registers that a thread may have where the kernel is told so (`maxnreg`).

    Raises:
        UnsupportedError: a layout that is not known.
    """
    values = _Values(parse_module(text), warps)
    wanted, needed = (BASE + words for words in values.largest())
    most = min(most, MOST_REGISTERS, REGISTERS_PER_BLOCK // (32 * warps))
    return min(wanted, most), max(needed - most, 0)


@dataclass(slots=True)
class _Value:
    """What is known of an SSA value."""

    words: int
    """Of a thread."""
    differs: tuple[int, ...] = ()
    """For indices and addresses: how, along each dimension."""
    constant: bool = False
    again: bool = False
    """Whether it is a choice of constants, which is made again where registers are short."""
    sums: bool = False
    """Of a warp group's matrix instruction."""


@dataclass(slots=True)
class _Values:
    """The values of a module."""

    module: Module
    warps: int
    known: dict[str, _Value] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    """Values by those whose registers they have."""
    loops: int = 0
    """Around the operation that is looked at."""
    short: bool = False
    """Whether registers are."""

    def largest(self) -> tuple[int, int]:
        """Most words that live together, and most without what can be made again."""
        for name, _, _ in self.module.arguments:
            self.known[f"%{name}"] = _Value(0)
        self._define(self.module.body)
        wanted = self._walk(self.module.body, frozenset())[1]
        self.short = True
        return wanted, self._walk(self.module.body, frozenset())[1]

    # -- what each value takes

    def _define(self, block: Block) -> None:
        for operation in block.operations:
            names = _names(operation.results)
            if operation.name == "scf.for":
                self._loop(operation, names)
            elif operation.name == "scf.if":
                self._branch(operation, names)
            else:
                self._plain(operation, names)

    def _loop(self, operation: Operation, names: list[str]) -> None:
        counter, *carried = operation.regions[0].arguments
        self.known[counter] = _Value(1)
        for argument, name, first in zip(carried, names, operation.operands[3:], strict=True):
            value = self._value(first)
            self.known[argument] = _Value(value.words, value.differs)
            self.same[name] = argument
        self.loops += 1
        self._define(operation.regions[0])
        self.loops -= 1

    def _branch(self, operation: Operation, names: list[str]) -> None:
        for region in operation.regions:
            self._define(region)
        ends = [region.operations[-1].operands for region in operation.regions if region.operations]
        for n, name in enumerate(names):
            found = [self._value(e[n]) for e in ends if n < len(e)]
            best = max(found, key=lambda v: v.words, default=_Value(1))
            self.known[name] = _Value(best.words, best.differs)

    def _plain(self, operation: Operation, names: list[str]) -> None:
        for name, kind, n in zip(names, _result_types(operation, len(names)), range(len(names)), strict=True):
            tensor = tensor_type(kind) if kind.startswith("tensor<") else None
            view = operation.name in _VIEWS and not (tensor is not None and _is_index(tensor))
            added = operation.operands[2] if operation.name in _DOTS else None
            if (view or operation.name == _WAIT) and n < len(operation.operands):
                self.same[name] = self._root(operation.operands[n])
            elif added is not None and not self._value(added).constant:
                self.same[name] = self._root(added)
            else:
                self.known[name] = self._made(operation, tensor, kind)
            if operation.name == "ttng.warp_group_dot":
                self._value(name).sums = True

    def _made(self, operation: Operation, tensor: TensorType | None, kind: str) -> _Value:
        constant = operation.name == "arith.constant"
        again = operation.name == "arith.select" and all(self._value(o).constant for o in operation.operands[1:])
        if tensor is None or not tensor.encoding:
            return _Value(_scalar_words(kind), constant=constant)
        differs = (_UNIFORM,) * len(tensor.shape) if constant else self._differences(operation, tensor)
        words = self._indices(tensor, differs) if _is_index(tensor) else self._held(tensor)
        if operation.name == "ttg.local_load" and self.loops:
            words = _in_steps(words, tensor)
        return _Value(words, differs, constant, again)

    def _held(self, tensor: TensorType) -> int:
        """Words of a tensor of values; conditions are predicates."""
        bits = _bits(tensor.element)
        if bits == 1:
            return 0
        return max(layout_of(tensor.encoding, tensor.shape, self.module.aliases, self.warps).held * bits // 32, 1)

    def _indices(self, tensor: TensorType, differs: tuple[int, ...]) -> int:
        """Words of indices or addresses, one for each vector of those that do not follow from another."""
        layout = layout_of(tensor.encoding, tensor.shape, self.module.aliases, self.warps)
        pointer = tensor.element.startswith("!tt.ptr")
        widest = _VECTOR_BITS // (max(_bits(tensor.element), 8) if pointer else 16)
        count = 1
        for dimension, how in enumerate(differs):
            if how >= _DISTINCT:
                vector = 1 if how == _LOADED else min(layout.side_by_side(dimension), widest)
                count *= max(layout.along(dimension)[0] // vector, 1)
        return count * (2 if pointer or tensor.element == "i64" else 1)

    def _differences(self, operation: Operation, tensor: TensorType) -> tuple[int, ...]:
        rank = len(tensor.shape)
        if operation.name == "tt.make_range":
            return (_REGULAR,)
        if operation.name == "tt.load":
            return (_LOADED,) * rank
        given = [self._value(o).differs for o in operation.operands]
        if operation.name == "tt.expand_dims" and given[0]:
            axis = int(operation.attribute("axis") or 0)
            return (*given[0][:axis], _UNIFORM, *given[0][axis:])
        if operation.name in _MOVES and given and len(given[0]) in (0, rank):
            return given[0] or (_UNIFORM,) * rank
        given = [g or (_UNIFORM,) * rank for g in given]
        if not given or any(len(g) != rank for g in given):
            return (_DISTINCT,) * rank
        together = tuple(max(column) for column in zip(*given, strict=True))
        constant = any(self._value(o).constant for o in operation.operands)
        if operation.name in _SUMS or (operation.name == "arith.muli" and constant):
            return together
        return tuple(_UNIFORM if how == _UNIFORM else max(how, _DISTINCT) for how in together)

    # -- when they live

    def _walk(self, block: Block, after: frozenset[str]) -> tuple[frozenset[str], int]:
        """What lives before a block if that lives after it, and the most words in between."""
        live, most = after, self._words(after)
        for operation in reversed(block.operations):
            made = frozenset(self._roots(_names(operation.results)))
            used = frozenset(self._roots(operation.operands))
            rest = live - made
            inside: frozenset[str] = frozenset()
            if operation.name.startswith("scf.") and operation.regions:
                through = rest | (self._outer(operation.regions[0]) if operation.name != "scf.if" else frozenset())
                for region in operation.regions:
                    own = frozenset(self._roots(region.operations[-1].operands)) if operation.name != "scf.if" else frozenset()
                    found, words = self._walk(region, through | own)
                    inside |= found - frozenset(region.arguments)
                    most = max(most, words)
            elif operation.name in _CONVERSIONS and any(self._value(o).sums for o in used):
                most = max(most, self._words(rest | made | used))
            most = max(most, self._words(rest | made), self._words(rest | used))
            live = rest | used | inside
        return live, most

    def _outer(self, region: Block) -> frozenset[str]:
        """What a loop's body uses of what is made before it: it lives all through the loop."""
        used, made = set[str](), set(region.arguments)

        def gather(block: Block) -> None:
            for operation in block.operations:
                used.update(self._roots(operation.operands))
                made.update(_names(operation.results))
                for inner in operation.regions:
                    made.update(inner.arguments)
                    gather(inner)

        gather(region)
        return frozenset(used - made)

    def _words(self, live: Iterable[str]) -> int:
        return sum(v.words for v in map(self._value, live) if not v.constant and not (self.short and v.again))

    def _root(self, name: str) -> str:
        while name in self.same:
            name = self.same[name]
        return name

    def _roots(self, names: Iterable[str]) -> list[str]:
        return [self._root(n) for n in names]

    def _value(self, name: str) -> _Value:
        return self.known.get(self._root(name), _Value(0))


def _names(results: Iterable[str]) -> list[str]:
    """Each result's name: `%a:2` stands for `%a#0` and `%a#1`."""
    found: list[str] = []
    for result in results:
        name, _, count = result.partition(":")
        found += [f"{name}#{n}" for n in range(int(count))] if count else [name]
    return found


def _result_types(operation: Operation, count: int) -> list[str]:
    if not count or not operation.types:
        return [""] * count
    if operation.name.startswith("arith.cmp"):
        return ["i1"] * count
    if operation.name == "tt.load":  # printed with the type of its addresses
        return [re.sub(r"!tt\.ptr<(\w+)(, \d+)?>", r"\1", operation.types)] * count
    listed = split_types(operation.types.rsplit(" -> ", 1)[-1].strip().removeprefix("(").removesuffix(")"))
    return listed if len(listed) == count > 1 else [operation.result_type] * count


def _in_steps(words: int, tensor: TensorType) -> int:
    """Words of an operand that is loaded beside the instructions which use it: those of a few steps."""
    operand = re.search(r"dot_op<\{opIdx = (\d)", tensor.encoding)
    if operand is None:
        return words
    steps = tensor.shape[1 - int(operand.group(1))] * _bits(tensor.element) // _STEP_BITS
    return max(words * _STEPS // max(steps, _STEPS), 1)


def _scalar_words(kind: str) -> int:
    if kind == "i1" or not re.match(r"^(i\d+|f\d+|bf16|index|!tt\.ptr)", kind):
        return 0
    return 2 if kind.startswith("!tt.ptr") or kind in ("i64", "f64") else 1


def _is_index(tensor: TensorType) -> bool:
    return tensor.element.startswith("!tt.ptr") or tensor.element in ("i32", "i64")


def _bits(element: str) -> int:
    found = re.search(r"\d+", element.removeprefix("!tt.ptr<"))
    return int(found.group()) if found else 32
