"""Kernel Tuner, Triton's and TileLang's autotuners, each the real one, on the CPU."""

from __future__ import annotations

import gc
import json
import pickle
import re
import warnings
import weakref

import numpy as np
import pytest

from costmodel import Scorer, estimate
from costmodel.cost import find_description
from costmodel.symbols import size
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


# -- Triton, kernels read themselves


MATMUL_TILES = [
    (64, 64, 4, 3),
    (128, 64, 4, 4),
    (128, 128, 8, 3),
    (128, 256, 8, 3),
    (256, 256, 8, 4),
    (128, 256, 8, 6),
    (32, 32, 4, 2),
]
"""Rows, columns, warps, stages, 64 deep; the last but one and two need more shared memory than H100 has for a block."""


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Makes a tuned kernel that runs from its launch to its measurements on the CPU, and the list of what it would have run."""
    triton = host("triton", "pip install 'costmodel[triton]'")
    host("torch", "pip install 'costmodel[torch]'")
    monkeypatch.setenv("COSTMODEL_CACHE", str(tmp_path))
    launched: list[dict] = []

    def bench(call, quantiles):
        call()
        return [float(len(launched))] * 3

    def make(name, configs, key, between=lambda jitted: jitted, **options):
        from tests import triton_kernels

        jitted = triton.jit(getattr(triton_kernels, name).fn)
        monkeypatch.setattr(jitted, "run", lambda *args, **kwargs: launched.append(kwargs))
        return triton.autotune(configs, key=key, do_bench=bench, **options)(between(jitted))

    return make, launched


def matmul_configs(tiles=MATMUL_TILES):
    triton = host("triton", "pip install 'costmodel[triton]'")
    return [triton.Config({"BM": m, "BN": n, "BK": 64, "GROUP": 8}, num_warps=w, num_stages=s) for m, n, w, s in tiles]


def matrices(M=4096, N=2048, K=1024):
    import torch

    a, b, c = (torch.empty(shape, dtype=torch.float16) for shape in ((M, K), (K, N), (M, N)))
    return a, b, c, M, N, K, *a.stride(), *b.stride(), *c.stride()


def tiles_of(m):
    import triton

    return (triton.cdiv(m["M"], m["BM"]) * triton.cdiv(m["N"], m["BN"]),)


def tile(config):
    return tuple(config[n] for n in ("BM", "BN", "num_warps", "num_stages"))


def prices_of_the_compiler(sizes):
    """Seconds of each tile that launches, by the whole compiler and a description of the call written down by hand."""
    from costmodel.frontends.triton import rank_triton_configurations
    from tests import triton_kernels
    from tests.triton_cases import MATRIX

    types = {n: f"{t}:16" if t == "i32" else t for n, t in MATRIX.items()} | dict.fromkeys(
        ("stride_am", "stride_bk", "stride_cm"), "i32:16"
    )
    ones = dict.fromkeys(("stride_ak", "stride_bn", "stride_cn"), 1)
    each = [{"BM": m, "BN": n, "BK": 64, "GROUP": 8, "num_warps": w, "num_stages": s, **ones} for m, n, w, s in MATMUL_TILES]
    rows = rank_triton_configurations(triton_kernels.matmul, types, each, tiles_of, "H100", sizes, compile_top=1.0, workers=1)
    return {tile(r.configuration): r.seconds for r in rows if not r.reason}


def test_predicted_measures_only_the_best_of_what_launches(measured):
    from costmodel.adapters.triton import predicted

    make, launched = measured
    sizes = {"M": 4096, "N": 2048, "K": 1024, "stride_am": 1024, "stride_bk": 2048, "stride_cm": 2048}
    expected = prices_of_the_compiler(sizes)
    assert set(MATMUL_TILES) - set(expected) == {MATMUL_TILES[4], MATMUL_TILES[5]}
    for top_k, count in ((1, 1), (0.5, 3), (5, 5), (7, 5), (1.0, 5)):
        tuned = predicted("H100", top_k=top_k)(make("matmul", matmul_configs(), ["M", "N", "K"]))
        launched.clear()
        tuned[tiles_of](*matrices())
        kept = list(dict.fromkeys(tile(given) for given in launched))
        assert len(kept) == count
        assert kept == sorted(expected, key=expected.get)[:count]


def test_predicted_takes_its_share_of_what_survived(measured):
    from costmodel.adapters.triton import predicted

    make, _ = measured

    def no_large_tiles(configs, named_args, **kwargs):
        assert {"a", "M"} <= set(named_args)
        assert {"grid", "warmup"} <= set(kwargs)
        return [c for c in configs if c.kwargs["BN"] <= 64]

    own = {"early_config_prune": no_large_tiles}
    for top_k, count in ((1.0, 3), (0.5, 2)):
        tuned = predicted("H100", top_k=top_k)(make("matmul", matmul_configs(), ["M"], prune_configs_by=own))
        tuned.nargs = dict(zip(tuned.arg_names, matrices(), strict=False))
        kept = tuned.prune_configs({"grid": tiles_of, "warmup": False})
        assert len(kept) == count
        assert all(c.kwargs["BN"] <= 64 for c in kept)


def test_predicted_reads_a_launch_as_triton_specialises_it(measured):
    import torch

    from costmodel.adapters.triton_launch import launch_of

    make, _ = measured
    tuned, (config, *_) = make("matmul", matmul_configs(), ["M"]), matmul_configs()
    a, b, c = torch.empty(150 * 48 + 1, dtype=torch.float16)[1:], torch.empty(45 * 80).half(), torch.empty(150, 80).half()
    names = dict(zip(tuned.arg_names, (a, b, c, 150, 77, 45, 48, 1, 80, 1, 80, 1), strict=False))
    found = launch_of(tuned, config, {**names, "grid": tiles_of, "warmup": False}, 90)
    aligned = dict.fromkeys(("stride_am", "stride_bk", "stride_cm"), "i32:16")
    assert found.signature == {"a": "*fp16:1", "b": "*fp16:16", "c": "*fp16:16", **dict.fromkeys("MNK", "i32"), **aligned}
    assert found.constexprs == {**config.kwargs, **dict.fromkeys(("stride_ak", "stride_bn", "stride_cn"), 1)}
    assert found.sizes == {"M": 150, "N": 77, "K": 45, "stride_am": 48, "stride_bk": 80, "stride_cm": 80}
    assert found.options == {"num_warps": 4, "num_ctas": 1, "num_stages": 3}
    assert int(found.grid[0].subs({size("M"): 150, size("N"): 77})) == 3 * 2
    assert launch_of(tuned, config, {**names, "grid": lambda m: (min(m["M"], 7), 2)}, 90).grid == (7, 2)
    none = launch_of(tuned, config, {**names, "stride_am": 0, "grid": tiles_of}, 90)  # no size, which is at least 1
    assert none.constexprs["stride_am"] == 0
    assert "stride_am" not in {**none.signature, **none.sizes}


def test_predicted_reads_descriptors_that_a_hook_shapes(measured):
    """As Triton's persistent matmul does it: the block of a descriptor made on the host follows the configuration."""
    import torch

    from costmodel.adapters.triton_launch import launch_of

    triton = host("triton", "pip install 'costmodel[triton]'")
    tensor_descriptor = host("triton.tools.tensor_descriptor", "pip install 'costmodel[triton]'").TensorDescriptor
    make, _ = measured

    def shaped(nargs):
        nargs["a"].block_shape, nargs["b"].block_shape = [nargs["BM"], nargs["BK"]], [nargs["BN"], nargs["BK"]]
        nargs["c"].block_shape = [nargs["BM"], nargs["BN"]]

    given = [tensor_descriptor.from_tensor(torch.empty(shape).half(), [1, 1]) for shape in ((512, 256), (1024, 256), (512, 1024))]
    configs = [triton.Config({"BM": m, "BN": 64, "BK": k}, pre_hook=shaped) for m, k in ((64, 32), (128, 64))]
    tuned = make("host_descriptor_matmul", configs, ["K"])
    values = {**dict(zip(tuned.arg_names, given, strict=False)), "K": 256, "grid": lambda m: (1024 // m["BN"], 512 // m["BM"])}
    small, large = (launch_of(tuned, config, values, 90) for config in configs)
    assert [large.signature[n] for n in "abc"] == [f"tensordesc<fp16{block}>" for block in ([128, 64], [64, 64], [128, 64])]
    assert small.signature["a"] == "tensordesc<fp16[64, 32]>"
    extents = {"a_shape_0": 512, "a_shape_1": 256, "b_shape_0": 1024, "b_shape_1": 256, "c_shape_0": 512, "c_shape_1": 1024}
    assert small.sizes == {**extents, "a_stride_0": 256, "b_stride_0": 256, "c_stride_0": 1024}
    assert (small.grid, large.grid) == ((16, 8), (16, 4))
    assert all(d.block_shape == [1, 1] for d in given)


def test_predicted_computes_what_heuristics_compute(measured):
    from costmodel.adapters.triton import predicted

    triton = host("triton", "pip install 'costmodel[triton]'")
    make, _ = measured
    between = triton.heuristics({"GROUP": lambda given: 8})
    configs = [triton.Config({"BM": m, "BN": n, "BK": 64}, num_warps=w, num_stages=s) for m, n, w, s in MATMUL_TILES]
    above = triton.heuristics({"BK": lambda given: 64})
    orders = []
    for made in (make("matmul", configs, ["M"], between), make("matmul", matmul_configs(), ["M"])):
        outermost = above(made)
        assert predicted("H100", top_k=3)(outermost) is outermost
        made.nargs = dict(zip(made.arg_names, matrices(), strict=False))
        orders.append([tile(c.all_kwargs()) for c in made.prune_configs({"grid": tiles_of, "warmup": False})])
    assert orders[0] == orders[1]
    assert len(orders[0]) == 3


def test_predicted_does_not_keep_tensors_alive(measured):
    from costmodel.adapters.triton import predicted

    make, _ = measured
    tuned = predicted("H100")(make("matmul", matmul_configs(), ["M"]))
    tuned.nargs = dict(zip(tuned.arg_names, matrices(), strict=False))
    gone = [weakref.ref(tuned.nargs[n]) for n in "abc"]
    tuned.prune_configs({"grid": tiles_of, "warmup": False})
    tuned.nargs = None
    gc.collect()
    assert [tensor() for tensor in gone] == [None] * 3


def test_what_is_not_understood_is_tuned_as_ever_and_named(measured, monkeypatch):
    import torch

    from costmodel.adapters.triton import predicted

    triton = host("triton", "pip install 'costmodel[triton]'")
    make, _ = measured
    configs = [triton.Config({"BLOCK": b}) for b in (64, 128, 256)]
    table, where, out = torch.empty(512), torch.empty(512, dtype=torch.int32), torch.empty(512)
    given = (table, where, out, 512, 3)
    tuned = predicted("H100", top_k=1)(make("gathered", configs, ["n"]))
    tuned.nargs = dict(zip(tuned.arg_names, given, strict=False))
    with one_warning(
        r"Triton's autotuner: 3 of 3 .*triton_kernels\.py:\d+ \(tt\.\w+\)((?!description|sizes`).)*; leave such configurations out"
    ):
        assert tuned.prune_configs({"grid": (4,), "warmup": False}) == configs
        tuned.nargs["width"] = 2  # another size, and no second attempt
        monkeypatch.setattr("costmodel.frontends.triton.kernel.lowered", lambda *a: pytest.fail("lowered again"))
        assert tuned.prune_configs({"grid": (4,), "warmup": False}) == configs
    interpreted = host("triton.runtime.interpreter", "pip install 'costmodel[triton]'").InterpretedFunction
    tuned = predicted("H100", top_k=1)(make("gathered", configs, ["n"], lambda jitted: interpreted(jitted.fn)))
    tuned.nargs = dict(zip(tuned.arg_names, given, strict=False))
    with one_warning("not interpreted"):
        assert tuned.prune_configs({"grid": (4,), "warmup": False}) == configs


def test_predicted_without_a_device_or_an_autotuner(measured):
    import torch

    from costmodel.adapters.triton import predicted
    from costmodel.errors import DescriptionError, ProfileError

    make, launched = measured
    with pytest.raises(DescriptionError, match=r"expected @triton\.autotune beneath @predicted"):
        predicted("H100")(len)
    with pytest.raises(ProfileError):
        predicted("no such GPU")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    tuned = predicted(top_k=1)(make("matmul", matmul_configs(), ["M"]))
    with one_warning("matmul is not modelled and is tuned as without a model"):
        tuned[tiles_of](*matrices())
    assert [tile(given) for given in launched[: len(MATMUL_TILES)]] == MATMUL_TILES


def test_predicted_finds_the_live_gpu(measured, monkeypatch):
    import torch

    from costmodel.adapters.triton import predicted

    make, launched = measured
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100-SXM4-80GB")
    tuned = predicted()(make("matmul", matmul_configs(), ["M"]))
    tuned[tiles_of](*matrices())
    kept = {tile(given) for given in launched}
    assert kept == set(MATMUL_TILES) - {MATMUL_TILES[4], MATMUL_TILES[5]}  # 192 and 240 KiB, of 163
    assert tuned.early_config_prune.__self__.pricer.device.name == "a100_sxm4_80gb"


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
