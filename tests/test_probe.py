"""The probe without a GPU: a fake of a stored profile is measured back into a profile; tables, journal, limits by hand."""

import itertools
import json
import re
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from costmodel.cli import main
from costmodel.device import find_device
from costmodel.errors import MeasureError
from costmodel.measure.live import StickyError
from costmodel.measure.probe import FakeLab, Journal, Replay, differences, lab_of, probe
from costmodel.measure.probe.lab import Figure, Sample, spread_of
from costmodel.measure.probe.latencies import knee
from costmodel.measure.probe.limits import peak_dram_bytes_per_s
from costmodel.measure.probe.tables import address_cycle, gaps, offset_cycle

EXACT = ("sm_count", "limits.", "registers.", "shared.capacity", "shared.max", "shared.static", "shared.reserved", "clock.boost")
WIDE = {"l2.effective_capacity_bytes": 0.12, "l2.bandwidth_bytes_per_cycle": 0.05}


def figures(device):
    def walk(value, prefix):
        for key, inner in value.items():
            if isinstance(inner, dict):
                yield from walk(inner, f"{prefix}{key}.")
            elif isinstance(inner, bool | int | float):
                yield prefix + key, inner

    return dict(walk(asdict(device), ""))


@pytest.mark.parametrize("name", ["h200", "v100_sxm2", "rtx_4070", "mi210", "gtx_1080_ti"])
def test_a_fake_gpu_is_measured_back_into_its_profile(name, tmp_path):
    stored = find_device(name)
    found = probe(lab_of(f"fake:{name}"), tmp_path / "mine.yaml")
    assert found.unmeasured == ()
    assert found.base == stored
    assert find_device(tmp_path / "mine.yaml") == found.device
    measured, known = figures(found.device), figures(stored)
    ports = stored.sm_count * stored.l2.sm_bytes_per_cycle  # what all SMs can ask for
    known["l2.bandwidth_bytes_per_cycle"] = min(stored.l2.bandwidth_bytes_per_cycle, ports)
    assert measured.keys() == known.keys()
    for field, value in known.items():
        tolerance = 0.0 if field.startswith(EXACT) or isinstance(value, bool) else WIDE.get(field, 0.025)
        assert measured[field] == pytest.approx(value, rel=tolerance), field
    assert {f.field for f in found.figures} <= known.keys()
    for field in known:
        by_us = any(f.field == field and not f.bound for f in found.figures)
        assert found.device.sources[field].startswith("costmodel probe 2026-01-01, fake" if by_us else f"as {name}: "), field


def test_what_a_gpu_has_otherwise_is_marked(tmp_path):
    h200 = find_device("h200")
    other = replace(h200, sm_count=114, l2=replace(h200.l2, latency_cycles=310.0), shared=replace(h200.shared, bank_bytes=8))
    found = probe(FakeLab(other), tmp_path / "mine.yaml", "h200")
    marked = {d.field: d for d in found.differences if d.differs and (d.relative is None or abs(d.relative) > 0.03)}
    assert {"sm_count", "l2.latency_cycles", "shared.bank_bytes"} <= marked.keys()
    assert marked["sm_count"].measured == 114
    assert marked["l2.latency_cycles"].relative == pytest.approx(310 / 265 - 1, abs=0.01)
    assert not {"l1.latency_cycles", "dram.latency_cycles", "throughput.fp32_fma"} & marked.keys()
    assert found.device.l2.latency_cycles == pytest.approx(310, rel=0.01)


def test_a_difference_is_marked_beyond_the_spread_only():
    h200 = find_device("h200")
    given = [
        Figure("l2.latency_cycles", 265 * 1.009, 0.01, ""),
        Figure("l1.latency_cycles", 34 * 1.011, 0.01, ""),
        Figure("throughput.issue_per_cycle", 3.0, 0.01, "", bound=True),  # a lower bound below the stored one says nothing
        Figure("sm_count", 132, 0.0, ""),
        Figure("l1.caches_global_loads", False, 0.0, ""),
        Figure("instruction_cache_bytes", 4096, 0.0, ""),
    ]
    assert [d.differs for d in differences(h200, given)] == [False, True, False, False, True, True]


def test_a_bound_below_the_stored_figure_gives_way(tmp_path):
    found = probe(lab_of("fake:h200"), tmp_path / "mine.yaml")
    fp16 = next(f for f in found.figures if f.field == "throughput.matrix_fma.fp16")
    assert fp16.bound
    assert fp16.value < 2048
    assert found.device.throughput.matrix_fma["fp16"] == 2048
    assert found.device.sources["throughput.matrix_fma.fp16"].startswith("as h200: ")


