"""luminal's programs: accesses against an interpreter of the language, counts against enumeration and by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel import estimate
from costmodel.counts import traffic
from costmodel.frontends import from_einsum
from costmodel.frontends.luminal import Feed, from_luminal, price
from costmodel.ir import Barrier
from tests import luminal_terms as lt
from tests.luminal_terms import Interpreter, accum, enter, gmem, leave, text
from tests.oracle import count, evaluate

FOUR = lambda a, b, c, d: (("a", a, b * c * d), ("b", b, c * d), ("c", c, d), ("d", d, 1))  # noqa: E731
EMPTY: dict[str, Any] = {}


def elementwise(operation, *labels, shape=(3, 2, 4, 8)):
    levels = FOUR(*shape)
    return leave((*operation, *(enter(gmem(label), *levels) for label in labels)), *levels)


def merged(m, n):
    """One loop over m·n, whose strides divide."""
    z, rows, columns = lt.Z, ("MMul", ("MNum", m), ("MNum", n)), ("MNum", n)
    stride = ("MAdd", ("MMul", ("MDiv", z, columns), ("MNum", n)), ("MMod", z, columns))
    transposed = ("MAdd", ("MDiv", z, columns), ("MMul", ("MMod", z, columns), ("MNum", m)))
    return leave(("Exp2", enter(gmem("A"), ("mn", rows, transposed))), ("mn", rows, stride))


def padded(n, left):
    """A with zeros before it, as luminal pads: clamped index, times a mask of 0 and 1."""
    clamped = ("MMax", ("MSub", lt.Z, ("MNum", left)), ("MNum", 0))
    mask = ("MGte", lt.Z, ("MNum", left))
    masked = ("Mul", enter(gmem("A"), ("i", n + left, clamped)), enter(gmem("Mask"), ("i", n + left, mask)))
    return leave(masked, ("i", n + left, 1))


def sliced(n, first, last):
    """Elements first to last, the rest of the index clamped as `MMin` and floored as `MFloorTo`."""
    index = ("MMin", ("MAdd", lt.Z, ("MNum", first)), ("MNum", last))
    floored = ("MFloorTo", lt.Z, ("MNum", 4))
    return leave(("Add", enter(gmem("A"), ("i", n, index)), enter(gmem("B"), ("i", n, floored))), ("i", n, 1))


def kept_in_registers(n):
    """A loop inside a thread writes what a second one reads."""
    around = (("x", 4, n), ("p", 1, 0), *lt.PADS)
    squares = leave(("Mul", *[enter(gmem("A"), *around, ("i", n, 1))] * 2), ("i", n, 1))
    return leave(("Sqrt", enter(squares, ("i", n, 1))), *around, ("i", n, 1))


def inner_kernel(m, n):
    """A producer inside the outermost loop: one kernel writes for all of its turns."""
    first = leave(("Exp2", enter(gmem("A"), ("m", m, n), ("n", n, 1))), ("n", n, 1))
    return leave(("Sin", enter(first, ("n", n, 1))), ("m", m, n), ("n", n, 1))


PROGRAMS = {
    "add": (elementwise(("Add",), "A", "B"), {"A": 192, "B": 192}),
    "unary": (elementwise(("Unary", "Exp2"), "A"), {"A": 192}),
    "binary": (elementwise(("Binary", "Max"), "A", "B"), {"A": 192, "B": 192}),
    "copy": (leave(enter(gmem("A"), ("i", 6, 1), ("j", 5, 6)), ("i", 6, 5), ("j", 5, 1)), {"A": 30}),
    "matmul": (lt.matmul(6, 5, 7), {"A": 42, "B": 35, "acc_0": 1}),
    "tiled matmul": (lt.tiled_matmul(8, 12, 16, 4), {"A": 128, "B": 192, "acc_0": 1}),
    "shared matmul": (lt.shared_matmul(8, 12, 16, 4), {"A": 128, "B": 192, "acc_0": 1}),
    "padded shared matmul": (lt.shared_matmul(8, 8, 8, 4, pad=1), {"A": 64, "B": 64, "acc_0": 1}),
    "tensor matmul": (lt.tensor_matmul(16, 8, 24), {"A": 384, "B": 192}),
    "register tiles": (lt.register_tiled_matmul(8, 12, 5, 2, 2, 3), {"A": 40, "B": 60, "acc_0": 33}),
    "row sum": (lt.row_sum(5, 9), {"A": 45, "acc_0": 1}),
    "column sum": (lt.column_sum(5, 3), {"A": 15, "acc_0": 3}),
    "normalised": (lt.normalised(4, 6), {"A": 24, "acc_0": 1}),
    "merged": (merged(6, 4), {"A": 24}),
    "padded": (padded(10, 3), {"A": 10, "Mask": 2}),
    "sliced": (sliced(10, 2, 9), {"A": 10, "B": 9}),
    "registers": (kept_in_registers(5), {"A": 20}),
    "inner kernel": (inner_kernel(4, 6), {"A": 24}),
}


def computed(name):
    """The interpreter after its run, and the elements of the result."""
    term, elements = PROGRAMS[name]
    rng = np.random.default_rng(7)
    memory = {label: rng.uniform(0.5, 1.5, n) for label, n in elements.items()}
    memory |= {label: np.array([0.0, 1.0]) for label in memory if label == "Mask"}
    memory |= {label: np.zeros(n) for label, n in elements.items() if label.startswith("acc")}
    machine = Interpreter(memory)
    return machine, machine.run(term)


def touched(kernel, sizes=EMPTY):
    """How often each element of each global array is loaded, and stored, over the whole walk."""
    loads: dict[str, Counter[int]] = {}
    stores: dict[str, Counter[int]] = {}
    for site in kernel.statements():
        names = [str(loop.index) for loop in site.loops]
        extents = [evaluate(loop.extent, sizes) for loop in site.loops]
        for accesses, into in ((site.statement.loads, loads), (site.statement.stores, stores)):
            for access in accesses:
                if access.buffer.space != "global":
                    continue
                found = into.setdefault(access.buffer.name, Counter())
                for point in np.ndindex(*extents):
                    at = evaluate(access.index[0], {**sizes, **dict(zip(names, map(int, point), strict=True))})
                    found.update(range(at, at + int(access.width)))
    return loads, stores


def expected_values(name, memory):
    """By NumPy, where the program is a textbook one."""
    a, b = (memory.get(x) for x in "AB")
    return {
        "add": lambda: a + b,
        "unary": lambda: np.exp2(a),
        "binary": lambda: np.maximum(a, b),
        "copy": lambda: a.reshape(5, 6).T,
        "matmul": lambda: a.reshape(6, 7) @ b.reshape(7, 5),
        "tiled matmul": lambda: a.reshape(8, 16) @ b.reshape(16, 12),
        "shared matmul": lambda: a.reshape(8, 16) @ b.reshape(16, 12),
        "padded shared matmul": lambda: a.reshape(8, 8) @ b.reshape(8, 8),
        "tensor matmul": lambda: a.reshape(16, 24) @ b.reshape(24, 8),
        "register tiles": lambda: a.reshape(8, 5) @ b.reshape(5, 12),
        "row sum": lambda: a.reshape(5, 9).sum(axis=1),
        "column sum": lambda: a.reshape(5, 3).sum(axis=0),
        "normalised": lambda: np.exp2(a.reshape(4, 6)) / np.exp2(a.reshape(4, 6)).sum(axis=1, keepdims=True),
        "merged": lambda: np.exp2(a.reshape(4, 6).T),
        "padded": lambda: np.concatenate([np.zeros(3), a]),
        "sliced": lambda: a[np.minimum(np.arange(10) + 2, 9)] + b[np.arange(10) // 4 * 4],
        "registers": lambda: a,
        "inner kernel": lambda: np.sin(np.exp2(a)),
    }[name]()


@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_touch_what_the_interpreter_does_and_the_interpreter_is_right(name):
    machine, result = computed(name)
    assert [result[n] for n in sorted(result)] == pytest.approx(list(expected_values(name, machine.memory).flat))
    program = from_luminal(text(PROGRAMS[name][0]))
    written: dict[str, set[int]] = {}
    for kernel in program.kernels:
        count(kernel, {})  # refuses what leaves its array
        loads, stores = touched(kernel)
        for label, name_of in program.inputs.items():
            if name_of in loads:
                assert set(loads[name_of]) <= set(machine.reads[label])
        for buffer in loads.keys() - set(program.inputs.values()):
            assert set(loads[buffer]) <= written[buffer]  # by an earlier kernel
        written |= {buffer: set(found) for buffer, found in stores.items()}
    assert written[program.output] == set(result)
    read = {b for k in program.kernels for b in touched(k)[0]}
    assert {program.inputs[label] for label in machine.reads} == read & set(program.inputs.values())


ONCE_EACH = ["add", "unary", "matmul", "tiled matmul", "row sum", "column sum", "merged", "padded", "inner kernel"]


@pytest.mark.parametrize("name", ONCE_EACH)
def test_each_element_is_loaded_as_often_as_the_language_reads_it(name):
    """Where nothing is read twice in one place, nothing is shared and nothing moves out of loops; starts of sums are per thread."""
    machine, _ = computed(name)
    program = from_luminal(text(PROGRAMS[name][0]))
    loads: dict[str, Counter[int]] = {}
    for kernel in program.kernels:
        for buffer, found in touched(kernel)[0].items():
            loads[buffer] = loads.get(buffer, Counter()) + found
    for label, times_read in machine.reads.items():
        assert loads[program.inputs[label]] == times_read, label


@pytest.mark.parametrize("name", PROGRAMS)
def test_requested_bytes_are_those_of_the_walk(name):
    for kernel in from_luminal(text(PROGRAMS[name][0])).kernels:
        walked = count(kernel, {})
        by_formula = traffic(kernel).bind()
        for statement in walked.statements:
            for access in (*statement.loads, *statement.stores):
                if access.access.buffer.space == "global":
                    total = sum(f.requested_bytes for f in by_formula if f.statement == statement.statement.name
                                and f.buffer == access.access.buffer.name and {f.source, f.target} == {"l1", "register"})  # fmt: skip
                    same = [a for s in walked.statements if s.statement.name == statement.statement.name
                            for a in (*s.loads, *s.stores) if a.access.buffer.name == access.access.buffer.name]  # fmt: skip
                    assert total == sum(a.requested_bytes for a in same)


def counted(term, sizes=EMPTY, **options):
    """Totals by statement name, of the only kernel."""
    (kernel,) = from_luminal(text(term), **options).kernels
    return kernel, {s.statement.name: s for s in count(kernel, dict(sizes)).statements}


def test_bytes_of_a_product_by_hand():
    m, n, k = 16, 24, 8
    kernel, found = counted(lt.matmul(m, n, k))
    add = found["Add to acc"]
    assert [a.requested_bytes for a in add.loads[:2]] == [4 * m * n * k] * 2  # every product loads both factors
    assert [a.footprint_bytes for a in add.loads[:2]] == [4 * m * k, 4 * k * n]
    assert found["start acc"].loads[0].requested_bytes == found["finish out"].stores[0].requested_bytes == 4 * m * n
    assert dict(count(kernel, {}).work) == {("fma", "f32"): m * n * k}
    assert [str(e) for e in (*kernel.grid_shape(), *kernel.block_shape())] == ["16", "24", "1", "1", "1", "1"]


def test_bytes_of_a_product_in_shared_memory_by_hand():
    m, n, k, t = 16, 24, 32, 8
    kernel, found = counted(lt.shared_matmul(m, n, k, t))
    for operand in ("stage shared", "stage shared_1"):
        assert found[operand].loads[0].requested_bytes == found[operand].stores[0].requested_bytes == 4 * m * n * k // t
    multiply = found["Add to acc_1"]
    assert [a.requested_bytes for a in multiply.loads[:2]] == [4 * m * n * k] * 2
    assert {b.name: int(b.size_bytes) for b in kernel.buffers if b.space == "shared"} == {"shared": 256, "shared_1": 256}
    barriers = [site for site in kernel.sites if isinstance(site.leaf, Barrier)]
    assert len(barriers) == 4  # before each store and before each read, in every step over k
    assert all([str(loop.index) for loop in site.serial()] == ["k"] for site in barriers)
    assert estimate(kernel, "H100").shared_bytes_per_block == 512


def test_a_padded_tile_of_shared_memory_takes_what_it_reaches():
    (kernel,) = from_luminal(text(lt.shared_matmul(16, 16, 16, 8, pad=1))).kernels
    assert {int(b.elements) for b in kernel.buffers if b.space == "shared"} == {7 * 9 + 8}


def test_a_matrix_product_by_hand():
    m, n, k = 32, 16, 64
    kernel, found = counted(lt.tensor_matmul(m, n, k))
    tiles = (m // 8) * (n // 8)
    assert dict(count(kernel, {}).work) == {("mma", "tf32"): m * n * k}
    assert found["load A"].loads[0].requested_bytes == found["load B"].loads[0].requested_bytes == tiles * (k // 8) * 64 * 4
    assert found["TCMatmul to out"].stores[0].requested_bytes == found["TCMatmul to out"].stores[0].footprint_bytes == m * n * 4
    assert found["load A"].loads[0].footprint_bytes == m * k * 4
    assert found["load A"].warps == tiles * (k // 8)  # a warp for each block
    assert found["load A"].loads[0].sectors == tiles * (k // 8) * 8  # a row of a tile is one sector


def test_a_row_sum_by_hand():
    kernel, found = counted(lt.row_sum(40, 100, operation=lambda x: ("Exp2", ("Neg", x))))
    assert found["Add to acc"].loads[0].requested_bytes == found["Add to acc"].loads[0].footprint_bytes == 40 * 100 * 4
    assert dict(count(kernel, {}).work) == {("special", "f32"): 4000, ("add", "f32"): 4000}  # a negation goes with its use


def test_an_array_of_accumulators_is_kept_in_registers():
    kernel, found = counted(lt.column_sum(5, 3))
    (acc,) = (b for b in kernel.buffers if b.space == "register")
    assert int(acc.elements) == 3
    assert found["start acc"].executions == found["finish out"].executions == 3
    assert found["Add to acc"].executions == 15
    inner = [loop for loop in kernel.loops() if loop.kind == "serial" and loop.unroll == loop.extent]
    assert [int(loop.extent) for loop in inner] == [3, 3, 3]  # start, sum, finish


def test_an_array_too_large_for_registers_is_memory_of_each_thread():
    """Neighbouring threads have neighbouring words, and a loop over it stays a loop."""
    around = (("a", 2, 0), ("b", 3, 0), ("x", 8, 0), ("y", 4, 0))
    squares = leave(("Exp2", enter(gmem("A"), *around, ("i", 300, 1))), ("i", 300, 1))
    acc = enter(gmem("acc_0"), *around, ("i", 300, accum()))
    out = (("a", 2, 96), ("b", 3, 32), ("x", 8, 1), ("y", 4, 8))
    kernel, found = counted(leave(("Add", enter(squares, ("i", 300, 1)), acc), *out, ("i", 300, accum())))
    (kept,) = (b for b in kernel.buffers if b.name == "kept")
    assert (kept.space, int(kept.elements)) == ("global", 300 * 2 * 3 * 32)
    written, read = found["Exp2 to kept"].stores[0], found["Add to acc"].loads[0]
    assert written.requested_bytes == written.footprint_bytes == read.requested_bytes == 4 * 300 * 192
    assert written.sectors * 32 == written.requested_bytes  # coalesced
    assert {int(loop.unroll) for loop in kernel.loops() if loop.kind == "serial"} == {4}


def test_register_tiles_load_each_operand_once_a_step_as_an_einsum_does():
    m, n, k, t, r, c = 16, 48, 6, 4, 2, 3
    kernel, found = counted(lt.register_tiled_matmul(m, n, k, t, r, c))
    ours = {a.access.buffer.name: a.requested_bytes for s in found.values() for a in s.loads if a.access.buffer.space == "global"}
    assert (ours["A"], ours["B"]) == (4 * m * n * k // c, 4 * m * n * k // r)
    product = from_einsum("mk,kn->mn", tile={"m": (t * r, r), "n": (t * c, c)})
    theirs = {s.statement.name: s.loads[0] for s in count(product, {"M": m, "N": n, "K": k}).statements}
    assert (ours["A"], ours["B"]) == (theirs["read A"].requested_bytes, theirs["read B"].requested_bytes)
    registers = {b.name: int(b.elements) for b in kernel.buffers if b.space == "register"}
    assert registers == {"acc": r * c, "part_B": c}  # rows of the result lie apart, those of its tile do not


def test_what_does_not_change_in_a_loop_is_loaded_before_it():
    """A factor for each thread, and its reciprocal, in a loop that writes registers."""
    around = (("x", 4, 1), ("p", 1, 0), *lt.PADS)
    scaled = ("Mul", enter(gmem("A"), *around[:1], *around[1:], ("i", 9, 4)), ("Recip", enter(gmem("B"), *around, ("i", 9, 0))))
    acc = enter(gmem("acc_0"), ("x", 4, 0), *around[1:], ("i", 9, accum()))
    kernel, found = counted(leave(("Add", scaled, acc), *around, ("i", 9, accum())))
    assert found["Recip"].executions == 4
    assert found["Recip"].loads[0].requested_bytes == 4 * 4
    assert dict(count(kernel, {}).work) == {("special", "f32"): 4, ("fma", "f32"): 36}


def test_nothing_moves_out_of_a_loop_that_stores_to_global_memory():
    """Pointers may overlap, so that a compiler loads again."""
    around = (("x", 4, 9), ("p", 1, 0), *lt.PADS)
    scaled = ("Mul", enter(gmem("A"), *around, ("i", 9, 1)), enter(gmem("B"), ("x", 4, 1), *around[1:], ("i", 9, 0)))
    _, found = counted(leave(scaled, *around, ("i", 9, 1)))
    assert found["Mul to out"].loads[1].requested_bytes == 4 * 9 * 4


def test_a_kernel_that_two_others_read_is_launched_once():
    program = from_luminal(text(lt.normalised(4, 6)))
    assert [k.name for k in program.kernels] == ["luminal_0", "luminal_1", "luminal_2"]
    powers, sums = program.feeds[0].buffer, program.feeds[-1].buffer
    assert {(f.buffer, f.producer, f.consumer) for f in program.feeds} == {(powers, 0, 1), (powers, 0, 2), (sums, 1, 2)} or {
        (f.buffer, f.producer, f.consumer) for f in program.feeds
    } == {("t0", 0, 1), ("t0", 0, 2), ("t1", 1, 2)}
    assert program.inputs == {"A": "A", "acc_0": "acc_0"}
    assert program.output == "out"


def test_a_producer_inside_a_loop_writes_for_every_turn():
    program = from_luminal(text(inner_kernel(4, 6)))
    assert program.feeds == (Feed("t0", 0, 1),)
    first, second = program.kernels
    assert touched(first)[1] == {"t0": Counter(range(24))}
    assert touched(second)[0] == {"t0": Counter(range(24))}


def test_sizes_stay_symbols():
    m, n, k = (("MVar", name) for name in "mnk")
    program = from_luminal(text(lt.matmul(m, n, k)))
    assert program.params == ("k", "m", "n")
    (kernel,) = program.kernels
    shapes = {b.name: str(b.shape[0]) for b in kernel.buffers if b.space == "global"}
    sizes = {"m": 6, "n": 5, "k": 7}
    _, fixed = counted(lt.matmul(6, 5, 7))
    found = {s.statement.name: s for s in count(kernel, sizes).statements}
    for name, statement in fixed.items():
        assert [a.requested_bytes for a in found[name].loads] == [a.requested_bytes for a in statement.loads]
        assert [a.footprint_bytes for a in found[name].loads] == [a.footprint_bytes for a in statement.loads]
    elements = {b.name: evaluate(b.elements, sizes) for b in kernel.buffers if b.space == "global"}
    assert elements == {"A": 42, "B": 35, "acc_0": 1, "out": 30}, shapes
    assert price(program, "H100", m=512, n=512, k=512).seconds > price(program, "H100", m=256, n=512, k=512).seconds


def test_three_loops_of_the_grid_and_three_of_the_block():
    levels = tuple((x, 2, 32 // 2**n) for n, x in enumerate("abcdef"))
    (kernel,) = from_luminal(text(leave(("Exp2", enter(gmem("A"), *levels)), *levels)), grid=3, block=3).kernels
    assert [int(e) for e in (*kernel.grid_shape(), *kernel.block_shape())] == [2] * 6
    (store,) = (a for s in kernel.statements() for a in s.statement.stores)
    assert str(store.index[0]) == "32*block_x + 16*block_y + 8*block_z + 4*thread_x + 2*thread_y + thread_z"


def test_one_loop_is_a_grid_of_single_threads():
    (kernel,) = from_luminal(text(merged(6, 4))).kernels
    assert [int(e) for e in (*kernel.grid_shape(), *kernel.block_shape())] == [24, 1, 1, 1, 1, 1]
    assert estimate(kernel, "H100").seconds > 0


def test_labels_become_names():
    term = leave(("Add", enter(gmem("model.0.weight"), ("0", 4, 1)), enter(gmem("out"), ("0", 4, 1))), ("0", 4, 1))
    program = from_luminal(text(term))
    assert program.inputs == {"model.0.weight": "model_0_weight", "out": "out_1"}
    assert {b.name for b in program.kernels[0].buffers} == {"model_0_weight", "out_1", "out"}


def test_fused_loops_mark_what_stands_in_them_already():
    plain = leave(("Exp2", ("Sin", enter(gmem("A"), ("i", 4, 1)))), ("i", 4, 1))
    fused = leave(("Exp2", ("FusedLoops", ("Sin", enter(gmem("A"), ("i", 4, 1))), ("MNum", 4))), ("i", 4, 1))
    assert from_luminal(text(fused)).kernels == from_luminal(text(plain)).kernels


@pytest.mark.parametrize("gpu", ["H100", "A100", "RTX 3090"])
def test_a_tiled_product_is_cheaper_than_a_naive_one(gpu):
    naive, tiled, staged = (from_luminal(text(f(1024, 1024, 1024))) for f in (lt.matmul, lt.tiled_matmul, lt.shared_matmul))
    assert price(staged, gpu).seconds < price(naive, gpu).seconds
    assert price(tiled, gpu).seconds < price(naive, gpu).seconds


def global_bytes(program):
    """luminal's proposal for a cost without a GPU: bytes of global memory that the kernels ask for."""
    total = 0
    for kernel in program.kernels:
        for flow in traffic(kernel).bind():
            total += flow.requested_bytes * ({flow.source, flow.target} == {"l1", "register"})
    return total


