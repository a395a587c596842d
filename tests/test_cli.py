"""The command line as a user meets it: what it prints, what it refuses, and that it never shows a traceback."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import costmodel
from costmodel import Scorer, find_device
from costmodel.cli import inputs, main
from costmodel.cli.inputs import settings, table_of
from costmodel.cost import find_description
from costmodel.device import device_names
from costmodel.errors import DataError, SizeError

ROOT = Path(__file__).resolve().parent.parent
ADD = ("vector_add", "--device", "H100", "--set", "N=1048576", "--set", "B=256")
GEMM = ("gemm", "--device", "H100", "--set", "M=4096", "--set", "N=4096", "--set", "K=4096")
TILE = ("BM=128", "BN=128", "BK=16", "TM=8", "TN=8")
FIGURES = ("rho", "tau", "top1", "top5", "top10", "mape", "median_abs_log2", "sigma", "tie_rate", "configs_per_s")


@dataclass(frozen=True)
class Done:
    code: Any
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def cli(capsys, monkeypatch):
    """Run the command line in this process."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["costmodel", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Done(ended.value.code, said.out, said.err)

    return run


@pytest.fixture
def refused(cli):
    """Run it on something wrong: one clear line, nothing on stdout."""

    def run(*arguments: object) -> str:
        done: Done = cli(*arguments)
        assert done.code == 2, (done.out, done.err)
        assert done.out == ""
        said = [line for line in done.err.splitlines() if not re.match(r"\d+/\d+ ", line)]
        assert len(said) == 1, done.err
        assert said[0].startswith("error: ")
        assert len(said[0]) < 1500
        return said[0].removeprefix("error: ")

    return run


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# -- what it prints


def test_alone_it_explains_itself(cli):
    done = cli()
    assert (done.code, done.err) == (0, "")
    for command in ("devices", "estimate", "rank", "probe", "validate"):
        assert re.search(rf"^  {command}  .*[a-z]\.$", done.out, re.M), f"the summary of {command} is cut short"


@pytest.mark.parametrize("command", ["devices", "estimate", "rank", "probe", "validate"])
def test_help_has_an_example(cli, command):
    done = cli(command, "--help")
    assert done.code == 0
    assert f"Example: costmodel {command}" in done.out
    assert "--json" in done.out


def test_version(cli):
    assert cli("--version").out == f"costmodel {costmodel.__version__}\n"


def test_devices(cli):
    done = cli("devices")
    assert done.code == 0
    lines = done.out.splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ")]
    assert sorted(names) == list(device_names())
    assert len(names) >= 40
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip()]
    listed = cli("devices", "--json").json
    assert [d["name"] for d in listed] == list(device_names())


def test_devices_stand_under_their_architecture_the_oldest_first(cli):
    architecture, heads, place = "", [], {}
    for line in cli("devices").out.splitlines()[2:]:
        head = re.match(r"(\w+) (\S+) \((.+)\)$", line)
        if head:
            heads.append((head[1], head[3]))
            architecture = head[2]
        elif line.startswith("  "):
            place[line.split()[0]] = architecture
    assert place == {name: find_device(name).architecture for name in device_names()}
    nvidia = [float(capability) for vendor, capability in heads if vendor == "NVIDIA"]
    assert nvidia == sorted(nvidia)
    assert nvidia[-1] == 12.0
    names = list(place)
    assert names.index("a30") < names.index("a100_pcie_40gb"), "numbers by their value"


