"""Kernel Tuner, Triton's and TileLang's autotuners, each the real one, on the CPU."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import weakref

import numpy as np
import pytest

from costmodel import Scorer, estimate
from costmodel.cost import find_description
from tests.hosts import host, one_warning, unlike_any

ADD = find_description("vector_add")
LIBRARY_GEMM = find_description("library_gemm")


# -- Kernel Tuner


TUNE_PARAMS = {"block_size_x": [32, 64, 128, 256, 512, 1024, 2048], "ILP": [1, 2]}


def measured_ms(config):
    """What the cache says: near the prediction, except that one block size is half as long as predicted."""
    predicted = estimate(ADD, "A100", N=1 << 26, B=min(config["block_size_x"], 1024)).seconds * 1e3
    return predicted * (0.5 if config["block_size_x"] == 512 else 1.0) * (1 + config["ILP"] / 100)


@pytest.fixture
def tune(tmp_path):
    """`tune_kernel` in simulation mode on a cache of all configurations, in Kernel Tuner's own format."""
    kernel_tuner = host("kernel_tuner", "pip install 'costmodel[kernel-tuner]'")
    timings = {"compile_time": 1.0, "verification_time": 0, "benchmark_time": 1.0, "strategy_time": 0, "framework_time": 0}
    entries = {}
    for block in TUNE_PARAMS["block_size_x"]:
        for ilp in TUNE_PARAMS["ILP"]:
            config = {"block_size_x": block, "ILP": ilp}
            ms = measured_ms(config) if block <= 1024 else "RuntimeFailedConfig"
            entries[f"{block},{ilp}"] = {**config, "time": ms, **timings, "timestamp": "2026-11-21"}
    cache = tmp_path / "cache.json"
    header = {"device_name": "A100", "kernel_name": "add", "problem_size": [1 << 26, 1, 1], "objective": "time"}
    params = {"tune_params_keys": list(TUNE_PARAMS), "tune_params": TUNE_PARAMS}
    cache.write_text(json.dumps({**header, **params, "cache": entries}, indent=0))

    def run(strategy, restrictions=None, **options):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Kernel .* and host argument")
            source = "__global__ void add() {}"
            return kernel_tuner.tune_kernel(
                "add", source, (1 << 26, 1, 1), [], TUNE_PARAMS, strategy=strategy, restrictions=restrictions, lang="CUDA",
                strategy_options=options, cache=str(cache), simulation_mode=True, quiet=True,
            )  # fmt: skip

    return run


def test_kernel_tuner_measures_in_predicted_order_within_its_budget(tune):
    from costmodel.adapters.kernel_tuner import PredictedOrder

    strategy = PredictedOrder(ADD, "A100", {"N": 1 << 26, "B": "block_size_x"})
    results, env = tune(strategy, max_fevals=6)
    seconds = [estimate(ADD, "A100", N=1 << 26, B=r["block_size_x"]).seconds for r in results]
    assert len(results) == 6
    assert seconds == sorted(seconds)
    assert env["best_config"]["time"] == min(r["time"] for r in results)


def test_kernel_tuner_measures_all_that_launch_and_stops_where_told(tune):
    from costmodel.adapters.kernel_tuner import PredictedOrder
    from costmodel.adapters.stopping import StopRule

    sizes = {"N": 1 << 26, "B": "block_size_x"}
    everything, _ = tune(PredictedOrder(ADD, "A100", sizes, stop=None, batch=5))
    assert len(everything) == 12  # the two of 2048 threads are left out
    stopped, _ = tune(PredictedOrder(ADD, "A100", sizes, stop=StopRule(at_least=2, margin=1.0)))
    assert 2 <= len(stopped) < 12
    measured = [(r["block_size_x"], r["ILP"]) for r in everything]
    assert [(r["block_size_x"], r["ILP"]) for r in stopped] == measured[: len(stopped)]


def test_kernel_tuner_restrictions_leave_out_what_cannot_launch(tune):
    from costmodel.adapters.kernel_tuner import PredictedOrder

    strategy = PredictedOrder(ADD, "A100", {"N": 1 << 26, "B": "block_size_x"})
    two = lambda p: p["ILP"] == 2  # noqa: E731
    for given in ([], ["ILP == 2"], [two], two):
        restrictions = strategy.restrictions(TUNE_PARAMS, given)
        results, _ = tune("brute_force", restrictions)
        expected = {
            (b, i) for b in TUNE_PARAMS["block_size_x"] for i in TUNE_PARAMS["ILP"] if b <= 1024 and (i == 2 or not given)
        }
        assert {(r["block_size_x"], r["ILP"]) for r in results} == expected
        assert len(results) == len(expected)
    own = pickle.loads(pickle.dumps(restrictions[-1]))
    assert [own._func(b, 2) for b in (1024, 2048)] == [True, False]


