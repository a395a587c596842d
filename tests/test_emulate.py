"""The emulator on kernels made for it, and every shipped description on data."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from costmodel import kernel
from costmodel.cost import description_names, find_description
from costmodel.dtypes import DType, bf16, f32
from costmodel.ir import Barrier, Guard, Kernel, Loop
from costmodel.ir.checks import finish
from tests.array_expressions import evaluated
from tests.emulate import EmulationError, emulate, filled, rounded
from tests.emulations import EMULATIONS
from tests.oracle import count, evaluate
from tests.strategies import expressions, kernels


def prepared(name: str, at: int) -> tuple[Kernel, dict[str, int], dict[str, Any], dict[str, np.ndarray]]:
    """A traced kernel, its sizes, the same with static arguments, and contents of its arrays, written ones too."""
    emulation, description = EMULATIONS[name], find_description(name)
    everything = {**description.defaults, **emulation.sizes[at]}
    traced = description.trace(**{n: everything[n] for n in description.static})
    sizes = {n: everything[n] for n in description.params}
    random = np.random.default_rng(0)
    arrays = [b for b in traced.buffers if b.space in ("global", "constant")]
    buffers = {b.name: rounded(emulation.values(random, evaluate(b.elements, sizes)), b.dtype) for b in arrays}
    special = code(name).get("inputs", lambda sizes, random: {})(everything, random)
    return (
        traced,
        sizes,
        everything,
        {**buffers, **{n: rounded(v, traced_dtype(traced, n)).reshape(-1) for n, v in special.items()}},
    )


def code(name: str) -> Any:
    """What CODE says of a description; nothing where there is none."""
    module = sys.modules[find_description(name).function.__module__]
    return getattr(module, "CODE", {}).get(name, {})


def traced_dtype(traced: Kernel, name: str) -> DType:
    return next(b.dtype for b in traced.buffers if b.name == name)


def referred(name: str, traced: Kernel, buffers: dict[str, np.ndarray], sizes: dict[str, Any]) -> dict[str, np.ndarray]:
    """What the `reference` of CODE says, in double precision; it leaves NaN where nothing is written."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'costmodel[torch]'")
    tensors = {}
    for b in (b for b in traced.buffers if b.name in buffers):
        layout = ([evaluate(n, sizes) for n in extents] for extents in (b.shape, b.strides))
        tensors[b.name] = torch.from_numpy(buffers[b.name]).as_strided(*layout)
    found = {n: t.expand(tensors[n].shape) for n, t in code(name)["reference"](tensors, sizes).items()}
    expected = {}
    for n, t in found.items():
        flat = torch.from_numpy(buffers[n].copy())
        flat.as_strided(t.shape, tensors[n].stride()).copy_(torch.where(t.isnan(), tensors[n], t))
        expected[n] = flat.numpy()
    return expected


CASES = [(name, at) for name, emulation in EMULATIONS.items() for at in range(len(emulation.sizes))]


@pytest.mark.parametrize(("name", "at"), CASES)
def test_a_description_computes_what_it_should(name, at):
    emulation = EMULATIONS[name]
    traced, sizes, everything, buffers = prepared(name, at)
    wide = {n: v if v.dtype.kind == "i" else v.astype(np.float64) for n, v in buffers.items()}
    expected = emulation.expected(wide, everything) if emulation.expected else referred(name, traced, wide, everything)
    emulate(traced, sizes, buffers, emulation.compute(traced, sizes, buffers), start=emulation.start, races=emulation.races)
    for array, values in expected.items():
        found, wanted = buffers[array].reshape(-1), np.asarray(values, np.float64).reshape(-1)
        assert np.abs(found - wanted).max() <= emulation.tolerance * np.abs(wanted).max(), array


def test_every_shipped_description_is_run():
    """Where one cannot be, its sizes say what can, and tests/emulations says why."""
    assert EMULATIONS.keys() == set(description_names())


# --- the emulator itself ---------------------------------------------------------------------------


def run(description: Any, sizes: dict[str, int], buffers: dict[str, np.ndarray], compute: Any = None, **how: Any) -> None:
    emulate(description.trace(), sizes, buffers, compute or {}, **how)


def shifted(barrier: bool) -> Any:
    @kernel
    def shift(k, *, N):
        a, c = k.buffer("a", (N,), f32), k.buffer("c", (N,), f32)
        tile = k.shared("tile", (N,), f32)
        with k.blocks(1), k.threads(N) as t:
            k.copy(a[t], tile[t])
            if barrier:
                k.barrier()
            k.copy(tile[N - 1 - t], c[t])

    return shift


def test_threads_that_meet_in_shared_memory_need_a_barrier():
    values = {"a": np.arange(8, dtype=np.float32), "c": filled(8, f32)}
    run(shifted(True), {"N": 8}, values)
    assert values["c"].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    with pytest.raises(EmulationError, match="reads tile at 7 with no barrier since another thread touched it"):
        run(shifted(False), {"N": 8}, values)
    run(shifted(False), {"N": 8}, values, races=False)


@pytest.mark.parametrize("name", ["gemm", "transpose_padded", "row_softmax_block", "jacobi_3d", "gemm_triton"])
def test_no_shipped_kernel_does_without_its_barriers(name):
    """A description without barriers is not let through: they are not there for show."""
    emulation = EMULATIONS[name]
    traced, sizes, _, buffers = prepared(name, 0)

    def without(body: tuple[Any, ...]) -> tuple[Any, ...]:
        inner = (replace(n, body=without(n.body)) if isinstance(n, Loop | Guard) else n for n in body)
        return tuple(n for n in inner if not isinstance(n, Barrier))

    bare = finish(replace(traced, body=without(traced.body)))
    with pytest.raises(EmulationError, match="no barrier since another thread"):
        emulate(bare, sizes, buffers, emulation.compute(bare, sizes, buffers), start=emulation.start)


