"""What luminal's operations cost, and where they are done: as far outside loops as their operands allow.

An addition of a product is one fused multiply-add (nvcc contracts them), a negation goes with the operation that uses it, and
exponentials, logarithms, roots, sines and reciprocals are one operation of the special function unit each; what libraries add for
accuracy is not counted. inferred: a remainder is a reciprocal and two multiply-adds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from costmodel.dtypes import f32
from costmodel.frontends.luminal.fragments import Fragments
from costmodel.frontends.luminal.scopes import Draft, Pointer, Scope
from costmodel.frontends.luminal.terms import BINARY, UNARY, Term
from costmodel.ir import Builder

__all__ = ["Gatherer", "Operation", "Value", "operation_name"]


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """Arithmetic on one value or two, not done yet."""

    term: Term
    operands: tuple[Value, ...]
    scope: Scope
    """Where it is written."""
    place: Scope
    """Where it can be done: the outermost scope in which its operands are known."""


Value = Pointer | Operation
_FMA, _ADD, _SPECIAL = Builder.fma(f32), Builder.add(f32), Builder.special(f32)
_DEEPEST = 100


class Gatherer:
    """Puts operations and their loads into statements, each once."""

    def __init__(self, value: Callable[[Term, Any], Value], fragments: Fragments) -> None:
        self._value, self._fragments = value, fragments
        self._made: dict[tuple[Term, Any], Operation] = {}
        self._nested = 0

    def operation(self, term: Term, frames: object, scope: Scope) -> Operation:
        """The operation of a term inside these loops."""
        if (term, frames) not in self._made:
            if self._nested == _DEEPEST:
                term.refuse(f"operations nested deeper than {_DEEPEST}")
            self._nested += 1
            operands = tuple(self._value(a, frames) for a in term.args if isinstance(a, Term))
            self._nested -= 1
            place = max((self._place(v, scope) for v in operands), key=lambda s: s.depth)
            self._made[term, frames] = Operation(term, operands, scope, place)
        return self._made[term, frames]

    @staticmethod
    def _place(value: Value, scope: Scope) -> Scope:
        return value.place(scope) if isinstance(value, Pointer) else value.place

    def gather(self, value: Value, scope: Scope, draft: Draft, *, alone: bool = False) -> None:
        """Add to a statement what it takes to have a value.

        Args:
            value: to be had.
            scope: where it is asked for.
            draft: the statement; what can be done outside its scope becomes a statement there.
            alone: whether the statement does nothing with the value but store it.
        """
        value = self._fragments.of(value, scope) if isinstance(value, Pointer) else value
        place = self._place(value, scope)
        key: object = value if isinstance(value, Operation) else (value.memory, value.offset)
        if key in place.done:
            return
        if place is not draft.scope:
            if isinstance(value, Pointer) and value.memory.space == "register":
                return
            draft = Draft(place, f"{operation_name(value.term) if isinstance(value, Operation) else 'load ' + value.memory.name}")
            place.items.append(draft)
        if isinstance(value, Pointer):
            draft.load(value)
            if value.memory.space != "register":  # registers change, and cost nothing to read again
                place.done.add(key)
            return
        place.done.add(value)
        for operand in self._work(value, draft, alone):
            self.gather(operand, value.scope, draft)

    def _work(self, operation: Operation, draft: Draft, alone: bool) -> tuple[Value, ...]:
        """Note the work; what has to be loaded or computed for it."""
        name = operation_name(operation.term)
        if name == "Neg":
            draft.work += [_ADD] * alone
        elif name in UNARY:
            draft.work.append(_SPECIAL)
        elif name == "Mod":
            draft.work += [_SPECIAL, _FMA, _FMA]
        elif name == "Add":
            return self._sum(operation, draft)
        else:
            draft.work.append(_ADD)
        return operation.operands

    @staticmethod
    def _sum(operation: Operation, draft: Draft) -> tuple[Value, ...]:
        """An addition; of a product made in the same place for this alone: a multiply-add."""
        for product in operation.operands:
            if not isinstance(product, Operation) or operation_name(product.term) != "Mul":
                continue
            if product.place is operation.place and product not in product.place.done:
                draft.work.append(_FMA)
                return (*product.operands, *(v for v in operation.operands if v is not product))
        draft.work.append(_ADD)
        return operation.operands


def operation_name(term: Term) -> str:
    """`Add` of both `(Add a b)` and `(Binary "Add" a b)`."""
    if term.op not in ("Unary", "Binary"):
        return term.op
    if term.text() not in (UNARY if term.op == "Unary" else BINARY):
        term.refuse(f"unknown operation {term.text()!r}; known: {', '.join(UNARY if term.op == 'Unary' else BINARY)}")
    return term.text()
