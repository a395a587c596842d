"""What a live GPU is asked to do, and in which order: on a stub whose kernels run on torch's CPU tensors."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from costmodel.cost import find_description
from costmodel.errors import MeasureError
from costmodel.measure.arrays import TOLERANCES, Watched, allocated
from costmodel.measure.bench import GpuBench
from costmodel.measure.code import find_code, measured_space, source_digest
from costmodel.measure.live import CompileError, OutOfMemoryError, StickyError
from costmodel.measure.runners import macros_of
from costmodel.measure.task import Settings
from tests.stub_gpu import MODULE, bench_on, measured, task

torch = pytest.importorskip("torch")


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "all.cu").write_text("// all of them")
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path / "mine.py"


@pytest.fixture
def bench() -> GpuBench:
    return bench_on("cpu")


def test_a_cuda_kernel_is_launched_as_its_description_says(module, bench):
    row, stages = measured(bench, task(module, "scaled", N=1024, B=128, FLAG=True))
    assert row["status"] == "ok", row
    assert stages == ["waiting", "building", "waiting", "building", "waiting", "running"]  # allocates, loads, launches
    assert bench.gpu.builds == [{"B": 128, "S": 2, "FLAG": 1}]
    _, entry, launch, arguments = next(a for a in bench.gpu.asked if a[0] == "start")
    assert entry == "scaled"
    assert (launch.grid, launch.block) == ((8, 1, 1), (128, 1, 1))
    assert launch.shared_bytes == 528 + 256  # 129 words, then 128 halves that start at a multiple of 16
    y, x, n = arguments  # in the order of declaration, then the sizes
    assert (tuple(y.shape), tuple(x.shape), n) == ((1024,), (1024,), np.int32(1024))
    assert isinstance(n, np.int32)
    assert (row["regs_per_thread"], row["shared_bytes"], row["lmem_bytes_per_thread"]) == (32, 128 + 784, 8)
    assert row["error"] < 1e-6
    assert 0.9 < float(x.std()) < 1.1
    assert float(x.mean()) == pytest.approx(0.0, abs=0.2)


def test_times_are_medians_and_cold_ones_follow_a_flush_each(module, bench):
    row, _ = measured(bench, task(module, "scaled", N=1024, B=128))
    assert (row["time_ms"], row["time_min_ms"], row["time_first_ms"]) == pytest.approx((1.5, 1.0, 1.0))
    assert row["n_runs"] == 7  # 10 ms of launches that take 1.5 ms
    assert row["cold_ms"] == pytest.approx(1.5)
    assert bench.gpu.flushes == 7
    assert (row["sm_hz_before"], row["memory_hz"], row["temperature_c"]) == (1.98e9, 2.6e9, None)
    launches = sum(a[0] == "start" for a in bench.gpu.asked)
    assert launches == 1 + 1 + (10 + 9 * 7) + 7 + 7  # the check, the first, warming up for 0.1 s, warm, cold


def test_facts_say_what_an_empty_launch_takes(bench):
    assert bench.facts() == {"name": "stub", "architecture": "sm_90", "empty_ms": pytest.approx(1.5)}


def test_series_are_bounded():
    settings = Settings()
    assert settings.repeats(1e-6) == settings.most_runs
    assert settings.repeats(1e-3) == 20
    assert settings.repeats(5e-3) == settings.least_runs
    assert settings.repeats(0.2) == 5
    assert settings.repeats(2.0) == 3


def test_a_kernel_that_writes_nothing_is_wrong_even_on_its_second_problem(module, bench):
    assert measured(bench, task(module, "scaled", N=1024, B=64))[0]["status"] == "ok"
    bench.gpu.broken = True
    row, _ = measured(bench, task(module, "scaled", N=1024, B=128))
    assert (row["status"], row["error"]) == ("wrong_result", None)
    assert row["reason"] == "y: error inf, at most 0.0001"
    assert "time_ms" not in row


def test_where_a_reference_is_nan_nothing_may_be_written(module, bench):
    borders = MODULE.replace(
        '{"y": t["x"] * t["w"][0]}', '{"y": (t["x"] * t["w"][0]).index_fill(0, __import__("torch").tensor([0]), float("nan"))}'
    )
    module.write_text(borders)
    one = task(module, "scaled", N=1024, B=64)
    row, _ = measured(bench, one)
    assert (row["status"], row["reason"]) == ("wrong_result", "y: error inf, at most 0.0001")
    bench.gpu.scaled = lambda program, y, x, n: y[1:].copy_(x[1:] * float(program.constants["w"][0]))
    row, _ = measured(bench, one)
    assert row["status"] == "ok", row
    assert row["error"] < 1e-6


def test_a_result_that_is_a_little_off_is_wrong(module, bench):
    bench.gpu.scaled = lambda program, y, x, n: y.copy_(x * float(program.constants["w"][0]) * 1.001)
    row, _ = measured(bench, task(module, "scaled", N=1024, B=64))
    assert row["status"] == "wrong_result"
    assert row["error"] == pytest.approx(1e-3, rel=1e-2)


def test_buffers_that_are_read_and_written_start_from_the_same_contents_each_time(module, bench):
    first, _ = measured(bench, task(module, "added", N=4096, B=64))
    second, _ = measured(bench, task(module, "added", N=4096, B=128))
    assert (first["status"], second["status"]) == ("ok", "ok")
    assert 0 < second["error"] < TOLERANCES["bf16"]
    assert second["error"] == first["error"]
    assert bench.gpu.asked[0][:2] == ("build", "plus")


def test_atomics_add_to_zero_and_integers_are_compared_exactly(module, bench):
    assert measured(bench, task(module, "total", N=4096, B=64))[0]["status"] == "ok"
    bench.gpu.total = lambda program, x, s, n, size: (s.add_(x.sum()), n.add_(int(size) - 1))
    row, _ = measured(bench, task(module, "total", N=4096, B=128))
    assert (row["status"], row["reason"]) == ("wrong_result", "n: error 1, at most 0")


def test_inputs_of_the_code_are_used_and_kept_by_what_they_depend_on(module, bench):
    rows = [measured(bench, task(module, "gathered", N=2048, B=b, STEP=s))[0] for b, s in ((64, 1), (128, 1), (64, 2))]
    assert [r["status"] for r in rows] == ["ok"] * 3
    contents = [arrays.tensors["p"].max().item() for _, arrays in bench.arrays]
    assert contents == [2047, 1023]  # one set for each STEP, none for B
    find_code(find_description(f"{module}:gathered"))
    (module.parent / "mine.py").write_text(MODULE.replace('"inputs": _permutation, ', ""))
    row = measured(bench_on("cpu"), task(module, "gathered", N=2048, B=64, STEP=1))[0]
    assert row["status"] == "runtime_failed"
    assert "give them by 'inputs' in CODE" in row["reason"]


BY_BLOCK = MODULE.replace('{"y": t["x"] * t["w"][0]}', '{"y": t["x"] * t["w"][0] * s["B"]}')


@pytest.mark.parametrize(("where", "error"), [("build", CompileError("no")), ("start", MeasureError("too many resources"))])
@pytest.mark.parametrize("blocks", [(64, 128), (128, 64)])
def test_a_configuration_that_fails_leaves_its_sizes_to_no_other(module, bench, where, error, blocks):
    module.write_text(BY_BLOCK)
    bench.gpu.scaled = lambda program, y, x, n: y.copy_(x * float(program.constants["w"][0]) * program.macros["B"])
    failed, right = (task(module, "scaled", N=1024, B=b) for b in blocks)
    bench.gpu.errors[where] = error
    assert measured(bench, failed)[0]["status"] in ("compile_failed", "cannot_launch")
    bench.gpu.errors.clear()
    assert [measured(bench, one)[0]["status"] for one in (right, failed, right)] == ["ok"] * 3


def test_constants_do_not_tie_arrays_to_a_configuration(module, bench):
    for b in (64, 128):
        assert measured(bench, task(module, "scaled", N=1024, B=b))[0]["status"] == "ok"
    assert len(bench.arrays) == 1


def test_programs_are_compiled_once_for_several_sizes(module, bench):
    for n in (1024, 2048, 1024):
        assert measured(bench, task(module, "scaled", N=n, B=64))[0]["status"] == "ok"
    assert len(bench.gpu.builds) == 1


def test_the_gpu_is_used_under_its_lock_alone_and_compilers_run_outside_of_it(module, bench, monkeypatch):
    monkeypatch.setattr("costmodel.measure.runners._MOST_PROGRAMS", 1)
    held: list[bool] = []

    @contextlib.contextmanager
    def lock():
        assert not held, "a second lock of the same file waits for ever"
        held.append(True)
        yield
        held.pop()

    seen, say, bench.lock = set(), bench.gpu._say, lock

    def noted(what, then):
        def call(*about):
            seen.add((what or about[0], bool(held)))
            return then(*about)

        return call

    bench.gpu._say = noted("", say)
    monkeypatch.setattr("costmodel.measure.bench.allocated", noted("allocate", allocated))
    for b in (64, 128):
        assert measured(bench, task(module, "added", N=1024, B=b))[0]["status"] == "ok"
    assert seen == {("build", False), *((what, True) for what in ("allocate", "load", "unload", "start", "synchronize"))}


def test_programs_that_make_room_are_unloaded(module, bench, monkeypatch):
    monkeypatch.setattr("costmodel.measure.runners._MOST_PROGRAMS", 2)
    for b in (32, 64, 128, 256):
        assert measured(bench, task(module, "added", N=1024, B=b))[0]["status"] == "ok"
    assert [a[1] for a in bench.gpu.asked if a[0] == "unload"] == [{"B": 32}, {"B": 64}]


@pytest.mark.parametrize(
    ("where", "error", "status", "restart"),
    [
        ("build", CompileError("no such type"), "compile_failed", False),
        ("start", MeasureError("too many resources"), "cannot_launch", False),
        ("start", OutOfMemoryError("none left"), "out_of_memory", True),
        ("synchronize", StickyError("illegal address"), "runtime_failed", True),
        ("build", OutOfMemoryError("none left"), "out_of_memory", True),
    ],
)
def test_each_error_has_its_status(module, bench, where, error, status, restart):
    bench.gpu.errors[where] = error
    row, _ = measured(bench, task(module, "scaled", N=1024, B=64))
    assert (row["status"], row["reason"], row.get("restart", False)) == (status, str(error), restart)


def test_an_unknown_error_is_left_to_the_worker(module, bench):
    bench.gpu.errors["synchronize"] = RuntimeError("?")
    with pytest.raises(RuntimeError):
        measured(bench, task(module, "scaled", N=1024, B=64))


def test_a_size_beyond_int_cannot_be_launched(module, bench):
    code = find_code(find_description(f"{module}:scaled"))
    assert macros_of(code, {"N": 4, "B": 2, "FLAG": True, "S": "fast"}) == {"B": 2, "FLAG": 1, "S": "fast"}
    sizes = {"N": 2**31, "B": 64}
    bench._arrays = lambda kernel, code, sizes, quiet: type("None", (), {"kernel": kernel, "tensors": {}, "constants": {}})()
    row, _ = measured(bench, task(module, "scaled", **sizes))
    assert row["status"] == "cannot_launch"
    assert "does not fit the `int`" in row["reason"]


# -- CODE


def test_code_says_what_is_wrong_with_it(module):
    def refused(old: str, new: str) -> str:
        module.write_text(MODULE.replace(old, new))
        with pytest.raises(MeasureError) as found:
            find_code(find_description(f"{module}:scaled"))
        return str(found.value)

    assert "nothing to run" in refused('"scaled": {', '"scoled": {')
    assert "unknown key 'argument'" in refused(
        '"all.cu", "arguments": ("N",), "reference": lambda t, s: {"y": t["x"] * t',
        '"all.cu", "argument": ("N",), "reference": lambda t, s: {"y": t["x"] * t',
    )
    assert "no such file" in refused(
        '"cuda": "all.cu", "arguments": ("N",), "reference": lambda t, s: {"y": t["x"] * t',
        '"cuda": "none.cu", "arguments": ("N",), "reference": lambda t, s: {"y": t["x"] * t',
    )
    assert "'FLAG' is no size" in refused(
        '("N",), "reference": lambda t, s: {"y": t["x"] * t', '("FLAG",), "reference": lambda t, s: {"y": t["x"] * t'
    )


def test_the_digest_covers_both_files_and_the_space_may_be_the_code_s_own(module):
    description = find_description(f"{module}:scaled")
    before = source_digest(description)
    assert measured_space(description) == {"N": [1024, 2048], "B": [64, 128]}
    (module.parent / "all.cu").write_text("// changed")
    assert source_digest(description) != before


def test_watched_sizes_remember():
    sizes = Watched({"N": 1, "B": 2})
    assert (sizes["N"], sizes.get("X"), len(sizes)) == (1, None, 2)
    assert sizes.seen == {"N"}
    assert dict(sizes) == {"N": 1, "B": 2}
    assert "B" in sizes.seen