@pytest.mark.parametrize("name", ONCE_EACH)
def test_bytes_moved_agree_with_the_sum_over_the_term(name):
    machine, result = computed(name)
    reads = sum(sum(found.values()) for found in machine.reads.values())
    between = {"inner kernel": 2 * 24}.get(name, 0)  # t0 written and read
    assert global_bytes(from_luminal(text(PROGRAMS[name][0]))) == 4 * (reads + len(result) + between)


def test_bytes_alone_cannot_tell_tiles_of_the_grid_apart_but_the_price_can():
    """The naive product and the tiled one ask for as many bytes; coalescing tells them apart."""
    naive, tiled = (from_luminal(text(f(256, 256, 256))) for f in (lt.matmul, lt.tiled_matmul))
    assert global_bytes(naive) == global_bytes(tiled)
    assert price(tiled, "H100").seconds < price(naive, "H100").seconds


# --- programs at random ----------------------------------------------------------------------------


@st.composite
def programs(draw):
    """A loop nest over two arrays with any strides, some of whose inner loops are summed over."""
    levels = draw(st.integers(1, 7))
    extents = [draw(st.integers(1, 3)) for _ in range(levels)]
    summed = [n >= 4 and draw(st.booleans()) for n in range(levels)]
    row_major, step = [0] * levels, 1
    for n in reversed(range(levels)):
        row_major[n], step = step, step if summed[n] else step * extents[n]
    names = [f"l{n}" for n in range(levels)]

    def operand(label):
        return enter(gmem(label), *((names[n], extents[n], draw(st.integers(0, 4))) for n in range(levels)))

    kept = [accum(f"s{n}") if summed[n] else row_major[n] for n in range(levels)]
    a, b = operand("A"), operand("B")
    value = draw(
        st.sampled_from(
            [a, ("Add", a, b), ("Mul", ("Exp2", a), ("Neg", b)), ("Max", ("Unary", "Sin", a), ("Add", ("Mul", a, b), b))]
        )
    )
    if any(summed):
        first = summed.index(True)
        start = enter(gmem("acc"), *((names[n], extents[n], kept[n] if n >= first else 0) for n in range(levels)))
        value = (draw(st.sampled_from(["Add", "Max"])), value, start)
    return leave(value, *zip(names, extents, kept, strict=True))


@pytest.mark.soak
@given(programs())
def test_any_loop_nest_touches_what_the_interpreter_does(term):
    rng = np.random.default_rng(3)
    machine = Interpreter({"A": rng.uniform(1, 2, 200), "B": rng.uniform(1, 2, 200), "acc": np.zeros(200)})
    result = machine.run(term)
    (kernel,) = from_luminal(text(term)).kernels
    count(kernel, {})
    loads, stores = touched(kernel)
    assert set(stores["out"]) == set(result)
    assert loads.keys() == machine.reads.keys()
    for label, found in machine.reads.items():
        assert loads[label].keys() == found.keys()
        assert all(times <= found[at] for at, times in loads[label].items())  # what does not change is loaded once
