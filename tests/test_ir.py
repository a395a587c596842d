"""Descriptions: what they become, what is refused and how the message reads, the graph, and JSON."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import tempfile
from contextlib import ExitStack
from fractions import Fraction
from typing import Any, Literal

import networkx as nx
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from costmodel import kernel
from costmodel.dtypes import f32
from costmodel.errors import DescriptionError, UnsupportedError
from costmodel.ir import (
    Access,
    Barrier,
    Builder,
    Guard,
    Kernel,
    Loop,
    Statement,
    ceil_div,
    from_json,
    loop_nest_graph,
    maximum,
    minimum,
    packed,
    to_json,
    unpacked,
)  # fmt: skip
from costmodel.symbols import index, size, to_text
from tests.strategies import Case, kernels
from validation.kernels.gemm_clblast import gemm_clblast

GEMMS = [gemm_clblast.trace(SA=sa, SB=sb, STRM=sm, STRN=sn) for sa in (0, 1) for sb in (0, 1) for sm in (0, 1) for sn in (0, 1)]


def _trace(body: Any, **options: Any) -> Kernel:
    """A kernel `bad` of sizes M and N, whose `body(k, x, N)` stands where a test needs it."""

    @kernel(name="bad", **options)
    def bad(k, *, M, N):
        body(k, k.buffer("x", (M, N), f32), N)

    traced: Kernel = bad.trace()
    return traced


# --- a description as it is traced ---------------------------------------------------------------------


@kernel(static=("FLAG",))
def example(k, *, N, B, FLAG=1):
    x, y = k.buffer("x", (N,), f32), k.buffer("y", (N,), f32)
    s = k.shared("s", (B, 33), f32)
    k.require(N % B == 0)
    k.launch_bound(B)
    with k.blocks(N // B) as b, k.threads(B) as t:
        if FLAG:
            k.copy(x[b * B + t], s[t, 0], asynchronous=True)
            k.barrier()
        with k.serial(4, "i", unroll=2, stages=3) as i, k.when(t < B - i):
            k.do("scale", loads=s[t, i].wide(1), stores=y[b * B + t], work=[k.fma(f32, 2), k.special(f32)])


def test_a_trace_holds_what_was_said():
    traced = example.trace()
    assert (traced.name, traced.params, traced.statics) == ("example", ("N", "B"), (("FLAG", 1),))
    assert [b.name for b in traced.buffers] == ["x", "y", "s"]
    assert traced.buffers[2].strides == (33, 1)
    assert traced.buffers[2].size_bytes == (33 * (size("B") - 1) + 33) * 4
    assert traced.block_shape() == (size("B"), 1, 1)
    assert traced.grid_shape() == (size("N") / size("B"), 1, 1)
    assert traced.max_threads == size("B")
    stage, barrier, scale = traced.sites
    assert isinstance(barrier.leaf, Barrier)
    assert [s.leaf.name for s in traced.statements()] == ["x to s", "scale"]
    assert [loop.kind for loop in scale.loops] == ["block", "thread", "serial"]
    assert (scale.serial()[0].unroll, scale.serial()[0].stages) == (2, 3)
    assert stage.leaf.asynchronous
    assert to_text(stage.leaf.loads[0].offset) == "B*block_x + thread_x"
    assert len(example.trace(FLAG=0).sites) == 1


def test_repeated_traces_are_one_kernel():
    assert example.trace() is example.trace(FLAG=1)
    assert example.trace(FLAG=1) is not example.trace(FLAG=True)  # an int and a bool may differ in text
    assert example.trace() != example.trace(FLAG=0)


def test_kernels_are_values():
    traced = example.trace()
    assert from_json(to_json(traced)) == traced
    assert hash(from_json(to_json(traced))) == hash(traced)
    with pytest.raises(dataclasses.FrozenInstanceError):
        traced.name = "other"


def test_divisibility_makes_exact_quotients():
    seen: dict[str, list[Any]] = {}

    @kernel
    def divided(k, *, M, N, B, T):
        k.require(M % B == 0, B % T == 0, 64 % T == 0)
        x = k.buffer("x", (M,), f32)
        with k.threads(32, 2) as (tx, ty):
            k.load(x[0])
        seen.update(
            exact=[M // B, (M * N) // B, B // T, ceil_div(M, B), 64 // T, M % B, (3 * M) % B],
            kept=[N // B, (M + 1) // B, M // (2 * B), (tx + 32 * ty) // T, (tx + 32 * ty) % T, M // N, M % (B * T)],
        )

    divided.trace()
    m, n, b, t = size("M"), size("N"), size("B"), size("T")
    assert [e.expression for e in seen["exact"]] == [m / b, m * n / b, b / t, m / b, 64 / t, 0, 0]
    for e in seen["kept"]:
        assert "floor_div" in repr(e) or "mod" in repr(e), repr(e)


def test_expressions_read_as_they_were_written():
    @kernel
    def texts(k, *, N, B):
        x = k.buffer("x", (N, N), f32)
        with k.blocks(ceil_div(N, B)) as b, k.threads(B) as t, k.when(b * B + t < N, t != 3), k.serial(3, "i", start=2) as i:
            k.load(x[minimum(b * B + t, N - 1), maximum(N - 1 - i, 0)])
            k.load(x[(5 + t) % B, 7 // B], x[-t + N, 9 - 2 * i], name="more")

    traced = texts.trace()
    first, more = (s.leaf for s in traced.statements())
    assert [to_text(i) for i in first.loads[0].index] == ["min(B*block_x + thread_x, N - 1)", "max(N - i - 3, 0)"]
    assert [to_text(i) for i in more.loads[0].index] == ["mod(thread_x + 5, B)", "floor_div(7, B)"]
    assert [to_text(i) for i in more.loads[1].index] == ["N - thread_x", "5 - 2*i"]
    (guard,) = traced.sites[0].guards
    assert [op for op, _, _ in guard.conditions] == ["<", "!="]


def test_loop_names_are_unique_and_no_size():
    @kernel
    def twice(k, *, i):
        x = k.buffer("x", (i,), f32)
        with k.threads(i) as t:
            with k.serial(2, "j"), k.serial(2, "i"):
                k.load(x[t])
            with k.serial(2, "j"):
                k.load(x[t])

    assert [str(loop.index) for loop in twice.trace().loops()] == ["thread_x", "j", "i_1", "j_1"]


def test_a_stated_fraction_is_exact():
    def body(k, x, N):
        with k.threads(N) as t, k.when(fraction=0.3), k.when(t < 3, fraction=Fraction(1, 3)):
            k.load(x[0, t])

    outer, inner = _trace(body).sites[0].guards
    assert outer.fraction == sympy.Rational(3, 10)
    assert inner.fraction == sympy.Rational(1, 3)
    assert outer.conditions == ()


def test_what_the_users_function_raises_says_where():
    def body(k, x, N):
        with k.threads(N), k.serial(2):
            raise RuntimeError("mine")

    with pytest.raises(DescriptionError, match=r"test_ir\.py:\d+: RuntimeError: mine") as caught:
        _trace(body)
    assert isinstance(caught.value.__cause__, RuntimeError)


# --- errors: structure (ir/checks.py) ------------------------------------------------------------------------


def _no_statement(k, x, N):
    with k.threads(N):
        k.barrier()


def _no_elements(k, x, N):
    with k.threads(N) as t:
        k.do("odd", loads=k.buffer("y", (N, 0), f32)[t, 0])


def _two_blocks(k, x, N):
    with k.blocks(N), k.blocks(2), k.threads(4) as t:
        k.load(x[0, t])


def _sibling_threads(k, x, N):
    for _ in range(2):
        with k.threads(N) as t:
            k.load(x[0, t])


def _no_trips(k, x, N):
    with k.threads(N) as t, k.serial(0, "q"):
        k.load(x[0, t])


def _index_in_requirement(k, x, N):
    with k.threads(N) as t:
        k.require(t < N)
        k.load(x[0, t])


def _index_in_shape(k, x, N):
    with k.threads(N) as t:
        k.load(k.buffer("y", (t,), f32)[0])


def _index_in_strides(k, x, N):
    with k.threads(N) as t:
        k.load(k.buffer("y", (4,), f32, strides=(t,))[0])


def _closed_loop(k, x, N):
    with k.threads(N) as t:
        with k.serial(4, "q") as q:
            k.load(x[0, q])
        k.do("late", loads=x[q, t])


def _closed_width(k, x, N):
    with k.threads(N) as t:
        with k.serial(4, "q") as q:
            k.load(x[0, q])
        k.do("late", loads=x[0, t].wide(q))


def _closed_guard(k, x, N):
    with k.threads(N) as t:
        with k.serial(4, "q") as q:
            k.load(x[0, q])
        with k.when(q < 2):
            k.do("late", loads=x[0, t])


def _closed_extent(k, x, N):
    with k.threads(N) as t:
        with k.serial(4, "q") as q:
            k.load(x[0, q])
        with k.serial(q, "r"):
            k.do("late", loads=x[0, t])


def _closed_unroll(k, x, N):
    with k.threads(N) as t:
        with k.serial(4, "q") as q:
            k.load(x[0, q])
        with k.serial(4, "r", unroll=q):
            k.do("late", loads=x[0, t])


def _closed_work(k, x, N):
    with k.threads(N):
        with k.serial(4, "q") as q:
            k.load(x[0, q])
        k.do("late", work=k.fma(f32, q))


def _indexed_work(k, x, N):
    with k.threads(N), k.serial(4, "q") as q:
        k.do("late", work=k.fma(f32, q))


def _indexed_width(k, x, N):
    with k.threads(N) as t, k.serial(4, "q") as q:
        k.do("late", loads=x[0, t].wide(q + 1))


def _guarded_barrier(k, x, N):
    with k.threads(N) as t:
        k.load(x[0, t])
        with k.when(t < 3):
            k.barrier()


def _threads_outside(k, x, N):
    with k.threads(N) as t, k.blocks(4) as b:
        k.do("odd", loads=x[b, t])


def _serial_outside(k, x, N):
    with k.serial(3) as i, k.threads(N) as t:
        k.do("odd", loads=x[i, t])


def _ragged_block(k, x, N):
    with k.blocks(N) as b, k.threads(b + 1) as t:
        k.do("odd", loads=x[b, t])


def _ragged_grid(k, x, N):
    with k.serial(N, "q") as q, k.blocks(q + 1) as b:
        k.do("odd", loads=x[q, b])


def _ragged_lanes(k, x, N):
    with k.threads(N) as t, k.serial(t + 1, "q") as q:
        k.do("odd", loads=x[q, t])


def _no_width(k, x, N):
    with k.threads(N) as t:
        k.do("odd", loads=x[0, t].wide(0))


def _constant_store(k, x, N):
    with k.threads(N) as t:
        k.do("odd", stores=k.constant("c", (N,), f32)[t])


def _read_only_store(k, x, N):
    with k.threads(N) as t:
        k.do("odd", stores=k.buffer("c", (N,), f32, read_only=True)[t])


def _asynchronous_store(k, x, N):
    with k.threads(N) as t:
        k.copy(k.shared("s", (N,), f32)[t], x[0, t], "odd", asynchronous=True)


def _asynchronous_load(k, x, N):
    with k.threads(N) as t:
        k.do("odd", loads=x[0, t], asynchronous=True)


def _atomic_load(k, x, N):
    with k.threads(N) as t:
        k.do("odd", loads=x[0, t], atomic=True)


def _idle(k, x, N):
    with k.threads(N):
        k.do("odd")


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (_no_statement, ["kernel bad", "no statement", "k.do"]),
        (_no_elements, ["kernel bad", "'y'", "0"]),
        (_two_blocks, ["kernel bad", "k.blocks(…) appears twice"]),
        (_sibling_threads, ["kernel bad", "k.threads(…) appears twice"]),
        (_no_trips, ["kernel bad", "loop q", "0", "at least 1"]),
        (_index_in_requirement, ["kernel bad", "k.require", "thread_x is not defined here", "M, N"]),
        (_index_in_shape, ["kernel bad", "'y'", "thread_x"]),
        (_index_in_strides, ["kernel bad", "'y'", "thread_x"]),
        (_closed_loop, ["kernel bad", "statement 'late'", "access x[q, thread_x]", "q is not defined here"]),
        (_closed_width, ["kernel bad", "statement 'late'", "access x[0, thread_x]", "q is not defined here"]),
        (_closed_guard, ["kernel bad", "statement 'late'", "guard q < 2", "q is not defined here"]),
        (_closed_extent, ["kernel bad", "statement 'late'", "loop r", "q is not defined here"]),
        (_closed_unroll, ["kernel bad", "statement 'late'", "loop r", "q is not defined here"]),
        (_closed_work, ["kernel bad", "statement 'late'", "q is not defined here"]),
        (_indexed_work, ["kernel bad", "statement 'late'", "q is not defined here", "M, N"]),
        (_indexed_width, ["kernel bad", "statement 'late'", "q"]),
        (_guarded_barrier, ["kernel bad", "barrier", "never arrive", "k.when"]),
        (_threads_outside, ["kernel bad", "statement 'odd'", "thread > block", "blocks, then threads"]),
        (_serial_outside, ["kernel bad", "statement 'odd'", "serial > thread"]),
        (_ragged_block, ["kernel bad", "statement 'odd'", "thread_x", "rectangular"]),
        (_ragged_grid, ["kernel bad", "statement 'odd'", "serial > block"]),
        (_ragged_lanes, ["kernel bad", "statement 'odd'", "extent of q depends on a thread index", "k.when"]),
        (_no_width, ["kernel bad", "statement 'odd'", "access x[0, thread_x]", "width is 0", "at least 1"]),
        (_constant_store, ["kernel bad", "statement 'odd'", "'c'", "constant memory"]),
        (_read_only_store, ["kernel bad", "statement 'odd'", "'c'", "read_only"]),
        (_asynchronous_store, ["kernel bad", "statement 'odd'", "one global access to one shared", "shared and global"]),
        (_asynchronous_load, ["kernel bad", "statement 'odd'", "asynchronous", "global"]),
        (_atomic_load, ["kernel bad", "statement 'odd'", "atomic without a store"]),
        (_idle, ["kernel bad", "statement 'odd'", "does nothing"]),
    ],
    ids=lambda v: v.__name__.strip("_") if callable(v) else "",
)
def test_malformed_kernels_are_refused(body, parts):
    with pytest.raises(DescriptionError) as caught:
        _trace(body)
    for part in parts:
        assert part in str(caught.value)
    assert isinstance(caught.value, UnsupportedError) == (body is _ragged_lanes)  # the others are not well formed


# --- errors: while the function runs (ir/trace.py, ir/expressions.py) ------------------------------------------


def _in_threads(statement: Any) -> Any:
    def body(k, x, N):
        with k.threads(N) as t:
            statement(k, x, N, t)

    return body


def _close(context: Any, inside: Any) -> None:
    with context as value:
        inside(value)


@pytest.mark.parametrize(
    ("statement", "parts"),
    [
        (lambda k, x, N, t: k.buffer("x", (N,), f32), ["buffer 'x'", "declared twice"]),
        (lambda k, x, N, t: k.buffer("2x", (N,), f32), ["buffer '2x'", "identifier"]),
        (lambda k, x, N, t: k.buffer("y", (N,), "f32"), ["buffer 'y'", "DType", "'f32'"]),
        (lambda k, x, N, t: k.buffer("y", (), f32), ["buffer 'y'", "non-empty tuple", "()"]),
        (lambda k, x, N, t: k.shared("y", 5, f32), ["buffer 'y'", "non-empty tuple", "5"]),
        (lambda k, x, N, t: k.buffer("y", (N, N), f32, strides=(1,)), ["buffer 'y'", "2 strides, got 1"]),
        (lambda k, x, N, t: k.buffer("y", (2.5,), f32), ["expected an integer", "2.5"]),
        (lambda k, x, N, t: k.load(x[t]), ["kernel bad", "x[…]", "2 indices, got 1"]),
        (lambda k, x, N, t: k.load(x[0, 0:4]), ["kernel bad", "x[…]", "slices", "wide"]),
        (lambda k, x, N, t: k.load(x[0, 1.5]), ["expected an integer", "1.5 (float)"]),
        (lambda k, x, N, t: k.load(x[0, "t"]), ["expected an integer", "'t' (str)"]),
        (lambda k, x, N, t: k.load(x[0, t / 2]), ["'/' on thread_x", "//"]),
        (lambda k, x, N, t: k.load(x[0, 2 / t]), ["'/' on thread_x", "//"]),
        (lambda k, x, N, t: k.load(x[0, t // 0]), ["thread_x"]),
        (lambda k, x, N, t: k.load(x[0, t % 0]), ["thread_x"]),
        (lambda k, x, N, t: k.load(x[0, ceil_div(t, 0)]), ["thread_x"]),
        (lambda k, x, N, t: k.load(x[0, t // -2]), ["thread_x"]),
        (lambda k, x, N, t: k.do("odd", loads=3), ["kernel bad", "'odd'", "access"]),
        (lambda k, x, N, t: k.do("odd", loads=[x]), ["kernel bad", "statement 'odd'", "A[i, j]"]),
        (lambda k, x, N, t: k.do("odd", work=3), ["kernel bad", "'odd'", "work"]),
        (lambda k, x, N, t: k.do("odd", work=[3]), ["kernel bad", "'odd'", "work"]),
        (lambda k, x, N, t: k.do("odd", work=k.fma("f32")), ["DType"]),
        (lambda k, x, N, t: k.do("odd", work=k.fma(f32, 0.5)), ["expected an integer", "0.5"]),
        (lambda k, x, N, t: k.copy(x[0, t], 3), ["kernel bad", "3"]),
        (lambda k, x, N, t: k.copy(3, x[0, t], "odd"), ["kernel bad", "3"]),
        (lambda k, x, N, t: k.load(), ["kernel bad", "k.load"]),
        (lambda k, x, N, t: k.store(), ["kernel bad", "k.store"]),
        (lambda k, x, N, t: k.require(3), ["kernel bad", "k.require", "3"]),
        (lambda k, x, N, t: k.require(N), ["kernel bad", "k.require", "comparison"]),
        (lambda k, x, N, t: k.when().__enter__(), ["kernel bad", "k.when()", "fraction"]),
        (lambda k, x, N, t: k.when(fraction=1.5).__enter__(), ["kernel bad", "1.5", "between 0 and 1"]),
        (lambda k, x, N, t: k.when(fraction=float("nan")).__enter__(), ["kernel bad", "between 0 and 1"]),
        (lambda k, x, N, t: k.when(fraction="a").__enter__(), ["kernel bad", "between 0 and 1"]),
        (lambda k, x, N, t: k.blocks().__enter__(), ["kernel bad", "k.blocks", "one to three"]),
        (lambda k, x, N, t: k.threads(1, 2, 3, 4).__enter__(), ["kernel bad", "k.threads", "got 4"]),
        (lambda k, x, N, t: k.serial(4, "a b").__enter__(), ["kernel bad", "'a b'", "identifier"]),
        (lambda k, x, N, t: k.load(x[0, -1]), ["-1"]),
        (lambda k, x, N, t: _close(k.serial(4, unroll=0), lambda i: k.load(x[i, t])), ["unroll", "0"]),
        (lambda k, x, N, t: _close(k.serial(4, stages=0), lambda i: k.load(x[i, t])), ["stages", "0"]),
        (lambda k, x, N, t: bool(t < N), ["thread_x < N", "@kernel(static=…)", "k.when"]),
        (lambda k, x, N, t: bool(t == N), ["thread_x == N", "k.when"]),
        (lambda k, x, N, t: bool(N), ["'N'", "@kernel(static=…)"]),
        (lambda k, x, N, t: range(N), ["'N'", "k.serial"]),
        (lambda k, x, N, t: [1, 2][t], ["'thread_x'", "k.serial"]),
        (lambda k, x, N, t: 0 < t < N, ["0", "thread_x", "k.when"]),
    ],
)
def test_misuse_of_the_builder_is_explained(statement, parts):
    with pytest.raises(DescriptionError) as caught:
        _trace(_in_threads(statement))
    for part in parts:
        assert part in str(caught.value)


def test_a_guard_has_to_be_a_comparison():
    def body(k, x, N):
        with k.threads(N) as t, k.when(t):
            k.load(x[0, t])

    with pytest.raises(DescriptionError, match=r"k\.when: expected a comparison such as i < N, got thread_x"):
        _trace(body)


def test_launch_bounds_are_sizes():
    def bound(k, x, N):
        with k.threads(N) as t:
            k.load(x[0, t])
        k.launch_bound(t)

    def registers(k, x, N):
        with k.threads(N) as t:
            k.load(x[0, t])
        k.registers_per_thread(t)

    for body in (bound, registers):
        with pytest.raises(DescriptionError, match="thread_x"):
            _trace(body)


@pytest.mark.parametrize("pitch", ["literal", "symbol"])
def test_vectors_run_along_contiguous_elements(pitch):
    def body(k, x, N):
        y = k.buffer("y", (N, 4), f32, strides=(1, N if pitch == "symbol" else 8))
        with k.threads(N) as t:
            k.load(y[t, 0].wide(4), name="odd")

    with pytest.raises(DescriptionError, match=r"statement 'odd'.*y\[thread_x, 0\]"):
        _trace(body)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: kernel(static="SA"), "static=('SA',)"),
        (lambda: kernel(lambda: None), "first argument"),
        (lambda: kernel(lambda k, **sizes: None), "**kwargs"),
        (lambda: kernel(lambda k, *sizes: None), "*args"),
        (lambda: kernel(lambda k, device: None), "'device' is reserved"),
        (lambda: kernel(lambda k, M: None, static=("N",)), "'N' is not an argument"),
        (lambda: kernel(lambda k, M: None, static=("M",)).trace(), "'M' has no value"),
        (lambda: kernel(lambda k, M: None).trace(M=3), "'M' is not static"),
        (lambda: kernel(lambda k, M: None, static=("M",)).trace(M=1, N=2), "'N' is not static"),
        (lambda: kernel(lambda k, M: None, static=("M",)).trace(M=[1]), "M=[1]"),
    ],
)
def test_misuse_of_the_decorator_is_explained(make, part):
    with pytest.raises(DescriptionError) as caught:
        make()
    assert part in str(caught.value)


# --- the graph ---------------------------------------------------------------------------------------------------


def _tree(kern: Kernel) -> list[Any]:
    nodes: list[Any] = []

    def walk(body: Any) -> None:
        for node in body:
            nodes.append(node)
            if isinstance(node, Loop | Guard):
                walk(node.body)

    walk(kern.body)
    return nodes


def _check_graph(kern: Kernel) -> None:
    graph = loop_nest_graph(kern)
    assert nx.is_frozen(graph)
    nodes = _tree(kern)
    assert len(graph) == 1 + len(kern.buffers) + len(nodes)
    edges = [d for *_, d in graph.edges(data=True)]
    statements = [n for n in nodes if isinstance(n, Statement)]
    assert sum(e["kind"] == "contains" for e in edges) == len(nodes)
    assert sum(e["kind"] == "reads" for e in edges) == sum(len(s.loads) for s in statements)
    assert sum(e["kind"] == "writes" for e in edges) == sum(len(s.stores) for s in statements)
    assert all({"label", "item", "layer"} <= d.keys() for _, d in graph.nodes(data=True))
    contains = nx.DiGraph((a, b) for a, b, d in graph.edges(data=True) if d["kind"] == "contains")
    assert nx.is_arborescence(contains)
    # depth first in the order of positions is program order
    order: list[Any] = []

    def walk(node: Any) -> None:
        inside = [(d["position"], b) for _, b, d in graph.out_edges(node, data=True) if d["kind"] == "contains"]
        for _, child in sorted(inside, key=lambda p: p[0]):
            order.append(graph.nodes[child]["item"])
            walk(child)

    walk(("kernel", kern.name))
    assert all(a is b for a, b in zip(order, nodes, strict=True))


@pytest.mark.parametrize("traced", [example.trace(), *GEMMS[::5]], ids=lambda t: t.name)
def test_the_graph_is_frozen_and_complete(traced):
    _check_graph(traced)
    with pytest.raises(nx.NetworkXError):
        loop_nest_graph(traced).add_node("more")
    assert "\n" in "\n".join(nx.generate_network_text(loop_nest_graph(traced)))
    assert len(nx.multipartite_layout(loop_nest_graph(traced), subset_key="layer")) == len(loop_nest_graph(traced))


def test_siblings_of_one_name_are_two_nodes():
    document = json.loads(to_json(example.trace()))
    block = document["body"][0]["body"][0]["body"]
    block.append(copy.deepcopy(block[-1]))
    _check_graph(from_json(json.dumps(document)))


# --- JSON ----------------------------------------------------------------------------------------------------------


@pytest.mark.soak
@given(kernels(small=True))
def test_generated_kernels_survive_json_and_graph(case: Case):
    text = to_json(case.kernel)
    again = from_json(text)
    assert again == case.kernel
    assert again.sites == case.kernel.sites
    assert to_json(again) == text
    _check_graph(case.kernel)


@pytest.mark.soak
@given(kernels(small=True))
def test_generated_kernels_survive_packing(case: Case):
    again = unpacked(json.loads(json.dumps(packed(case.kernel))))
    assert (again, again.sites, hash(again)) == (case.kernel, case.kernel.sites, hash(case.kernel))
    assert to_json(again) == to_json(case.kernel)


def test_a_packed_gemm_is_read_in_a_fraction_of_the_size():
    for traced in GEMMS:
        text = json.dumps(packed(traced))
        assert unpacked(json.loads(text)) == traced
        assert len(text) < len(to_json(traced)) / 2


@pytest.mark.parametrize("traced", GEMMS, ids=lambda t: "".join(str(v) for _, v in t.statics))
def test_the_gemm_survives_json(traced):
    assert from_json(to_json(traced)) == traced
    assert from_json(to_json(traced)).sites == traced.sites


def test_json_is_of_one_version():
    document = json.loads(to_json(example.trace()))
    assert document["format"] == "costmodel.kernel/1"
    for other in ("costmodel.kernel/2", None, 1):
        with pytest.raises(DescriptionError, match=r"costmodel\.kernel/1"):
            from_json(json.dumps({**document, "format": other}))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '"x"', "{}", "[" * 100_000, "NaN", '{"format": "costmodel.kernel/1"}', "\x00"]
)
def test_what_is_no_kernel_is_refused(text):
    with pytest.raises(DescriptionError):
        from_json(text)


def _paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(p for key, value in items for p in _paths(value, (*path, key)))]


DOCUMENT = json.loads(to_json(example.trace()))
PATHS = [p for p in _paths(DOCUMENT) if p]
TOUCHED = os.path.join(tempfile.gettempdir(), "costmodel_was_here")
REPLACEMENTS: list[Any] = [
    None, True, False, 0, 1, -1, 7, 1e300, 2**70, "", "x", "N", "i", "thread_x", "0", "-1", "1/2", "N <", "N < B", "0**-1", "floor_div(N, 0)",
    f"__import__('os').system('touch {TOUCHED}')", "().__class__", "eval('1')", "9**9**9", "9**16**16", "block", "serial", "shared", "f64", "é",
    "for", "global", [], {}, [1], ["N"], [[]], {"barrier": True}, {"barrier": False}, {"loop": "i"}, {"guard": []}, {"statement": "s"},
]  # fmt: skip


def _replaced(path: tuple[Any, ...], value: Any) -> str:
    document = copy.deepcopy(DOCUMENT)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = copy.deepcopy(value)
    return json.dumps(document)


@pytest.mark.soak
@given(st.sampled_from(PATHS), st.sampled_from(REPLACEMENTS))
def test_a_changed_document_is_a_kernel_or_refused(path, value):
    try:
        read = from_json(_replaced(path, value))
    except DescriptionError:
        pass
    else:
        assert from_json(to_json(read)) == read
        hash(read)
        loop_nest_graph(read)
    assert not os.path.exists(TOUCHED)


@pytest.mark.parametrize(
    "value",
    [
        f"__import__('os').system('touch {TOUCHED}')",
        "().__class__.__base__",
        "(lambda: N)()",
        "9**9**9",
        "9**16**16",
        "[N][0]",
        "N.name",
        3,
        None,
        "oops",
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        p
        for p in PATHS
        if p[-1] in ("extent", "unroll", "stages", "width", "amount") or (len(p) > 1 and p[-2] in ("index", "shape", "strides"))
    ],
    ids=lambda p: ".".join(map(str, p)),
)
def test_only_the_grammar_is_an_expression(path, value):
    with pytest.raises(DescriptionError):
        from_json(_replaced(path, value))
    assert not os.path.exists(TOUCHED)


@pytest.mark.parametrize(
    "path", [p for p in PATHS if p[-1] != "FLAG" and isinstance(p[-1], str)], ids=lambda p: ".".join(map(str, p))
)
def test_missing_and_unknown_keys_are_named(path):
    document = copy.deepcopy(DOCUMENT)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    if "barrier" in parent:
        return
    value = parent.pop(path[-1])
    with pytest.raises(DescriptionError) as caught:
        from_json(json.dumps(document))
    if path[-1] not in ("loop", "guard", "statement", "format"):  # these tell what a node is
        assert f"missing key {path[-1]}" in str(caught.value)
    parent[path[-1]] = value
    parent["surplus"] = 1
    with pytest.raises(DescriptionError, match="unknown key surplus"):
        from_json(json.dumps(document))


def _changed(**changes: Any) -> str:
    return json.dumps({**copy.deepcopy(DOCUMENT), **changes})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (_changed(params=["N", "N", "B"]), "N"),
        (_changed(params=["N", "B", "import"]), "'import'"),
        (_changed(params=["N", "B", "thread_x"]), "thread_x"),
        (_changed(params=["N"]), "unknown name 'B'"),
        (_changed(buffers=[*DOCUMENT["buffers"], DOCUMENT["buffers"][0]]), "x"),
        (_changed(buffers=DOCUMENT["buffers"][1:]), "'x'"),
        (_changed(statics={"FLAG": [1]}), "FLAG"),
        (_changed(statics={"FLAG": None}), "FLAG"),
        (_changed(statics={"FLAG": 1.5}), "FLAG"),
        (_changed(requirements=["N"]), "'N'"),
        (_changed(requirements=["N < i"]), "'i'"),
        (_changed(requirements=[3]), "3"),
        (_changed(body=[]), "no statement"),
        (_changed(max_threads="thread_x"), "thread_x"),
        (_replaced(("body", 0, "loop"), "N"), "'N' is already a size"),
        (_replaced(("body", 0, "axis"), 3), "0, 1 or 2"),
        (_replaced(("body", 0, "axis"), True), "axis"),
        (_replaced(("body", 0, "kind"), "lane"), "'lane' is not one of block"),
        (_replaced(("body", 0, "kind"), "serial"), "serial > thread"),
        (_replaced(("body", 0, "body", 0, "kind"), "block"), "appears twice"),
        (_replaced(("buffers", 0, "space"), "texture"), "'texture' is not one of global"),
        (_replaced(("buffers", 0, "dtype"), "f33"), "'f33' is not one of"),
        (_replaced(("buffers", 0, "shape"), ["N", "N"]), "strides"),
    ],
)
def test_inconsistent_documents_are_refused(text, part):
    with pytest.raises(DescriptionError) as caught:
        from_json(text)
    assert part in str(caught.value)


def _nested(kind: str, depth: int) -> str:
    """The text of a kernel with `depth` more nodes inside each other; the json module itself cannot write a deep one."""
    inside = json.dumps(DOCUMENT["body"][0]["body"][0]["body"])
    for n in range(depth):
        node = f'{{"loop": "l{n}", "kind": "serial", "axis": 0, "extent": "2", "unroll": "1", "stages": "1", "body": {inside}}}'
        inside = f"[{node}]" if kind == "loop" else f'[{{"guard": ["N < 3"], "fraction": null, "body": {inside}}}]'
    document = copy.deepcopy(DOCUMENT)
    document["body"][0]["body"][0]["body"] = []
    return json.dumps(document).replace('"body": []', f'"body": {inside}')


@pytest.mark.parametrize("kind", ["guard", "loop"])
def test_only_shallow_nests_are_read(kind):
    read = from_json(_nested(kind, 20))
    assert from_json(to_json(read)) == read
    _check_graph(read)
    for depth in (40, 330, 900, 5_000):
        with pytest.raises(DescriptionError):
            from_json(_nested(kind, depth))


def test_only_shallow_nests_are_described():
    def body(k, x, N):
        with k.threads(N) as t, ExitStack() as nest:
            for _ in range(40):
                nest.enter_context(k.serial(2))
            k.do("deep", loads=x[0, t])

    with pytest.raises(DescriptionError, match=r"kernel bad: statement 'deep': .* nest deeper than 32"):
        _trace(body)


def test_the_builder_is_public():
    assert {"buffer", "shared", "blocks", "threads", "serial", "when", "do", "copy"} <= set(dir(Builder))
    assert Access.__slots__
    assert index("i").is_nonnegative


def test_a_static_argument_may_say_which_values_it_takes():
    @kernel(static=("ORDER",))
    def walk(k, *, N, ORDER: Literal["row", "column"] = "row"):
        a = k.buffer("a", (N, N), f32)
        with k.blocks(N) as b, k.threads(N) as t:
            k.load(a[b, t] if ORDER == "row" else a[t, b])

    assert walk.trace() is walk.trace(ORDER="row")
    assert walk.trace(ORDER="column") is not walk.trace()
    with pytest.raises(DescriptionError, match="ORDER='diagonal': expected one of 'row', 'column'"):
        walk.trace(ORDER="diagonal")