def test_wide_consoles_show_titles_and_capacities(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    text = cli("devices").out
    assert re.search(r"^  h200 +132 +66\.9 T +989 T +4\.80 TB/s +141 GiB +50 MiB +NVIDIA H200$", text, re.M)
    assert max(map(len, text.splitlines())) <= 140


@pytest.mark.parametrize("name", ["H100", "MI50", "Tesla-K40"])
def test_every_figure_of_a_device_is_printed_with_its_source(cli, name):
    device = find_device(name)
    text = cli("devices", name).out
    assert device.title in text
    assert f"{device.sm_count}" in text
    assert max(map(len, text.splitlines())) <= 80
    table, _, sources = text.partition("\nSources\n")
    flat = " ".join(sources.split())
    cited = dict(re.findall(r"^ *(\d+)  (.*(?:\n {8}.*)*)", sources, re.M))
    for source in set(device.sources.values()):
        assert " ".join(source.split()) in flat
    assert len(cited) == len(set(device.sources.values()))
    for path, source in device.sources.items():
        line = re.search(rf"^{re.escape(path)} +\S.*? (inferred)? +(\d+)$", table, re.M)
        assert line, path
        assert " ".join(cited[line[2]].split()) == " ".join(source.split())
        assert bool(line[1]) == source.startswith("inferred")
    values = cli("devices", name, "--json").json
    assert values["sources"] == device.sources
    assert values["dram"]["bandwidth_bytes_per_s"] == device.dram.bandwidth_bytes_per_s
    assert values["peak_fp32_flops_per_s"] == costmodel.device.peak_flops_per_s(device)


def test_sheet_gives_units_peaks_and_ridges(cli):
    """Of an H100 SXM: 989 TFLOP/s of fp16 over 3.352 TB/s and over 4110 bytes a cycle at 1.98 GHz."""
    text = cli("devices", "H100").out
    for line in (
        r"DRAM +80 GiB, 3\.35 TB/s, 3\.19 TB/s \(95 %\) achievable",
        r"an SM holds +2,048 threads, 64 warps, 32 blocks; there are 132 SMs",
        r"vector fp64 +33\.5 TFLOP/s +9\.98 FLOP/byte +4\.11 FLOP/byte",
        r"matrix fp16 +989 TFLOP/s +295 FLOP/byte +122 FLOP/byte",
        r"matrix int8 +1\.98 POP/s +590 OP/byte +243 OP/byte",
        r"clock\.boost_hz +1\.98 GHz +1",
        r"dram\.bandwidth_bytes_per_s +3\.352 TB/s +1",
        r"dram\.latency_cycles +650 cycles +\d+",
        r"l2\.capacity_bytes +52,428,800 bytes +1",
        r"launch_overhead_s +2 µs +inferred +\d+",
    ):
        assert re.search(rf"^{line}$", text, re.M), line
    values = cli("devices", "H100", "--json").json
    assert values["matrix_peaks_flops_per_s"]["fp16"] == pytest.approx(989.4e12, rel=0.001)
    assert values["ridges_flops_per_byte"]["matrix fp16"]["l2"] == pytest.approx(989.4e12 / (4110 * 1.98e9), rel=0.001)
    assert values["l2_bytes_per_s"] == 4110 * 1.98e9


def test_a_device_without_matrix_units_has_no_such_peak(cli):
    assert "matrix" not in cli("devices", "GTX 1650").out.partition("Figures")[0]
    assert cli("devices", "GTX 1650", "--json").json["matrix_peaks_flops_per_s"] == {}


def test_schemas_are_written_into_a_folder(cli, tmp_path):
    done = cli("devices", "--schema", tmp_path)
    assert done.code == 0
    assert done.err.splitlines() == [
        f"wrote {tmp_path / 'board.schema.json'}",
        f"wrote {tmp_path / 'architectures' / 'architecture.schema.json'}",
    ]
    assert json.loads((tmp_path / "board.schema.json").read_text(encoding="utf-8"))["title"] == "Board profile of costmodel"


def test_estimate(cli):
    cost = costmodel.estimate(find_description("vector_add"), "H100", N=1 << 20, B=256)
    text = cli("estimate", *ADD).out
    assert text.startswith("vector_add on NVIDIA H100")
    for term in cost.terms:
        assert re.search(rf"^{term.name} ", text, re.M)
    values = cli("estimate", *ADD, "--json").json
    assert values["seconds"] == cost.seconds
    assert values["sizes"] == {"N": 1 << 20, "B": 256}
    assert values["device"] == "h100_sxm"


def test_sizes_are_written_as_in_python(cli):
    done = cli("estimate", "vector_add", "-d", "H100", "-s", "N=0x100_000", "-s", " B = 256")
    assert (done.code, done.out) == (0, cli("estimate", *ADD).out)


def test_given_registers_are_used(cli):
    values = cli("estimate", *ADD, "--registers", 40, "--json").json
    assert (values["registers_per_thread"], values["registers_known"]) == (40, True)


def test_a_device_may_be_a_file(cli):
    path = ROOT / "hardware_profiles" / "v100_pcie.yaml"
    assert cli("estimate", *ADD, "--device", path, "--json").json["device"] == "v100_pcie"


def test_a_description_may_be_a_file_or_the_name_in_a_data_set(cli):
    file = ROOT / "validation" / "kernels" / "streaming.py"
    texts = {cli("estimate", target, *ADD[1:]).out for target in (f"{file}:vector_add", "vector_add", "vectorAdd")}
    assert len(texts) == 1


def test_rank(cli):
    done = cli("rank", *GEMM)
    assert done.code == 0
    assert "432 configurations" in done.out
    assert "all have  M=4096 N=4096 K=4096" in done.out
    times = re.findall(r"^ *(\d+) .* \+(\d+\.\d) %", done.out, re.M)
    assert [int(n) for n, _ in times] == list(range(1, 11))
    assert [float(slower) for _, slower in times] == sorted(float(slower) for _, slower in times)
    values = cli("rank", *GEMM, "--top", 3, "--json").json
    assert (values["kernel"], values["device"], values["configurations"]) == ("gemm", "h100_sxm", 432)
    assert len(values["best"]) == 3
    best = values["best"][0]
    one = cli("estimate", *GEMM, *(f"--set={n}={best[n]}" for n in ("BM", "BN", "BK", "TM", "TN")), "--json").json
    assert one["seconds"] == pytest.approx(best["seconds"], rel=1e-9)
    assert all(isinstance(count, int) for count in values["infeasible"].values())


def test_a_wide_ranking_on_a_narrow_terminal_keeps_every_value(cli, monkeypatch, tmp_path):
    space = written(tmp_path / "s.yaml", "BM: [64, 128]\nBN: [64, 128]\nBK: [8, 16]\nTM: [4, 8]\nTN: [4, 8]\n")
    monkeypatch.setenv("COLUMNS", "50")
    done = cli("rank", *GEMM, "--space", space)
    assert max(map(len, done.out.splitlines())) <= 50
    assert "…" not in done.out
    assert "BM=128" in done.out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.yaml", "N: 1048576\nB: [64, 256, 4096]\n"),
        ("s.json", '{"N": 1048576, "B": [64, 256, 4096]}'),
        ("s.csv", "N,B,note\n1048576,64,x\n1048576,256,y\n1048576,4096,z\n"),
        ("s.parquet", None),
    ],
)
def test_spaces_of_every_kind_say_the_same(cli, tmp_path, name, content):
    path = tmp_path / name
    if content is None:
        pd.DataFrame({"N": 1 << 20, "B": [64, 256, 4096]}).to_parquet(path)
    else:
        written(path, content)
    values = cli("rank", "vector_add", "--device", "H100", "--space", path, "--json").json
    assert values["configurations"] == 3
    assert {row["B"] for row in values["best"]} == {64, 256}
    assert values["infeasible"] == {"4096 threads per block, at most 1024": 1}