def test_nothing_is_overwritten_and_nothing_run_before_that_is_known(tmp_path):
    (tmp_path / "mine.yaml").write_text("mine")
    lab = lab_of("fake:h200")
    with pytest.raises(MeasureError, match="exists and is not overwritten; name another file with --out"):
        probe(lab, tmp_path / "mine.yaml")
    with pytest.raises(MeasureError, match=r"ends with \.yaml"):
        probe(lab, tmp_path / "mine.json")
    assert lab.clock_s() == 0
    assert (tmp_path / "mine.yaml").read_text() == "mine"


class Stopping(FakeLab):
    """Stops the process, or loses the context, at one of its benchmarks."""

    def __init__(self, name, at=None, error=KeyboardInterrupt):
        super().__init__(find_device(name))
        self.at, self.error, self.runs = at, error, []

    def run(self, benchmark, **parameters):
        if len(self.runs) == self.at:
            raise self.error("stopped")
        self.runs.append((benchmark, *sorted(parameters.items())))
        return super().run(benchmark, **parameters)


def test_a_stopped_probe_goes_on_where_it_was(tmp_path):
    whole = Stopping("h200")
    undisturbed = probe(whole, tmp_path / "whole.yaml")
    assert len(whole.runs) == len(set(whole.runs)), "a benchmark is asked for twice"
    done = []
    for at, error in ((7, KeyboardInterrupt), (20, StickyError)):
        lab = Stopping("h200", at, error)
        with pytest.raises(error):
            probe(lab, tmp_path / "mine.yaml")
        done += lab.runs
        with (tmp_path / "mine.jsonl").open("a") as file:
            file.write('{"key": "half a li')  # killed while writing
    last = Stopping("h200")
    found = probe(last, tmp_path / "mine.yaml")
    assert found.resumed == 27
    assert done + last.runs == whole.runs
    assert (found.figures, found.curves) == (undisturbed.figures, undisturbed.curves)
    again = Stopping("h200")
    (tmp_path / "mine.yaml").unlink()
    assert probe(again, tmp_path / "mine.yaml").figures == undisturbed.figures
    assert again.runs == []


def test_the_journal_of_another_gpu_is_begun_anew(tmp_path):
    path = tmp_path / "mine.jsonl"
    Journal(Stopping("h200"), path).run("launch", kernels=100)
    assert Journal(Stopping("h200"), path).resumed == 1
    assert Journal(Stopping("v100_sxm2"), path).resumed == 0
    assert len(path.read_text().splitlines()) == 1


def test_a_journal_stands_for_its_gpu(tmp_path):
    live = probe(lab_of("fake:h200"), tmp_path / "mine.yaml")
    again = probe(lab_of(f"journal:{tmp_path / 'mine.jsonl'}"), tmp_path / "again.yaml")
    assert (again.figures, again.curves, again.unmeasured) == (live.figures, live.curves, ())
    assert (tmp_path / "again.yaml").read_text() == (tmp_path / "mine.yaml").read_text().replace("name: mine", "name: again")
    with pytest.raises(MeasureError, match="it does not hold launch kernels=7"):
        Replay(tmp_path / "mine.jsonl").run("launch", kernels=7)
    with pytest.raises(MeasureError, match="expected the journal of a probe"):
        Replay(tmp_path / "mine.yaml")


def test_an_impossible_figure_is_left_out_and_told(tmp_path):
    class Broken(FakeLab):
        def run(self, benchmark, **parameters):
            found = super().run(benchmark, **parameters)
            return replace(found, seconds=(1e-3,) * 7) if benchmark == "launch" else found

    found = probe(Broken(find_device("h200")), tmp_path / "mine.yaml")
    assert [reason.split(" (")[0] for reason in found.unmeasured] == ["launch_overhead_s: 0.0 cannot be"]
    assert found.device.launch_overhead_s == 2e-6


@pytest.mark.parametrize("content", ['{"mine": 1}\n', "[1, 2]\n", "notes\n"])
def test_a_file_that_is_no_journal_is_left_alone(content, tmp_path):
    (tmp_path / "mine.jsonl").write_text(content)
    with pytest.raises(MeasureError, match="is no journal of a probe and is not overwritten"):
        probe(lab_of("fake:h200"), tmp_path / "mine.yaml")
    assert (tmp_path / "mine.jsonl").read_text() == content


