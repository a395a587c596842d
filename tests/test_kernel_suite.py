"""The CUDA kernels of validation/kernels run on the CPU: they access what their descriptions say, and compute what they should."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from costmodel import Scorer, estimate
from costmodel.cost import description_names, find_description, search_space
from costmodel.counts import traffic
from tests.cuda_suite import KERNELS, Configuration, OnCpu, Ran, contents, expected, of, one_folder, shaped
from tests.oracle import count

needs_gcc = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++ (12 or later, for C++20)")


_FIRST = ("reduce_interleaved", "reduce_strided", "reduce_sequential", "reduce_first_add", "reduce_shuffle")
_BOTH = [{"STAGED": staged, "ONLINE": online} for staged in (0, 1) for online in (0, 1)]

# sizes with tails wherever a kernel has a guard
SMALL = [
    of("gemm", M=64, N=32, K=16, BM=32, BN=16, BK=8, TM=8, TN=4),
    of("vector_add", N=1000, B=96),
    of("matrix_sum_coalesced", N=32, T=8),
    of("matrix_sum_normal", N=32, T=8),
    of("copy", N=1000, B=64, V=4),
    of("copy", N=998, B=64, V=2),
    of("transpose_naive", N=64, T=32, R=8),
    of("transpose_shared", N=64, T=32, R=8),
    of("transpose_padded", N=48, T=16, R=4),
    *(of(name, N=1000, B=128) for name in _FIRST),
    of("reduce_shuffle", N=700, B=64),
    of("reduce_grid_stride", N=2000, B=96, G=3),
    of("row_sum_block", M=3, N=520, B=64),
    of("row_sum_warp", M=7, N=136, B=96),
    of("convolution_2d", NX=40, NY=20, BX=16, BY=4, TX=1, TY=2, F=5, SHMEM=1, PAD=1, READ_ONLY=1, ALIGNED=0),
    of("convolution_2d", NX=64, NY=16, BX=16, BY=4, TX=2, TY=2, F=3, SHMEM=1, PAD=0, READ_ONLY=0, ALIGNED=1),
    of("convolution_2d", NX=64, NY=16, BX=32, BY=4, TX=2, TY=1, F=3, SHMEM=0, PAD=0, READ_ONLY=0, ALIGNED=1),
    of("star3d", NX=40, NY=12, NZ=11, BX=16, BY=2, BZ=2, R=2),
    of("box2d", NX=40, NY=12, BX=16, BY=2, R=2),
    of("jacobi_3d", NX=37, NY=12, NZ=10, BX=16, BY=4, DEPTH=4, STAGED=0),
    of("jacobi_3d", NX=37, NY=12, NZ=10, BX=16, BY=4, DEPTH=4, STAGED=1),
    of("strided_copy", N=300, B=64, V=1, S=7),
    of("strided_copy", N=300, B=64, V=4, S=2),
    of("gathered_copy", N=1024, B=32, V=1, R=64, C=8),
    of("gathered_copy", N=512, B=64, V=4, R=128, C=2),
    of("row_softmax_warp", M=5, N=200, B=64, EACH=2),
    *(of("row_softmax_block", M=3, N=400, B=64, **flags) for flags in _BOTH),
    of("row_layer_norm_warp", M=5, N=200, B=64, EACH=2),
    *(of("row_layer_norm_block", M=3, N=400, B=64, STAGED=staged) for staged in (0, 1)),
]
IDS = [str(c) for c in SMALL]
NEW = [c for c in SMALL if c.name.startswith(("jacobi", "strided", "gathered", "row_softmax", "row_layer"))]


def test_every_code_is_run_here() -> None:
    """A description with CUDA beside it is among the configurations that run, and each file belongs to one."""
    with_code = {n for n in description_names() if "cuda" in _codes(n).get(n, {})}
    assert with_code == {c.name for c in SMALL}
    assert {path.name for path in KERNELS.glob("*.cu")} == {c.code["cuda"] for c in SMALL}


def _codes(name: str) -> dict[str, Any]:
    return dict(find_description(name).function.__globals__.get("CODE", {}))


@pytest.mark.parametrize("name", sorted({c.name for c in SMALL}))
def test_measured_spaces_are_modest(name: str) -> None:
    """Few enough for half an hour on one GPU, more than one size, and arrays that a small board holds."""
    description = find_description(name)
    space: Any = _codes(name)[name].get("space") or search_space(description)
    assert space.keys() <= {*description.arguments}
    rows = pd.DataFrame(itertools.product(*(np.atleast_1d(v) for v in space.values())), columns=list(space))
    launched = rows[Scorer(description, "H200").score({n: rows[n].tolist() for n in rows}).feasible]
    assert 9 <= len(launched) <= 300
    argument = _codes(name)[name]["arguments"]
    assert name == "convolution_2d" or any(launched[n].nunique() > 1 for n in (argument or ("N",)))
    for row in launched.sample(5, random_state=0).to_dict("records"):
        c = of(name, **row)
        assert sum(c.value(b.size_bytes) for b in c.buffers) <= 8e9


# -- on the CPU


@pytest.fixture(scope="session")
def cpu(tmp_path_factory: pytest.TempPathFactory) -> OnCpu:
    return OnCpu(SMALL, one_folder(tmp_path_factory.getbasetemp(), os.environ.get("PYTEST_XDIST_WORKER", ""), "cpu"))


def _run(cpu: OnCpu, c: Configuration, backwards: bool = False) -> Ran:
    """The convolution's taps are merged, and its threads beyond the image read what nobody staged."""
    taps = c.name == "convolution_2d"
    number = [str(other) for other in cpu.configurations].index(str(c))
    return cpu.run(number, contents(c), backwards, merge=taps, unwritten=taps)