def test_a_read_before_a_write_shows():
    @kernel
    def early(k, *, N):
        c, tile, own = k.buffer("c", (N, 2), f32), k.shared("tile", (N,), f32), k.register("own", (1,), f32)
        with k.blocks(1), k.threads(N) as t:
            k.copy(tile[t], c[t, 0])
            k.copy(own[0], c[t, 1])

    values = {"c": np.zeros(8, np.float32)}
    run(early, {"N": 4}, values)
    assert np.isnan(values["c"]).all()


def one(what: str) -> Any:
    """A kernel of one statement with a fault."""

    @kernel
    def faulty(k, *, N, W):
        a, c = k.buffer("a", (N * W,), f32), k.buffer("c", (N * W,), f32)
        with k.blocks(2) as b, k.threads(N) as t:
            if what == "outside":
                k.copy(a[t + N * W - 1], c[t])
            elif what == "unaligned":
                k.copy(a[t + 1].wide(W), c[t * W].wide(W))
            elif what == "clash":
                k.copy(a[t], c[t // W])
            elif what == "order":
                k.do("number", loads=a[t + b * 0], stores=c[t])
            elif what == "share":
                with k.when(fraction=0.5):
                    k.copy(a[t], c[t])
            elif what == "computes":
                k.do("double", loads=a[t], work=k.add(f32), stores=c[t])
            elif what == "atomic":
                k.do("count", loads=a[t], stores=c[t // W], atomic=True, work=k.add(f32))

    return faulty


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("outside", r"copy: a, dimension 0: N\*W \+ thread_x - 1 leaves 0 to 7"),
        ("unaligned", "a: an offset is not a multiple of the width 2"),
        ("clash", "threads store different values to one element of c"),
        ("order", "c depends on the order of the blocks"),
        ("share", "a guard passes a stated share"),
        ("computes", "'double' computes: name a function"),
    ],
)
def test_faults_are_named(what, message):
    compute = {"number": lambda p, a: a + p["block_x"]} if what == "order" else {}
    values = {"a": np.arange(8, dtype=np.float32), "c": np.zeros(8, np.float32)}
    with pytest.raises(EmulationError, match=message.replace("copy: ", "")):
        run(one(what), {"N": 4, "W": 2}, values, compute)


def test_atomics_add_and_blocks_share_them():
    values = {"a": np.arange(8, dtype=np.float32), "c": np.zeros(8, np.float32)}
    run(one("atomic"), {"N": 4, "W": 2}, values, {"count": lambda p, a: a})
    assert values["c"].tolist() == [2 * (0 + 1), 2 * (2 + 3), 0, 0, 0, 0, 0, 0]


def test_what_is_given_must_fit():
    add, values = find_description("vector_add"), {n: np.zeros(100, np.float32) for n in "abc"}
    with pytest.raises(EmulationError, match="no statement is called subtract; statements: add"):
        run(add, {"N": 100, "B": 32}, values, {"subtract": np.subtract})
    with pytest.raises(EmulationError, match="a: 200 elements expected, 100 given"):
        run(add, {"N": 200, "B": 32}, values, {"add": lambda p, a, b: a + b})
    with pytest.raises(EmulationError, match=r"breaks the requirement mod\(N, T\) == 0"):
        run(find_description("transpose_naive"), {"N": 10, "T": 4, "R": 4}, {})


def test_bfloat16_rounds_to_even():
    halves = [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -(1 + 2**-8), 3.4e38, np.nan]
    assert rounded(halves, bf16).tolist()[:4] == [1.0, 1 + 2**-6, 1 + 2**-7, -1.0]
    assert np.isinf(rounded(halves, bf16)[4])
    assert np.isnan(rounded(halves, bf16)[5])


@settings(max_examples=60)
@given(kernels(small=True))
def test_as_many_threads_run_a_statement_as_the_oracle_counts(case):
    ran: Counter[str] = Counter()

    def counted(name: str, stores: int) -> Any:
        def run_once(p: Any, *loaded: np.ndarray) -> Any:
            ran[name] += p.threads.size
            return None if not stores else 0 if stores == 1 else (0,) * stores

        return run_once

    compute = {s.statement.name: counted(s.statement.name, len(s.statement.stores)) for s in case.kernel.statements()}
    arrays = [b for b in case.kernel.buffers if b.space in ("global", "constant")]
    emulate(
        case.kernel, case.sizes, {b.name: filled(evaluate(b.elements, case.sizes), b.dtype) for b in arrays}, compute, races=False
    )
    counts = count(case.kernel, case.sizes)
    assert ran == Counter({s.statement.name: 2 * s.executions for s in counts.statements if s.executions})  # in two orders


@given(expressions())
def test_expressions_have_the_values_of_the_oracle(drawn):
    expression, env = drawn
    sizes, indices = ({n: v for n, v in env.items() if (n in ("i", "j")) == moving} for moving in (False, True))
    arrays = {n: np.array([v, v]) for n, v in indices.items()}
    wanted = evaluate(expression, env)
    assert np.all(evaluated(expression, sizes, arrays) == wanted)
    assert evaluated(expression, sizes, indices) == wanted