def test_a_refused_benchmark_is_noted_and_costs_its_group_alone(tmp_path):
    class Refusing(Stopping):
        def run(self, benchmark, **parameters):
            if benchmark == "lanes" and parameters["shift"]:
                raise MeasureError("no such pairs")
            return super().run(benchmark, **parameters)

    found = probe(Refusing("h200"), tmp_path / "mine.yaml")
    assert found.unmeasured == ("load/store path: no such pairs",)
    fields = {f.field for f in found.figures}
    assert "shared.bytes_per_cycle" in fields, "what its group had measured before stays"
    assert "l1.bytes_per_cycle" not in fields
    assert "block_launch_cycles" in fields
    assert found.device.l1.bytes_per_cycle == 128
    noted = [json.loads(line) for line in (tmp_path / "mine.jsonl").read_text().splitlines()]
    assert next(line for line in noted if "refused" in line)["refused"] == "no such pairs"


@pytest.mark.parametrize("name", ["gtx_680", "tesla_k20", "p4", "gtx_1650", "mi250x", "titan_rtx", "h200"])
def test_it_takes_less_than_five_minutes(name, tmp_path):
    found = probe(lab_of(f"fake:{name}"), tmp_path / "mine.yaml")
    assert found.unmeasured == ()
    assert found.seconds < 120


def test_out_of_time_it_keeps_what_it_has(tmp_path):
    slow = FakeLab(find_device("h200"), host_s=20.0)
    found = probe(slow, tmp_path / "mine.yaml", limit_s=100.0)
    assert found.seconds < 900
    assert any("out of time after 100 s; run it again, it resumes" in reason for reason in found.unmeasured)
    assert find_device(tmp_path / "mine.yaml").block_launch_cycles == 200


@pytest.mark.parametrize(
    ("gpu", "message"), [("H200", "expected its number"), ("-1", "expected its number"), ("fake:h2000", "h200")]
)
def test_a_wrong_gpu_is_told(gpu, message):
    with pytest.raises(Exception, match=message) as raised:
        lab_of(gpu)
    assert type(raised.value).__module__ == "costmodel.errors"


def test_an_unknown_architecture_asks_for_its_nearest(tmp_path):
    future = replace(find_device("h200"), title="NVIDIA X1", compute_capability="19.0")
    with pytest.raises(
        MeasureError, match=r"no stored profile has compute capability 19\.0; name the nearest one with --against"
    ):
        probe(FakeLab(future), tmp_path / "mine.yaml")
    assert probe(FakeLab(future), tmp_path / "mine.yaml", "h200").device.sm_count == 132
    kin = replace(find_device("h200"), title="NVIDIA H300")
    assert probe(FakeLab(kin), tmp_path / "kin.yaml").base.compute_capability == "9.0"


@pytest.mark.parametrize("capacity", [5, 9, 15, 24, 32])
@pytest.mark.parametrize("ratio", [2.0, 4.0])
def test_the_capacity_is_found_in_noise(capacity, ratio):
    """A fall that begins fast, and one that begins slowly, as under random replacement; 1 % of noise, fifty times each."""
    sizes = range(1, 41)
    noise = np.random.default_rng(1)
    for slowly in (False, True):
        for _ in range(50):
            points = []
            for size in sizes:
                missed = max(0.0, 1 - capacity / size) ** (0.8 if slowly else 0.4)
                points.append((size, 100 / (1 - missed + missed * ratio) * (1 + 0.01 * noise.standard_normal())))
            assert capacity <= knee(points, 0.9) <= capacity * (1.2 if slowly else 1.1)