def test_kernel_tuner_measures_everything_where_nothing_is_modelled(tune):
    from costmodel.adapters.kernel_tuner import PredictedOrder

    with one_warning(r"Kernel Tuner: 14 of 14 .*'WIDTH'"):
        strategy = PredictedOrder(unlike_any, "A100", {"N": 1 << 20, "B": "block_size_x"})
        results, _ = tune(strategy)
        restrictions = strategy.restrictions(TUNE_PARAMS)
    assert len(results) == 14
    assert restrictions[0]._func(2048, 1)


# -- Triton


def autotuned(configs, prune):
    triton = host("triton", "pip install 'costmodel[triton]'")
    from tests.host_kernels.triton_add import add

    made = triton.autotune(configs, key=["n"], prune_configs_by=prune)(triton.jit(add))
    made.nargs = {"x": object(), "y": object(), "z": object(), "n": 1 << 26}
    return made


def triton_configs(blocks, **each):
    triton = host("triton", "pip install 'costmodel[triton]'")
    return [triton.Config({"BLOCK": b}, num_warps=w, **each) for b in blocks for w in (1, 4)]


def test_triton_prunes_what_cannot_launch_and_keeps_groups_whole():
    """A description with one thread for each element: a block of 2048 cannot launch; the number of warps changes nothing."""
    from costmodel.adapters.triton import prune_configs_by

    configs = triton_configs((64, 128, 256, 512, 1024, 2048))
    seconds = {b: estimate(ADD, "H100", N=1 << 26, B=b).seconds for b in (64, 128, 256, 512, 1024)}
    ranked = sorted(set(seconds.values()))
    for top_k, groups in ((1.0, len(ranked)), (1, 1), (0.1, 1)):
        tuner = autotuned(configs, prune_configs_by(ADD, "H100", {"N": "n", "B": "BLOCK"}, top_k=top_k))
        kept = tuner.prune_configs({})
        expected = [c for c in configs if seconds.get(c.kwargs["BLOCK"], np.inf) <= ranked[groups - 1]]
        assert set(map(str, kept)) == set(map(str, expected))
        times = [seconds[c.kwargs["BLOCK"]] for c in kept]
        assert times == sorted(times)


def test_triton_perf_model_is_seconds_from_the_table_or_alone():
    from costmodel.adapters.triton import prune_configs_by

    prune = prune_configs_by(ADD, "H100", {"N": "n", "B": "BLOCK"})
    expected = estimate(ADD, "H100", N=1 << 20, B=128).seconds
    assert prune["perf_model"](n=1 << 20, BLOCK=128, num_warps=4) == pytest.approx(expected)
    tuner = autotuned(triton_configs((64, 128, 256)), prune)
    tuner.configs_top_k = 2  # Triton's own cut, by perf_model, one configuration at a time
    assert len(tuner.prune_configs({})) == 2
    told = {c: prune["perf_model"](**tuner.nargs, **c.all_kwargs()) for c in tuner.configs}
    for config, seconds in told.items():
        assert seconds == pytest.approx(estimate(ADD, "H100", N=1 << 26, B=config.kwargs["BLOCK"]).seconds)
    assert prune["perf_model"](n=1 << 20, BLOCK=2048) == np.inf


