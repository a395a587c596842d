"""The Helion front end against the code that Helion generates, run in Triton's interpreter, and against its own facts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from costmodel.counts import traffic
from costmodel.errors import SizeError, UnsupportedError
from costmodel.frontends.helion import HelionSpace, from_helion, from_helion_code
from costmodel.ir import Statement, from_json, to_json
from tests import oracle

INSTALL = (
    "pip install --no-deps helion && pip install filecheck numpy psutil rich scikit-learn packaging torch==2.13.0 triton==3.7.1"
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    helion = pytest.importorskip("helion", reason=INSTALL)
torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from tests import helion_cases, helion_edges, helion_kernels, helion_unseen  # noqa: E402

CASES = helion_cases.CASES
RUNS = [(name, n) for name, case in CASES.items() for n in range(len(case.configs))]
LARGEST = 400_000
"""Thread-iterations of a statement up to which a kernel is walked."""


@pytest.fixture(scope="module")
def bound():
    known = {}

    def bind(name):
        if name not in known:
            known[name] = CASES[name].bind()
        return known[name]

    return bind


@pytest.fixture(scope="module")
def converted(bound):
    spaces: dict = {}

    def convert(name, n=0):
        space = spaces.setdefault(name, HelionSpace(bound(name)))
        return space.kernel(helion_cases.whole(bound(name), CASES[name].configs[n]))

    return convert


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """Bytes that Helion's Triton code asks for, element by element."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "HELION_CACHE_DIR": str(tmp_path_factory.mktemp("helion"))}
    command = [sys.executable, "-W", "ignore", "-m", "tests.helion_interpreted"]
    root = Path(__file__).parent.parent
    ran = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize(("name", "n"), RUNS)
def test_requested_bytes_equal_the_interpreters(name, n, converted, interpreted):
    read, asked = converted(name, n).requested_bytes(), interpreted[name][n]
    assert read < asked if name in TWICE else read == asked


@pytest.mark.parametrize(("name", "n"), [(name, n) for name, n in RUNS if n < 2])
def test_walking_all_threads_stays_in_bounds_and_counts_the_same(name, n, converted):
    k = converted(name, n)
    counts = oracle.count(_only_global(k.kernel), k.sizes, limit=LARGEST)
    walked = sum(a.requested_bytes for s in counts.statements for a in (*s.loads, *s.stores))
    assert walked == k.requested_bytes()


def _only_global(k):
    """The kernel with only what touches global memory: the walk is long."""

    def kept(nodes):
        for node in nodes:
            if isinstance(node, Statement):
                loads, stores = (tuple(a for a in g if a.buffer.space == "global") for g in (node.loads, node.stores))
                if loads or stores:
                    yield replace(node, loads=loads, stores=stores, asynchronous=False)
            elif hasattr(node, "body"):
                body = tuple(kept(node.body))
                if body:
                    yield replace(node, body=body)

    body = tuple(kept(k.body))
    return from_json(to_json(replace(k, body=body, buffers=tuple(b for b in k.buffers if b.space == "global"))))


GATHERING = {"embedding": "weight", "cross_entropy": "flat"}


PARTLY = {"sums_before", "added_repeated_row"}
"""Not all columns of the last rows; a row that is an array of equal rows, which the counts take as different."""


@pytest.mark.parametrize("name", [name for name in CASES if name not in PARTLY])
def test_arrays_are_those_of_helions_facts_and_are_touched_whole(name, converted, bound):
    k = converted(name)
    facts = {f.tensor_name: f.accessed_numel * f.dtype.itemsize for f in bound(name).config_spec.memory_op_facts if f.tensor_name}
    found: dict = {}
    for flow in traffic(k.kernel).bind(**k.sizes):
        if "dram" in (flow.source, flow.target):
            found[flow.buffer] = max(found.get(flow.buffer, 0), flow.footprint_bytes)
    assert found.keys() == facts.keys()
    gathered = GATHERING.get(name)
    assert {n: b for n, b in found.items() if n != gathered} == {n: b for n, b in facts.items() if n != gathered}
    assert any("data name" in note for note in k.notes) == (gathered is not None)


@pytest.mark.parametrize("name", ["add", "softmax", "matmul"])
def test_a_whole_space_is_priced_as_each_of_it_is(name, bound):
    generation = bound(name).config_spec.create_config_generation(
        overrides=None, advanced_controls_files=None, process_group_name=bound(name).env.process_group_name
    )
    configs = [bound(name).config_spec.default_config(), *(generation.random_config() for _ in range(12))]
    space = HelionSpace(bound(name))
    seconds = space.score(configs, "H100")
    for config, priced in zip(configs, seconds, strict=True):
        if np.isfinite(priced):
            assert space.kernel(config).estimate("H100").seconds == pytest.approx(priced)
    assert np.isfinite(seconds).sum() >= 6 if name != "add" else np.isfinite(seconds).any()