def test_a_chase_visits_every_line_once():
    base, lines = 1 << 40, 64
    table = address_cycle(base, 128 * lines)
    at, seen = base, list[int]()
    for _ in range(lines):
        seen.append((at - base) // 128)
        at = int(table[(at - base) // 8])
    assert at == base
    assert sorted(seen) == list(range(lines))
    assert np.mean(np.abs(np.diff(seen)) == 1) < 0.2, "hardly a step to a neighbour, which could have been fetched along"
    offsets, at, cells = offset_cycle(4096), 0, set[int]()
    for _ in range(1024):
        cells.add(at)
        at = int(offsets[at // 4])
    assert at == 0
    assert cells == set(range(0, 4096, 4))


def test_gaps_are_between_blocks_of_one_sm():
    record = np.array([[1, 500, 520], [0, 100, 110], [0, 300, 330], [1, 900, 910], [0, 210, 240]])
    assert gaps(record).tolist() == [210 - 110, 300 - 240, 900 - 520]


def test_spread_is_the_interquartile_range():
    assert spread_of((1.0, 2.0, 3.0, 4.0, 5.0)) == pytest.approx((4 - 2) / 3)
    assert spread_of((7.0,) * 7) == 0


@pytest.mark.parametrize(
    ("hz", "bits", "published"),
    [(2619e6, 5120, 3.35e12), (9751e6, 384, 936e9), (7001e6, 352, 616e9), (715e6, 4096, 732e9), (1512e6, 5120, 1.935e12)],
    ids=["H100 SXM", "RTX 3090", "RTX 2080 Ti", "P100", "A100 PCIe 80GB"],
)
def test_the_drivers_memory_clock_gives_the_published_peak(hz, bits, published):
    """Clocks as `nvidia-smi -q` states them; peaks as the datasheets do."""
    assert peak_dram_bytes_per_s({"max_memory_hz": hz, "memory_bus_bits": bits}) == pytest.approx(published, rel=0.002)
    assert peak_dram_bytes_per_s({"max_memory_hz": hz, "memory_bus_bits": 256, "vendor": "AMD"}) is None
    assert peak_dram_bytes_per_s({}) is None


def test_the_fakes_noise_is_the_same_each_time_and_another_for_each_benchmark():
    one, two = (FakeLab(find_device("h200")).run("launch", kernels=n) for n in (100, 100))
    assert one == two
    assert isinstance(one, Sample)
    other = FakeLab(find_device("h200")).run("launch", kernels=200)
    assert all(a != b for a, b in itertools.pairwise(one.seconds))
    assert np.ptp(np.array(one.seconds) / np.array(other.seconds)) > 0


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Run `costmodel probe` in this process and an empty folder."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["costmodel", "probe", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


def test_the_command_writes_compares_and_prints(cli, tmp_path):
    code, out, err = cli("--gpu", "fake:h200")
    assert (code, err) == (0, "")
    assert find_device(tmp_path / "fake_nvidia_h200.yaml").sm_count == 132
    assert (tmp_path / "fake_nvidia_h200.jsonl").exists()
    assert re.search(r"^l2\.latency_cycles +265 +26\d\.\d+ +\+0\.\d% +0\.\d%", out, re.M)
    assert re.search(r"^throughput\.matrix_fma\.fp16 +2048 +≥ 15\d\d ", out, re.M)
    assert "DRAM reads by blocks of two warps on an SM, B/s\n1: 1.6" in out
    assert max(map(len, out.splitlines())) <= 100


def test_the_command_prints_json(cli, tmp_path):
    code, out, _ = cli("--gpu", "fake:v100_sxm2", "--out", "mine.yaml", "--against", "v100_pcie", "--json")
    assert code == 0
    said = json.loads(out)
    assert (said["profile"], said["against"], said["resumed"], said["unmeasured"]) == ("mine.yaml", "v100_pcie", 0, [])
    clock = next(f for f in said["figures"] if f["field"] == "clock.boost_hz")
    assert (clock["stored"], clock["measured"], clock["differs"]) == (1380e6, 1530e6, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gpu", "fake:h2000"), r"unknown GPU 'h2000'; did you mean h200"),
        (("--gpu", "first"), r"GPU 'first': expected its number"),
        (("--gpu", "fake:h200", "--against", "nothing"), r"unknown GPU 'nothing'"),
        (("--gpu", "fake:h200", "--out", "there.yaml"), r"there\.yaml exists and is not overwritten"),
        (("--gpu", "journal:none.jsonl"), r"none\.jsonl: expected the journal of a probe"),
    ],
)
def test_what_is_wrong_is_one_line(cli, tmp_path, arguments, message):
    (tmp_path / "there.yaml").write_text("")
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert re.match(rf"error: {message}", err)
    assert len(err.splitlines()) == 1


def test_curves_show_where_each_level_ends(tmp_path):
    h200 = find_device("h200")
    found = {curve.name: dict(curve.points) for curve in probe(lab_of("fake:h200"), tmp_path / "mine.yaml").curves}
    latency = found["load latency"]
    assert latency[65536] == pytest.approx(h200.l1.latency_cycles, rel=0.02)
    assert latency[1 << 23] == pytest.approx(h200.l2.latency_cycles, rel=0.02)
    assert latency[1 << 28] == pytest.approx(h200.dram.latency_cycles, rel=0.02)
    through_l1 = found["reads of one SM through L1"]
    assert through_l1[131072] == pytest.approx(128, rel=0.02)
    assert through_l1[524288] < 80
    by_blocks = found["DRAM reads"]
    assert by_blocks[2] == pytest.approx(2 * by_blocks[1], rel=0.03), "latency-bound while few are resident"
    assert by_blocks[8] == pytest.approx(h200.dram.achievable_fraction * h200.dram.bandwidth_bytes_per_s, rel=0.02)
    assert found["shared memory, 16-byte loads"][1] < 70 < 125 < found["shared memory, 16-byte loads"][32]
