"""Integer algebra: the only package that makes sympy symbols and compiles expressions."""

from costmodel.symbols.algebra import (
    COMPARISONS,
    CeilDiv,
    Condition,
    Distinct,
    FloorDiv,
    Maximum,
    Minimum,
    Mod,
    Passing,
    Xor,
    exact_quotient,
    expanded,
    free_names,
    index,
    is_identifier,
    quotient,
    size,
)
from costmodel.symbols.compiled import Program, compile_program
from costmodel.symbols.points import distinct_values, passing_points
from costmodel.symbols.sums import sum_over
from costmodel.symbols.table import Table, read_table
from costmodel.symbols.text import parse, parse_condition, to_latex, to_text

__all__ = [
    "COMPARISONS",
    "CeilDiv",
    "Condition",
    "Distinct",
    "FloorDiv",
    "Maximum",
    "Minimum",
    "Mod",
    "Passing",
    "Program",
    "Table",
    "Xor",
    "compile_program",
    "distinct_values",
    "exact_quotient",
    "expanded",
    "free_names",
    "index",
    "is_identifier",
    "parse",
    "parse_condition",
    "passing_points",
    "quotient",
    "read_table",
    "size",
    "sum_over",
    "to_latex",
    "to_text",
]