UNEVEN = [("matmul", 2), ("gelu_product", 3)]
"""Blocks in uneven groups, and loads from addresses that are loaded: the Triton front end cannot count these."""
MINIMA = {"causal_attention", "running_sums", "sums_before", "nested_sums"}
"""Loops to the end of a tile or of all tiles, whichever comes first: nor these."""
ONE_STEP = ("welford", 2)
"""Two loops of one step each load the same tile; Triton's compiler does it once."""
COMPILED = [(n, c) for n, c in RUNS if n not in GATHERING and n not in MINIMA and (n, c) not in UNEVEN]
TWICE = {"two_products", "gated_by_itself"}
"""A tile is loaded twice with no store between; Triton's compiler does it once."""


@pytest.fixture(scope="module")
def code(bound, tmp_path_factory):
    known = {}
    folder = tmp_path_factory.mktemp("analysed")

    def convert(name, n, target="sm_90"):
        if (name, n, target) not in known:
            case = CASES[name]
            config = helion_cases.whole(bound(name), case.configs[n])
            known[name, n, target] = from_helion_code(bound(name), config, case.arguments(), target=target, cache=folder)
        return known[name, n, target]

    return convert


@pytest.mark.parametrize(("name", "n"), COMPILED)
def test_the_compiled_code_asks_for_the_same_bytes(name, n, converted, code):
    compiled, read = code(name, n).requested_bytes(), converted(name, n).requested_bytes()
    assert compiled < read if (name, n) == ONE_STEP else compiled == read


def _shared_bytes(k):
    held = [b.size_bytes for b in k.kernel.buffers if b.space == "shared" and not b.exchange]
    return sum(int(e.subs({s: k.sizes[s.name] for s in e.free_symbols})) for e in held)


@pytest.mark.parametrize(("name", "n"), [(c.name, n) for c in CASES.values() for n in range(2) if c.name.startswith("matmul")])
def test_products_take_the_shared_memory_that_triton_says(name, n, converted, code):
    assert _shared_bytes(converted(name, n)) == code(name, n).shared_bytes


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize(("stages", "rows"), [(2, 64), (4, 64), (3, 32)])
def test_warp_groups_keep_all_stages(target, stages, rows, tmp_path):
    arguments = (torch.rand(256, 256).half(), torch.rand(256, 256).half())
    product = helion_kernels.matmul.bind(arguments)
    config = helion_cases.whole(product, {"block_sizes": [rows, 128, 32], "num_stages": stages})
    told = from_helion_code(product, config, arguments, target=target, cache=tmp_path)
    assert _shared_bytes(from_helion(product, config, target=target)) == told.shared_bytes


@pytest.mark.parametrize(
    ("target", "names", "rms", "least", "most"),
    [
        ("sm_90", helion_cases.SEEN, 15, 0.5, 2),
        ("sm_90", helion_cases.UNSEEN, 20, 0.5, 2.5),
        ("sm_80", ["matmul", "four_axes", "gelu_product"], 27, 0.5, 3),
    ],
)
def test_registers_are_near_the_assemblers(target, names, rms, least, most, converted, code):
    """Root mean square of the difference, and ratios above 24 registers; constants were chosen on the first of these sets."""
    runs = [run for run in COMPILED if run[0] in names]
    ours = np.array([converted(*run).sizes["thread_registers"] for run in runs])
    theirs = np.array([code(*run, target).registers for run in runs])
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < rms
    ratios = np.maximum(ours, 24) / np.maximum(theirs, 24)
    assert least < ratios.min() < ratios.max() < most


def test_one_description_has_blocks_warps_and_stages_as_its_sizes(converted):
    assert converted("matmul", 0).kernel is converted("matmul", 1).kernel