def _described(c: Configuration) -> dict[tuple[str, str], Counter[str]]:
    """What the oracle counts of each buffer; all of shared memory is one, and shuffles are none of it."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for statement in count(c.kernel, c.bound).statements:
        for kind, accesses in (("load", statement.loads), ("store", statement.stores)):
            for a in accesses:
                name = {"shared": "", "global": a.access.buffer.name}.get(a.access.buffer.space)
                if name is None:
                    continue
                shuffle = a.access.buffer.exchange or statement.statement.name == "shuffle"
                key = ("shuffles", kind) if shuffle else (name, kind)
                fields = ("requested_bytes", "requests", "sectors", "lines", "wavefronts")
                found.setdefault(key, Counter()).update({f: getattr(a, f) for f in fields})
    return found


@needs_gcc
@pytest.mark.parametrize("c", SMALL, ids=IDS)
def test_the_code_accesses_what_the_description_says(cpu: OnCpu, c: Configuration) -> None:
    """Bytes, requests, sectors, lines and wavefronts of every buffer, exactly."""
    ran, described = _run(cpu, c), _described(c)
    shuffles = described.pop(("shuffles", "load"), Counter())["requests"]
    assert ran.shuffles == shuffles
    for (name, kind), totals in ran.totals.items():
        fields = ["requested_bytes", "requests", "sectors", "lines"] if name else ["requested_bytes", "requests", "wavefronts"]
        if c.all.get("SHMEM") and (name, kind) in (("image", "load"), ("", "store")):
            fields = ["requested_bytes"]  # lanes with one column more are a trip behind: their visits do not tell which
        found = {f: getattr(totals, f) for f in fields}
        assert found == {f: described.get((name, kind), Counter())[f] for f in fields}, (name or "shared", kind)


@needs_gcc
@pytest.mark.parametrize("c", SMALL, ids=IDS)
def test_the_code_moves_the_bytes_of_the_traffic(cpu: OnCpu, c: Configuration) -> None:
    """What `traffic` says is requested of each global buffer, exactly."""
    flows = traffic(c.kernel).bind(**c.bound)
    for (name, kind), totals in _run(cpu, c).totals.items():
        ends = ("l1", "register") if kind == "load" else ("register", "l1")
        if name:
            requested = sum(f.requested_bytes for f in flows if f.buffer == name and (f.source, f.target) == ends)
            assert totals.requested_bytes == requested, (name, kind)


@needs_gcc
@pytest.mark.parametrize("c", SMALL, ids=IDS)
def test_results_do_not_depend_on_who_comes_first(cpu: OnCpu, c: Configuration) -> None:
    forwards, backwards = _run(cpu, c), _run(cpu, c, backwards=True)
    for name, values in forwards.buffers.items():
        np.testing.assert_array_equal(values, backwards.buffers[name])


@needs_gcc
@pytest.mark.parametrize("c", SMALL, ids=IDS)
def test_results_are_those_of_the_reference(cpu: OnCpu, c: Configuration) -> None:
    """Where the reference has a number, it is right; where it has none, nothing is written."""
    pytest.importorskip("torch")
    given, ran = contents(c), _run(cpu, c)
    buffers = {b.name: b for b in c.buffers}
    references = expected(c, given)
    stored = {a.buffer.name for s in c.kernel.statements() for a in s.statement.stores if a.buffer.space == "global"}
    assert references.keys() == stored
    for name, reference in references.items():
        found = shaped(c, buffers[name], ran.buffers[name])
        assert found.shape == reference.shape
        written = ~np.isnan(reference)
        assert written.any()
        assert np.isnan(found[~written]).all()
        error = np.linalg.norm((found - reference)[written]) / np.linalg.norm(reference[written])
        assert error <= (1e-14 if found.dtype == np.float64 else 1e-6)
    for name in buffers.keys() - stored:
        np.testing.assert_array_equal(ran.buffers[name], given[name])


WRONG = [
    ("transpose_padded", "__syncthreads();", "", "that nobody has written"),
    ("reduce_first_add", "        __syncthreads();\n    }\n    if (t == 0) partial[blockIdx.x] = sum;", "}\nif (t == 0) partial[blockIdx.x] = sum;", "a race: "),
    ("vector_add", "if (i < N)", "", "outside of all buffers"),
    ("reduce_shuffle", "if (t < LANES) {", "if (t < 16) {", "others do not reach"),
    ("row_softmax_block", "if (STAGED) staged[v] = four;", "", "that nobody has written"),
    ("gemm", "shA + BK * BM;", "shA + 2 * BK * BM;", "dynamic shared memory ends earlier"),
]  # fmt: skip


@needs_gcc
def test_wrong_code_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, wrong = tmp_path_factory.mktemp("wrong"), []
    for number, (name, before, after, message) in enumerate(WRONG):
        c = next(c for c in reversed(SMALL) if c.name == name)
        text = (KERNELS / c.code["cuda"]).read_text()
        assert before in text
        (folder / f"{number}.cu").write_text(text.replace(before, after))
        wrong.append((replace(c, file=str(folder / f"{number}.cu")), message))
    cpu = OnCpu([c for c, _ in wrong], folder)
    for number, (c, message) in enumerate(wrong):
        with pytest.raises(AssertionError, match=re.escape(message)):
            cpu.run(number, contents(c))


@needs_gcc
def test_wrong_order_is_found(cpu: OnCpu) -> None:
    """Lanes down a column instead of along a row: a warp of an 8 × 8 block writes to 8 sectors instead of 4."""
    along, down = (_run(cpu, of(f"matrix_sum_{name}", N=32, T=8)).totals["S", "store"] for name in ("coalesced", "normal"))
    assert (along.requested_bytes, along.requests) == (down.requested_bytes, down.requests) == (4 * 32 * 32, 32)
    assert (along.sectors, down.sectors) == (4 * 32, 8 * 32)


# -- the model on the descriptions that are new with this code


@pytest.mark.parametrize("c", NEW, ids=[str(c) for c in NEW])
def test_counters_are_what_the_oracle_walks(c: Configuration) -> None:
    scores = Scorer(c.description, "A100", warm={}).score({n: [v] for n, v in c.all.items()})
    assert scores.reason.tolist() == [""]
    walked: Counter[str] = Counter()
    for statement in count(c.kernel, c.bound).statements:
        for kind, accesses in (("load", statement.loads), ("store", statement.stores)):
            for a in accesses:
                walked.update({f"{a.access.buffer.space}_{kind}_{what}": getattr(a, what) for what in ("requests", "lines")})
    for name in [f"{space}_{kind}_requests" for space in ("global", "shared") for kind in ("load", "store")]:
        assert scores.counters[name].tolist() == [walked[name]], name
    for name in ("global_load_lines", "global_store_lines"):
        assert scores.counters[name].tolist() == [walked[name]], name


def _seconds(name: str, gpu: str, **sizes: int) -> float:
    return float(estimate(find_description(name), gpu, **sizes).seconds)


@pytest.mark.parametrize("gpu", ["H200", "RTX 3090"])
def test_what_everybody_knows_of_them(gpu: str) -> None:
    """Strides and gathers cost sectors, a row read once costs less than one read three times, planes are read once in a march."""
    strides = [_seconds("strided_copy", gpu, N=1 << 22, B=256, V=1, S=s) for s in (1, 2, 4, 8)]
    assert strides == sorted(strides)
    assert strides[3] > 3 * strides[0]  # a sector instead of an element is read, an element is written: (8 + 1) / (1 + 1)
    columns = [_seconds("gathered_copy", gpu, N=1 << 23, B=256, V=1, R=1 << 14, C=c) for c in (1, 8)]
    assert columns[0] < columns[1]
    rows = {"M": 8192, "N": 4096, "B": 256}
    three, two, one = (_seconds("row_softmax_block", gpu, **rows, STAGED=s, ONLINE=o) for s, o in ((0, 0), (0, 1), (1, 1)))
    assert one < two < three
    assert _seconds("row_layer_norm_block", gpu, **rows, STAGED=1) < _seconds("row_layer_norm_block", gpu, **rows, STAGED=0)
    grid = {"NX": 514, "NY": 514, "NZ": 514, "BX": 32, "BY": 8, "STAGED": 0}
    assert _seconds("jacobi_3d", gpu, **grid, DEPTH=64) < _seconds("jacobi_3d", gpu, **grid, DEPTH=1)