def test_set_wins_over_the_space(cli, tmp_path):
    for name, content in (("s.yaml", "N: 1024\nB: [64, 128]\n"), ("s.csv", "N,B\n1024,64\n1024,128\n")):
        path = written(tmp_path / name, content)
        values = cli("rank", "vector_add", "-d", "H100", "--space", path, "-s", "N=2048", "--json").json
        assert {row["N"] for row in values["best"]} == {2048}


def test_where_nothing_can_run_the_reasons_are_printed(cli):
    done = cli("rank", "vector_add", "-d", "H100", "-s", "B=4096")
    assert done.code == 0
    assert "1×  4096 threads per block, at most 1024" in done.out


def test_a_space_with_some_arguments_fixed(cli):
    """Columns that never vary are priced as single numbers, beside those that do."""
    fixed = ("KWG=16", "VWM=1", "VWN=1", "MDIMC=8", "NDIMC=8", "MDIMA=8", "NDIMB=8")
    values = cli("rank", "gemm_clblast", "-d", "H100", *(f"-s{s}" for s in fixed), "--json").json
    assert values["configurations"] == 64
    assert len(values["best"]) == 10


def test_a_terminal_without_our_letters_gets_others(cli, monkeypatch):
    raw = io.BytesIO()
    with monkeypatch.context() as patch:
        stream = io.TextIOWrapper(raw, encoding="latin-1")
        patch.setattr(sys, "stdout", stream)
        assert cli("estimate", *ADD).code == 0
        stream.flush()
    text = raw.getvalue().decode("latin-1")
    assert "vector_add on NVIDIA H100" in text
    assert "µs" in text
    assert "?" in text  # a dash that Latin-1 lacks


# -- validate


def measured(rows: int = 12) -> pd.DataFrame:
    """Timings of vector_add on two GPUs: the model's own, times a factor that varies; some rows failed, some cannot run."""
    parts = []
    for gpu in ("V100", "Tesla-K40"):
        rng = np.random.default_rng(len(gpu))
        table = pd.DataFrame({"N": rng.integers(1 << 20, 1 << 24, rows), "B": rng.choice([32, 64, 128, 256, 512], rows)})
        seconds = Scorer(find_description("vector_add"), gpu).score(table).seconds
        table = table.assign(kernel="vector_add", gpu=gpu, time_ms=seconds * 1e3 * rng.uniform(1.0, 1.5, rows), status="ok")
        cannot = table.head(2).assign(B=4096)
        failed = pd.concat([table.head(1).assign(B=2048), table.head(2)]).assign(status="launch_failed", time_ms=np.nan)
        parts += [table, cannot, failed]
    return pd.concat(parts, ignore_index=True)