REFUSED = {
    "jagged_sum": (lambda: (torch.rand(100), torch.arange(0, 110, 10)), "for column in hl.tile", "a loop from 0 to longest"),
    "column_sums": (lambda: (torch.rand(64, 64),), "hl.atomic_add", "operation atomic_add"),
    "jagged_means": (lambda: (torch.rand(100, 40), torch.arange(0, 110, 10)), "for ", "a loop from"),
    "first_ones": (lambda: (torch.rand(64),), "extra_mask=", "array x is masked by lt"),
    "lower_half": (lambda: (torch.rand(64, 64),), "extra_mask=", "array x is masked by ge"),
    "two_passes": (lambda: (torch.rand(64),), "for i in hl.tile", "2 loops over the grid"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_not_understood_is_named_with_its_line(name):
    arguments, source, named = REFUSED[name]
    kernel = next(getattr(m, name) for m in (helion_kernels, helion_unseen, helion_edges) if hasattr(m, name))
    with pytest.raises(UnsupportedError, match=f"Helion kernel {name}, .*{named}") as refused:
        from_helion(kernel.bind(arguments()))
    ((file, line),) = re.findall(r", (\w+\.py):(\d+): ", str(refused.value))
    assert source in Path(__file__).with_name(file).read_text().splitlines()[int(line) - 1]


def test_loops_to_a_tiles_end_that_cannot_be_counted_are_refused(bound):
    space = HelionSpace(bound("remaining_sums"))
    with pytest.raises(
        UnsupportedError, match="a loop over tiles of 16 that starts or ends at the edge of a tile of 8; expected"
    ):
        space.kernel({"block_sizes": [8, 16, 8]})
    x = torch.empty(20_000, 20_000, dtype=torch.float16)
    space = HelionSpace(helion_edges.running_sums.bind((x,)))
    configs = [{"block_sizes": [16, 16]}, {"block_sizes": [512, 512]}]
    assert np.isnan(space.score(configs, "H100")).tolist() == [True, False]


def test_causal_attention_takes_half_the_time(bound):
    q = torch.empty(64, 2048, 64, dtype=torch.float16)
    full, causal = (HelionSpace(k.bind((q, q, q))) for k in (helion_kernels.attention, helion_edges.causal_attention))
    configs = [{"block_sizes": [1, 64, keys], "num_warps": 4, "num_stages": 2} for keys in (32, 64)]
    assert causal.score(configs, "H100") / full.score(configs, "H100") == pytest.approx(0.55, abs=0.05)


def test_a_configuration_is_analysed_in_less_than_20_ms(bound):
    spec = bound("matmul").config_spec
    generation = spec.create_config_generation(
        overrides=None, advanced_controls_files=None, process_group_name=bound("matmul").env.process_group_name
    )
    space, configs = HelionSpace(bound("matmul")), [generation.random_config() for _ in range(100)]
    start = time.perf_counter()
    for config in configs:
        space.kernel(config)
    assert time.perf_counter() - start < 0.02 * len(configs)


def test_blocks_beyond_what_a_launch_has_along_y_are_numbered_in_a_row():
    x = torch.empty(1 << 20, 32, dtype=torch.float16)
    space = HelionSpace(helion_kernels.add.bind((x, x)))
    tall, low = ({"block_sizes": sizes, "loop_orders": [[1, 0]], "num_warps": 1} for sizes in ([1, 32], [32, 32]))
    assert space.kernel(tall).kernel.grid_shape()[1] == 1 != space.kernel(low).kernel.grid_shape()[1]
    assert space.kernel(tall).requested_bytes() == space.kernel(low).requested_bytes() == 3 * 2 * x.numel()
    assert np.isfinite(space.score([tall, low], "H100")).all()


def test_the_numbering_of_blocks_hardly_moves_the_price(monkeypatch):
    x = torch.empty(2048, 2048, dtype=torch.float16)
    product = helion_kernels.matmul.bind((x, x))
    configs = [{"block_sizes": [m, n, 32], "num_stages": 3} for m in (32, 128) for n in (64, 128)]
    along = HelionSpace(product).score(configs, "H100")
    monkeypatch.setattr("costmodel.frontends.helion.kernel._GRID_AXES", 1)
    assert HelionSpace(product).score(configs, "H100") == pytest.approx(along, rel=0.01)


def test_what_helion_refuses_is_an_error_of_ours(bound):
    space = HelionSpace(bound("add"))
    with pytest.raises(SizeError, match=r"Helion kernel add: .*power of two, got 3"):
        space.kernel({"block_sizes": [3, 32]})
    assert np.isnan(space.score([{"block_sizes": [3, 32]}, {}], "H100")).tolist() == [True, False]


def test_products_of_fp32_are_those_that_the_precision_says(bound):
    assert from_helion(bound("single_product")).estimate("H100").seconds > 0
    exact = helion.kernel(helion_unseen.single_product.fn, dot_precision="ieee", autotune_effort="none")
    with pytest.raises(UnsupportedError, match="a product of fp32 in ieee"):
        from_helion(exact.bind(CASES["single_product"].arguments()))


def test_flattened_loops_are_refused(bound):
    with pytest.raises(UnsupportedError, match="flatten_loops"):
        from_helion(bound("add"), {"flatten_loops": [True], "block_sizes": [8, 64]})


def test_tensors_need_no_memory():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x = torch.empty(1 << 15, 1 << 14)
    k = from_helion(helion_kernels.softmax.bind((x,)))
    assert k.requested_bytes() == 4 * (4 << 29)  # rows too long for Helion to hold: 3 reads + 1 write
    assert k.estimate("H100").seconds > 2 * (4 << 29) / 3.36e12  # once from and once to the DRAM of an H100