def test_triton_prunes_by_shared_memory_and_registers():
    """Against the profile's limits: a GEMM whose stages do not fit an SM is never measured."""
    from costmodel.adapters.triton import prune_configs_by

    triton = host("triton", "pip install 'costmodel[triton]'")
    sizes = {"M": 4096, "N": 4096, "K": 4096, "BM": "BLOCK", "BN": "BLOCK", "BK": 64, "WM": 64, "STAGES": "num_stages"}
    prune = prune_configs_by(LIBRARY_GEMM, "H100", {**sizes, "WN": lambda c: c["BLOCK"] * 64 // (c["num_warps"] * 64)})
    configs = [triton.Config({"BLOCK": b}, num_warps=8, num_stages=s) for b in (128, 256) for s in range(2, 8)]
    kept = autotuned(configs, prune).prune_configs({})
    shared = Scorer(LIBRARY_GEMM, "H100").device.shared.max_bytes_per_block
    assert {str(c) for c in configs if 2 * 2 * c.kwargs["BLOCK"] * 64 * c.num_stages > shared}.isdisjoint(map(str, kept))
    assert kept


def test_triton_gemm_knows_what_the_compiler_decides(monkeypatch, tmp_path):
    """The instruction and the layout of warps in the IR that Triton compiles, without a GPU, for tiles of either kind."""
    triton = host("triton", "pip install 'costmodel[triton]'")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from costmodel.adapters.triton_gemm import triton_gemm
    from validation.kernels import gemm_triton as source

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    tiles = ((128, 64, 4), (64, 128, 8), (32, 128, 4))
    for gpu, capability in (("A100", 80), ("H100", 90)):
        _, sizes = triton_gemm(gpu, {"DTYPE": "f16"})
        for rows, columns, warps in tiles:
            tile = {"BLOCK_M": rows, "BLOCK_N": columns, "BLOCK_K": 64, "GROUP_M": 8, "num_warps": warps, "num_stages": 3}
            told = sizes({"M": 4096, "N": 4096, "K": 4096, **tile})
            function, types, constants, options = source.signature(told)
            aligned = {(function.arg_names.index(n),): [["tt.divisibility", 16]] for n, t in types.items() if t != "constexpr"}
            made = ASTSource(function, {n: types[n] for n in function.arg_names}, constants, aligned)
            built = triton.compile(made, target=GPUTarget("cuda", capability, 32), options=options)
            found = re.search(r"nvidia_mma<\{versionMajor = (\d).*?warpsPerCTA = \[(\d+), (\d+)\]", built.asm["ttgir"])
            assert found
            assert told["INSTRUCTION"] == ("wgmma" if found[1] == "3" else "mma")
            assert (told["DOWN"], warps // told["DOWN"]) == (int(found[2]), int(found[3])), (gpu, tile)


def test_triton_tensors_are_not_kept_alive():
    from costmodel.adapters.triton import prune_configs_by

    class Tensor:
        pass

    prune = prune_configs_by(ADD, "H100", {"N": "n", "B": "BLOCK"})
    tuner = autotuned(triton_configs((64, 128)), prune)
    tuner.nargs["x"] = Tensor()
    gone = weakref.ref(tuner.nargs["x"])
    tuner.prune_configs({})
    seconds = prune["perf_model"](**tuner.nargs, **tuner.configs[0].all_kwargs())
    tuner.nargs = None
    assert gone() is None
    assert prune["perf_model"](n=1 << 26, **tuner.configs[0].all_kwargs()) == seconds


def test_triton_measures_everything_where_nothing_is_modelled():
    from costmodel.adapters.triton import prune_configs_by

    configs = triton_configs((64, 2048))
    tuner = autotuned(configs, prune_configs_by(unlike_any, "H100", {"N": "n", "B": "BLOCK"}, top_k=1))
    with one_warning(r"Triton's autotuner: 4 of 4"):
        assert tuner.prune_configs({}) == configs
        assert tuner.prune_configs({}) == configs


# -- TileLang


def tile_configs(M, N, K):
    return [{"block": b, "num_stages": s} for b in (32, 64, 128, 256) for s in (1, 2, 6)]


TILE_SIZES = {"BM": "block", "BN": "block", "BK": 64, "WM": 32, "WN": "block", "STAGES": "num_stages"}


def test_tilelang_measures_the_best_first_and_only_what_launches(monkeypatch, tmp_path):
    """The list as TileLang's own tuner goes through it: the compiler is replaced, there is no GPU to measure on."""
    monkeypatch.chdir(tmp_path)  # it writes a log where it is
    tilelang = host("tilelang", "pip install 'costmodel[tilelang]'")
    from costmodel.adapters.tilelang import ranked
    from tests.host_kernels.tilelang_product import product

    monkeypatch.setenv("TILELANG_AUTO_TUNING_DISABLE_CACHE", "1")
    tried = []

    best = ranked(tile_configs, LIBRARY_GEMM, "A100", TILE_SIZES, top=0.5)
    matmul = tilelang.autotune(configs=best)(tilelang.jit(product, target="c"))

    def refuse(mode, args, kwargs):
        def compile_one(**config):
            tried.append((config["block"], config["num_stages"]))
            raise RuntimeError("no GPU")

        return compile_one

    monkeypatch.setattr(matmul, "_make_jit_compile_func", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError, match="No configuration successfully compiled"):
            matmul(2048, 2048, 2048)
    configs = [(c["block"], c["num_stages"]) for c in tile_configs(2048, 2048, 2048)]
    problem = {"M": 2048, "N": 2048, "K": 2048, "BK": 64, "WM": 32, "SPLIT": 1, "SPLITS": False, "INSTRUCTION": "mma"}
    columns = {"BM": [b for b, _ in configs], "BN": [b for b, _ in configs], "WN": [b for b, _ in configs]}
    table = {**problem, "MULTICAST": "", **columns, "STAGES": [s for _, s in configs]}
    scores = Scorer(LIBRARY_GEMM, "A100").score(table)
    order = np.argsort(scores.seconds, kind="stable")[: int(scores.feasible.sum())]
    assert 0 < order.size < len(configs)
    assert sorted(tried) == sorted(configs[i] for i in order[: len(tried)])
    assert len(tried) >= order.size / 2