def saved(path: Path, frame: pd.DataFrame) -> Path:
    frame.to_parquet(path)
    return path


def test_validate_json_has_one_object_for_each_kernel_and_gpu(cli, tmp_path):
    path = saved(tmp_path / "two.parquet", measured())
    done = cli("validate", path, "--json")
    found = done.json
    assert [(r["file"], r["kernel"], r["gpu"], r["device"]) for r in found] == [
        (str(path), "vector_add", "V100", "v100_pcie"),
        (str(path), "vector_add", "Tesla-K40", "tesla_k40"),
    ]
    for report in found:
        promised = ["file", "kernel", "gpu", "device", "n", *FIGURES, "counters", "baselines"]
        assert [key for key in report if key in promised] == promised
        assert report["n"] == 12
        assert isinstance(report["n"], int)
        assert all(isinstance(report[key], float) for key in FIGURES)
        assert report["rho"] > 0.9
        assert report["counters"] == {}
        assert set(report["baselines"]) >= {"bytes", "roofline"}
        for figures in report["baselines"].values():
            assert list(figures) == ["rho", "tau", "top1", "top5", "top10", "mape", "n", "note"]
            assert all(value is None or isinstance(value, float | int | str) for value in figures.values())
        assert (report["failed"], report["failed_foreseen"]) == (3, 1)
        assert report["infeasible_but_ran"] == {"4096 threads per block, at most 1024": 2}


def test_validate_json_says_null_where_a_figure_is_not_defined(cli, tmp_path):
    path = saved(tmp_path / "one.parquet", measured().head(1))
    done = cli("validate", path, "--json")
    (report,) = done.json
    assert "NaN" not in done.out
    assert report["n"] == 1
    assert report["rho"] is report["tau"] is report["baselines"]["bytes"]["rho"] is None
    assert report["top1"] == 1.0


def test_validate_for_people(cli, tmp_path):
    path = saved(tmp_path / "two.parquet", measured())
    done = cli("validate", path)
    assert (done.code, done.err) == (0, f"1/1 {path}\n")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip()]
    assert sum(line.startswith("vector_add on ") for line in lines) == 2
    assert re.match(r"vector_add on V100 \(v100_pcie\): 12 rows, [\d,]+ configurations/s$", lines[0])
    assert lines[1].split() == ["rho", "tau", "top1", "top5", "top10", "mape", "|log2|", "sigma", "ties"]
    figures = cli("validate", path, "--json").json[0]
    assert lines[3].split()[:3] == ["model", f"{figures['rho']:.3f}", f"{figures['tau']:.3f}"]
    assert "2 rows ran although the model says they cannot" in done.out
    assert "3 rows failed when measured; of 1 the model says that they cannot run" in done.out


def test_validate_several_files(cli, tmp_path):
    frame = measured()
    one, two = (saved(tmp_path / f"{gpu}.parquet", frame.query("gpu == @gpu")) for gpu in ("V100", "Tesla-K40"))
    done = cli("validate", one, two, "--json")
    assert [(r["file"], r["gpu"]) for r in done.json] == [(str(one), "V100"), (str(two), "Tesla-K40")]
    assert done.err.splitlines() == [f"1/2 {one}", f"2/2 {two}"]


def test_validate_options(cli, tmp_path):
    frame = measured().assign(kernel="somebody's", gpu="unheard of")
    path = saved(tmp_path / "t.csv.parquet", frame)
    file = ROOT / "validation" / "kernels" / "streaming.py"
    (report,) = cli(
        "validate", path, "--kernel", f"{file}:vector_add", "--device", "V100", "--query", "N > 4000000", "--json"
    ).json
    assert (report["kernel"], report["gpu"], report["device"]) == ("somebody's", "unheard of", "v100_pcie")
    assert report["n"] == int(((frame["N"] > 4_000_000) & (frame["B"] <= 1024) & (frame["status"] == "ok")).sum())


def test_a_query_may_choose_one_of_several_gpus(cli, tmp_path):
    path = saved(tmp_path / "two.parquet", measured())
    (report,) = cli("validate", path, "--query", "gpu == 'Tesla-K40' and B > 0", "--json").json
    assert (report["gpu"], report["n"]) == ("Tesla-K40", 12)


# -- what it refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "no such command 'frobnicate'.*; see costmodel --help"),
        (["devices", "--jsn"], "no such option.*--jsn.*; see costmodel devices --help"),
        (["devices", "H1000"], "unknown GPU 'H1000'; did you mean h100_sxm"),
        (["devices", ""], "unknown GPU ''; known: a10"),
        (["devices", "/"], "unknown GPU '/'"),
        (["devices", "H100", "--schema", "."], "--schema writes those of all profiles"),
        (["devices", "H100", "V100"], "unexpected extra argument"),
        (["estimate"], "missing argument"),
        (["estimate", "vector_add"], "missing option '--device'"),
        (["estimate", "vector_add", "-d"], "requires an argument"),
        (["estimate", "vecto_add", "-d", "H100"], "no description 'vecto_add'; did you mean vector_add"),
        (["estimate", "", "-d", "H100"], "no description ''; known: .*copy"),
        (["estimate", "vector_add:x", "-d", "H100"], "no description 'vector_add:x'"),
        (["estimate", "none.py:f", "-d", "H100"], "none.py: no such file"),
        (["estimate", "none.py", "-d", "H100"], "none.py: no such file"),
        (["estimate", *ADD, "--registers", "0"], "registers=0: expected 1 to 255"),
        (["estimate", *ADD, "--registers", "-1"], "registers=-1: expected 1 to 255"),
        (["estimate", *ADD, "--registers", "9999"], "registers=9999: expected 1 to 255"),
        (["estimate", *ADD, "--registers", "many"], "invalid value for '--registers'"),
        (["estimate", "vector_add", "-d", "nope", "-s", "N=1", "-s", "B=1"], "unknown GPU 'nope'; "),
        (["estimate", "vector_add", "-d", "none.yaml", "-s", "N=1", "-s", "B=1"], "none.yaml: "),
        (["rank", *GEMM, "--top", "0"], "invalid value for '--top'"),
        (["rank", *GEMM, "--top", "-3"], "invalid value for '--top'"),
        (["rank", *GEMM, "--top", "x"], "invalid value for '--top'"),
        (["rank", "gemm", "-d", "H100"], "gemm: no values for 'M'; add it to its SPACE or pass --set M="),
        (["rank", "matrix_sum_normal", "-d", "H100"], "matrix_sum_normal has no search space of its own; give one with --space"),
        (["validate"], "missing argument 'FILE|FOLDER"),
        (["validate", "none.parquet"], "none.parquet: no such file"),
        (["validate", ""], "no data in this folder"),
        (["validate", str(ROOT)], "no data in this folder; expected files that end in .parquet"),
        (["validate", str(ROOT / "README.md")], "README.md: expected a .parquet, .csv or .json file, got '.md'"),
        (["validate", "x.parquet", "--kernel", "vecto_add"], "no description 'vecto_add'; did you mean vector_add"),
        (["validate", "x.parquet", "--device", "V1000"], "unknown GPU 'V1000'; did you mean"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_refused(refused, arguments, message):
    assert re.search(message, refused(*arguments))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["N=5"], "no value for B; pass B="),
        ([], "no value for N, B"),
        (["N"], "--set N: expected K=V, such as --set N=1024"),
        (["N="], "--set N=: expected K=V"),
        (["=5"], "--set =5: expected K=V"),
        ([""], "--set : expected K=V"),
        (["Nn=5", "B=2"], r"--set Nn=5: vector_add has no argument 'Nn' \(did you mean 'N'\?\); arguments: N, B"),
        (["N=5", "N=6", "B=2"], "--set N=6: N is 5 already"),
        (["N=abc", "B=2"], "--set N=abc: expected a whole number"),
        (["N=1.5", "B=2"], "--set N=1.5: expected a whole number"),
        (["N=1e6", "B=2"], "--set N=1e6: expected a whole number"),
        (["N=nan", "B=2"], "--set N=nan: expected a whole number"),
        (["N=true", "B=2"], "--set N=true: expected a whole number"),
        (["N=" + "9" * 5000, "B=2"], "--set N=9{40}…: expected a whole number"),
        (["N=1024", "B=0"], r"B=0: expected a number from 1 to 2\*\*40"),
        (["N=-1024", "B=2"], "N=-1024: expected a number from 1"),
        (["N=99999999999999999999999", "B=256"], r"N=9+: expected a number from 1 to 2\*\*40"),
        (["N=1099511627777", "B=1024"], r"expected a number from 1 to 2\*\*40"),
        (["N=1099511627776", "B=1024"], "vector_add cannot run on h100_sxm: global arrays need 13194139533312 bytes"),
        (["N=1024", "B=2048"], "vector_add cannot run on h100_sxm: 2048 threads"),
    ],
)
def test_wrong_sizes_are_refused(refused, given, message):
    assert re.search(message, refused("estimate", "vector_add", "-d", "H100", *(f"--set={s}" for s in given)))


def test_sizes_that_do_not_divide_are_refused(refused):
    sizes = ("M=1000", "N=1000", "K=1000", *TILE)
    message = refused("estimate", "gemm", "-d", "H100", *(f"--set={s}" for s in sizes))
    assert message.startswith("gemm cannot run on h100_sxm: requires M % BM == 0 (M=1000, ")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.yaml", "", "expected a mapping from arguments to a value or a list of values, got NoneType"),
        ("s.yaml", "- 1\n", "expected a mapping .* got list"),
        ("s.yaml", "N: [1\n", "s.yaml: line 2: expected ',' or ']'"),
        ("s.yaml", "\tN: 1", "s.yaml: line 1: "),
        ("s.yaml", b"\xff\xfe\x00", "s.yaml: .*utf-8"),
        ("s.yaml", "a: \x00", "s.yaml: .*not allowed"),
        ("s.yaml", "!!python/object:os.system {}", "could not determine a constructor"),
        ("s.yaml", "N: 1\nB: 32\nN: 2\n", "s.yaml: line 3: 'N' is given twice"),
        ("s.yaml", "N: 1\nC: 4\nB: 32\n", "s.yaml: vector_add has no argument 'C'; arguments: N, B"),
        ("s.yaml", "1: 2\n", "has no argument '1'"),
        ("s.yaml", "N: 3\n", "no values for 'B'; add it to .*s.yaml or pass --set B="),
        ("s.yaml", "N: []\nB: 32\n", "s.yaml: 'N' has no values"),
        ("s.yaml", "N: abc\nB: 32\n", "'N', row 0: expected a whole number, got 'abc'"),
        ("s.yaml", "N: [64, abc]\nB: 32\n", "'N', row 1: expected a whole number, got 'abc'"),
        ("s.yaml", "N: [1.5]\nB: 32\n", "expected a whole number, got 1.5"),
        ("s.yaml", "N: .nan\nB: 32\n", "expected a whole number, got nan"),
        ("s.yaml", "N: -.inf\nB: 32\n", "expected a whole number, got -inf"),
        ("s.yaml", "N:\nB: 32\n", "expected a whole number, got None"),
        ("s.yaml", "N: true\nB: 32\n", "expected whole numbers, got bool"),
        ("s.yaml", "N: {a: 1}\nB: 32\n", "expected a whole number, got {'a': 1}"),
        ("s.yaml", "N: [[1, 2]]\nB: 32\n", r"expected a whole number, got \[1, 2\]"),
        ("s.yaml", "N: 2020-01-01\nB: 32\n", "expected a whole number, got datetime.date"),
        ("s.yaml", "N: [-1]\nB: 32\n", r"expected a number from 1 to 2\*\*40, got -1"),
        ("s.yaml", "N: 99999999999999999999\nB: 32\n", r"expected a number from 1 to 2\*\*40, got 9+"),
        ("s.json", "{", "s.json: Expecting property name"),
        ("s.json", "3", "expected a mapping .* got int"),
        ("s.json", '{"N": 1, "N": 2, "B": 32}', "'N' is given twice"),
        ("s.json", "[" * 100_000, "s.json: "),
        ("s.csv", "", "s.csv: cannot be read as a table"),
        ("s.csv", "N,B\n", "s.csv: no rows"),
        ("s.csv", "N,C\n1,2\n", "no column for argument 'B'.*; columns: N, C"),
        ("s.csv", "N,B\nx,3\n", "'N', row 0: expected a whole number, got 'x'"),
        ("s.csv", "N,B\n1\n", "'B', row 0: expected a whole number, got nan"),
        ("s.parquet", "PAR1", "s.parquet: cannot be read as a table"),
        ("s.txt", "hello", "expected a mapping .* got str"),
    ],
)
def test_wrong_spaces_are_refused(refused, tmp_path, name, content, message):
    path = written(tmp_path / name, content)
    assert re.search(message, refused("rank", "vector_add", "-d", "H100", "--space", path))


@pytest.mark.parametrize("name", ["s.yaml", "s.json", "s.csv", "s.parquet"])
def test_spaces_that_are_not_there_are_refused(refused, tmp_path, name):
    rank = ("rank", "vector_add", "-d", "H100", "--space", tmp_path / name)
    assert re.search(f"{name}: no such file", refused(*rank), re.I)
    (tmp_path / name).mkdir()
    assert re.search(f"{name}: is (a directory|not a file)", refused(*rank), re.I)


def test_too_many_combinations_are_refused_before_they_are_made(refused, tmp_path):
    values = ", ".join(map(str, range(1, 5001)))
    path = written(tmp_path / "s.json", f'{{"N": [{values}], "B": [{values}]}}')
    message = refused("rank", "vector_add", "-d", "H100", "--space", path)
    assert "25,000,000 combinations; at most 20,000,000. Fix some arguments with --set" in message


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read everything")
def test_what_may_not_be_read_is_refused(refused, tmp_path):
    path = written(tmp_path / "s.yaml", "N: 1\nB: 32\n")
    path.chmod(0)
    assert "Permission denied" in refused("rank", "vector_add", "-d", "H100", "--space", path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name:", "nmae:", "name: expected the file name 'mine', got None"),
        ("architecture:", "architekture:", "architecture: expected one of .*, got nothing"),
        ("sm_count:", "sm_cuont:", "sm_c.*"),
        ("bandwidth_bytes_per_s: ", "bandwidth_bytes_per_s: fast #", "bandwidth_bytes_per_s: expected a number"),
    ],
)
def test_a_profile_with_a_mistake_is_refused(cli, tmp_path, old, new, message):
    text = (ROOT / "hardware_profiles" / "h100_sxm.yaml").read_text().replace("name: h100_sxm", "name: mine", 1)
    assert old in text
    path = written(tmp_path / "mine.yaml", text.replace(old, new, 1))
    for arguments in (("devices", path), ("estimate", *ADD, "--device", path)):
        done = cli(*arguments)
        assert (done.code, done.out) == (2, "")
        assert re.search(rf"^error: .*mine\.yaml: .*{message}", done.err), done.err
        assert "Traceback" not in done.err


HEAD = "from costmodel import kernel\nfrom costmodel.dtypes import f32\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def f(:\n", r"d.py: cannot be imported: SyntaxError: .*line 1"),
        ("import nothing_like_that\n", "d.py: cannot be imported: ModuleNotFoundError: No module named 'nothing_like_that'"),
        ("1 / 0\n", "d.py: cannot be imported: ZeroDivisionError"),
        (b"\x00", "d.py: cannot be imported"),
        ("def f(k, *, N): ...\nf2 = 3\n", r"d.py: no description 'f'; it describes nothing \(functions under @kernel\)"),
        ("", "d.py: no description 'f'; it describes nothing"),
        (f"{HEAD}@kernel\ndef g(k, *, N): ...\n", "d.py: no description 'f'; it describes g"),
        (f"{HEAD}@kernel\ndef f(k, *, N): ...\n", "kernel f: it has no statement"),
        (f"{HEAD}@kernel\ndef f(k, *, N):\n    if N > 3: ...\n", r"truth of 'N > 3' is not known .*static="),
        (f"{HEAD}@kernel\ndef f(N): ...\n", "--set N=64: f has no argument 'N'; arguments: none"),
    ],
)
def test_wrong_description_files_are_refused(refused, tmp_path, content, message):
    path = written(tmp_path / "d.py", content)
    assert re.search(message, refused("estimate", f"{path}:f", "-d", "H100", "-s", "N=64"))


@pytest.mark.parametrize("line", ["k.nothing(N)", "nonsense", "1 / 0", "f.function(k, N=N)"])
def test_a_description_that_fails_while_it_is_traced_is_refused(cli, tmp_path, line):
    path = written(tmp_path / "d.py", f"{HEAD}@kernel\ndef f(k, *, N):\n    {line}\n")
    done = cli("estimate", f"{path}:f", "-d", "H100", "-s", "N=64")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1


def test_a_description_file_that_ends_the_program_is_refused(cli, tmp_path):
    done = cli("estimate", f"{written(tmp_path / 'd.py', 'raise SystemExit(3)')}:f", "-d", "H100")
    assert (done.code, done.out) == (2, "")
    assert "d.py: cannot be imported: SystemExit" in done.err


@pytest.mark.parametrize("target", ["two.py", "folder.py:f"])
def test_a_target_must_name_one_description(refused, tmp_path, target):
    written(tmp_path / "two.py", f"{HEAD}@kernel\ndef f(k, *, N): ...\n@kernel\ndef g(k, *, N): ...\n")
    (tmp_path / "folder.py").mkdir()
    message = refused("estimate", tmp_path / target, "-d", "H100")
    assert message.endswith("two.py: expected file.py:function; it describes f, g") or "folder.py: no such file" in message


OK = pd.DataFrame(
    {"kernel": "vector_add", "gpu": "V100", "N": [1024, 2048, 4096], "B": [32, 64, 128], "time_ms": [1.0, 2.0, 3.0]}
)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (OK.drop(columns="time_ms"), "column 'time_ms' is missing; found kernel, gpu, N, B"),
        (OK.drop(columns="gpu"), "column 'gpu' is missing"),
        (OK.drop(columns="kernel"), "column 'kernel' is missing"),
        (OK.head(0), "no rows"),
        (OK.drop(columns="B"), "vector_add: no column 'B' for argument 'B' of vector_add; columns: kernel, gpu, N, time_ms"),
        (OK.assign(status="failed"), "no measured row is left"),
        (OK.assign(time_ms=-1.0), "no measured row is left"),
        (OK.assign(time_ms="fast"), "row 0: time_ms: expected a number, got 'fast'"),
        (OK.assign(B=5000), "the model says that no row can run: 5000 threads per block, at most 1024"),
        (OK.assign(N=0), "vector_add on V100: .*'N', row 0: expected a number from 1"),
        (OK.assign(N=[1.5, 2.0, 3.0]), "'N', row 0: expected a whole number, got 1.5"),
        (OK.assign(N="a"), "'N', row 0: expected a whole number, got 'a'"),
        (OK.assign(N=2**63 - 1), r"'N', row 0: expected a number from 1 to 2\*\*40"),
        (OK.assign(gpu="nope"), "vector_add on nope: unknown GPU 'nope'"),
        (OK.assign(gpu=["V100", "nope", "V100"]), "vector_add on nope: unknown GPU 'nope'"),
        (OK.assign(kernel="vecto_add"), "vecto_add on V100: no description 'vecto_add'; did you mean vector_add"),
    ],
)
def test_wrong_data_is_refused(refused, tmp_path, frame, message):
    said = refused("validate", saved(tmp_path / "t.parquet", frame))
    assert said.startswith(f"{tmp_path / 't.parquet'}: ")
    assert re.search(message, said)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("N > 1e9", "no measured row is left; check status and --query"),
        ("foo > 1", "query 'foo > 1': name 'foo' is not defined; columns: kernel, gpu, N, B, time_ms"),
        ("N >", "query 'N >': .*columns: kernel"),
        ("N", "query 'N': .*columns: kernel"),
        ("N > 'a'", "query"),
        ("@x > 1", "query '@x > 1': .*not defined"),
        ("__import__('os').system('true')", "query .*not a supported function"),
    ],
)
def test_wrong_queries_are_refused(refused, tmp_path, query, message):
    assert re.search(message, refused("validate", saved(tmp_path / "t.parquet", OK), "--query", query))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"kernel,gpu,time_ms\n"])
def test_what_is_no_parquet_file_is_refused(refused, tmp_path, content):
    assert "t.parquet: cannot be read as parquet" in refused("validate", written(tmp_path / "t.parquet", content))


# -- what it reads, without the command around it


def test_static_arguments_may_be_flags_or_words():
    gemm = find_description("gemm_clblast")
    assert settings(["SA=true", "SB=False", "STRM=1", "STRN=word", "M=0x10"], gemm) == {
        "SA": True, "SB": False, "STRM": 1, "STRN": "word", "M": 16,
    }  # fmt: skip
    assert settings(None, gemm) == {}


def test_a_table_has_every_combination_and_the_types_of_the_space(tmp_path):
    add = find_description("vector_add")
    table = table_of(add, written(tmp_path / "s.yaml", "N: [1, 2]\nB: [32, 64]\n"), {})
    assert table.to_dict("list") == {"N": [1, 1, 2, 2], "B": [32, 64, 32, 64]}
    assert (table.dtypes == np.int64).all()
    written(tmp_path / "s.yaml", "N: 1\n")
    with pytest.raises(SizeError, match="no values for 'B'"):
        table_of(add, tmp_path / "s.yaml", {"N": 3})
    with pytest.raises(DataError, match="has no argument"):
        table_of(add, written(tmp_path / "s.yaml", "Q: 1\n"), {})


def test_progress_is_a_line_for_each_file(monkeypatch, capsys):
    monkeypatch.setattr(inputs, "Console", lambda stderr: SimpleNamespace(is_terminal=False))
    assert list(inputs.told(["a", "b"])) == ["a", "b"]
    assert capsys.readouterr().err == "1/2 a\n2/2 b\n"


# -- as a process


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "costmodel", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", **environment},
        capture_output=True,
        check=False,
        timeout=120,
    )


def test_json_is_all_that_stdout_gets(tmp_path):
    done = process("validate", str(saved(tmp_path / "t.parquet", OK)), "--json")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)) == 1
    assert b"Traceback" not in done.stderr


def test_an_error_is_one_line_and_exit_code_2():
    done = process("estimate", "vector_add", "-d", "H100", "-s", "N=5", "-s", "B=0")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: vector_add: B=0: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_a_reader_that_leaves_is_no_accident():
    script = f'"{sys.executable}" -m costmodel devices --json | head -c 1'
    done = subprocess.run(script, shell=True, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr) == ("[", "")
