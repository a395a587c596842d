"""Each adapter in the real library, on the CPU; libraries that are not installed are skipped, with the command that installs them."""

from __future__ import annotations

import importlib
import json
import warnings

import numpy as np
import pytest

from costmodel import Scorer, estimate, kernel
from costmodel.adapters.ranking import NotModelledWarning
from costmodel.cost import find_description
from costmodel.dtypes import f32

ADD = find_description("vector_add")
GEMM = find_description("gemm")
LIBRARY_GEMM = find_description("library_gemm")


def host(module: str, install: str):
    """The library, whatever it warns of while it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(module)
        except ImportError as error:
            pytest.skip(f"{error}: {install}")


@kernel
def unlike_any(k, *, N, B, WIDTH):
    """An argument that no host has."""
    x = k.buffer("x", (N,), f32)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.store(x[b * B + t])


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
    for given in ([], ["ILP == 2"]):
        restrictions = strategy.restrictions(TUNE_PARAMS, given)
        results, _ = tune("brute_force", restrictions)
        expected = {(b, i) for b in TUNE_PARAMS["block_size_x"] for i in TUNE_PARAMS["ILP"] if b <= 1024 and (i == 2 or not given)}
        assert {(r["block_size_x"], r["ILP"]) for r in results} == expected
        assert len(results) == len(expected)


def test_kernel_tuner_measures_everything_where_nothing_is_modelled(tune):
    from costmodel.adapters.kernel_tuner import PredictedOrder

    with pytest.warns(NotModelledWarning, match=r"Kernel Tuner: 14 of 14 .*'WIDTH'") as told:
        strategy = PredictedOrder(unlike_any, "A100", {"N": 1 << 20, "B": "block_size_x"})
        results, _ = tune(strategy)
        restrictions = strategy.restrictions(TUNE_PARAMS)
    assert len(results) == 14
    assert len(told) == 1
    assert restrictions[0]._func(2048, 1)


# -- Triton


def autotuned(configs, prune):
    triton = host("triton", "pip install 'costmodel[triton]'")
    language = triton.language

    def add(x, y, z, n, BLOCK: language.constexpr):
        i = language.program_id(0) * BLOCK + language.arange(0, BLOCK)
        language.store(z + i, language.load(x + i, mask=i < n) + language.load(y + i, mask=i < n), mask=i < n)

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


def test_triton_measures_everything_where_nothing_is_modelled():
    from costmodel.adapters.triton import prune_configs_by

    configs = triton_configs((64, 2048))
    tuner = autotuned(configs, prune_configs_by(unlike_any, "H100", {"N": "n", "B": "BLOCK"}, top_k=1))
    with pytest.warns(NotModelledWarning, match=r"Triton's autotuner: 4 of 4") as told:
        assert tuner.prune_configs({}) == configs
        assert tuner.prune_configs({}) == configs
    assert len(told) == 1


# -- egglog


@pytest.fixture
def products():
    """An e-graph in which a product of matrices can be tiled in several ways, and the function that tiles."""
    egglog = host("egglog", "pip install 'costmodel[egglog]'")

    class Tensor(egglog.Expr):
        def __init__(self, name: egglog.StringLike) -> None: ...

        def __matmul__(self, other: Tensor) -> Tensor: ...

    @egglog.function
    def tiled(a: Tensor, b: Tensor, size: egglog.i64Like, tile: egglog.i64Like) -> Tensor: ...

    a, b = Tensor("A"), Tensor("B")
    graph = egglog.EGraph()
    product = graph.let("product", a @ b)
    graph.register(*(egglog.union(product).with_(tiled(a, b, 2048, tile)) for tile in (16, 32, 64, 128, 256)))
    return graph, product, tiled, Tensor


def gemm_sizes(egraph, a, b, size, tile):
    return {"M": size, "N": size, "K": size, "BM": tile, "BN": tile, "BK": 16, "TM": 8, "TN": 8}


def test_egglog_extracts_the_fastest_kernel(products):
    from costmodel.adapters.egglog import KernelCost

    egglog = host("egglog", "pip install 'costmodel[egglog]'")
    graph, product, tiled, tensor = products
    untiled = (GEMM, lambda egraph, a, b: gemm_sizes(egraph, a, b, 2048, 16))
    model = KernelCost(graph, "H100", {tiled: (GEMM, gemm_sizes), tensor.__matmul__: untiled})
    found, cost = graph.extract(product, include_cost=True, cost_model=model)
    seconds = {t: estimate(GEMM, "H100", **gemm_sizes(None, 0, 0, 2048, t)).seconds for t in (16, 32, 64, 128, 256)}
    best = min(seconds, key=seconds.__getitem__)
    assert str(found) == f'tiled(Tensor("A"), Tensor("B"), 2048, {best})'
    assert cost.seconds == pytest.approx(seconds[best], rel=1e-9)
    _, shared = graph.extract(product, include_cost=True, cost_model=egglog.greedy_dag_cost_model(model))
    assert shared.total == cost


def test_egglog_prices_kernels_that_join_later_and_counts_a_shared_one_once(products):
    from costmodel.adapters.egglog import KernelCost

    egglog = host("egglog", "pip install 'costmodel[egglog]'")
    graph, product, tiled, tensor = products
    model = KernelCost(graph, "H100", {tiled: (GEMM, gemm_sizes)})
    twice = tiled(product, product, 4096, 64)
    graph.register(twice)
    once = estimate(GEMM, "H100", **gemm_sizes(None, 0, 0, 4096, 64)).seconds
    plain = graph.extract(product, include_cost=True, cost_model=model)[1]
    assert plain.seconds == 0  # an untiled product stands for no kernel here
    graph.register(egglog.subsume(tensor("A") @ tensor("B")))
    tree = graph.extract(twice, include_cost=True, cost_model=model)[1]
    dag = graph.extract(twice, include_cost=True, cost_model=egglog.greedy_dag_cost_model(model))[1]
    inner = graph.extract(product, include_cost=True, cost_model=model)[1]
    assert inner.seconds > 0
    assert tree.seconds == pytest.approx(once + 2 * inner.seconds, rel=1e-9)
    assert dag.total.seconds == pytest.approx(once + inner.seconds, rel=1e-9)


def test_egglog_extracts_as_ever_where_nothing_is_modelled(products):
    from costmodel.adapters.egglog import KernelCost

    graph, product, tiled, _ = products
    with pytest.warns(NotModelledWarning, match="egglog: 5 of 5") as told:
        model = KernelCost(graph, "H100", {tiled: (unlike_any, lambda egraph, a, b, size, tile: {"N": size // (tile - 16)})})
        found = graph.extract(product, cost_model=model)
    assert len(told) == 1
    assert str(found) == str(graph.extract(product))


def test_costs_of_programs_are_ordered_as_they_are_equal():
    from costmodel.adapters.egglog import ProgramCost

    ascending = [ProgramCost(0, 0, 5, 9), ProgramCost(0, 0, 6, 1), ProgramCost(0, 1, 0, 0), ProgramCost(1, 0, 0, 0)]
    assert sorted(ascending[::-1]) == ascending
    for x in ascending:
        for y in ascending:
            assert (x == y) + (x < y) + (x > y) == 1
            assert x + y - y == x


# -- TileLang


def tile_configs(M, N, K):
    return [{"block": b, "num_stages": s} for b in (32, 64, 128, 256) for s in (1, 2, 6)]


TILE_SIZES = {"BM": "block", "BN": "block", "BK": 64, "WM": 32, "WN": "block", "STAGES": "num_stages"}


def test_tilelang_measures_the_best_first_and_only_what_launches(monkeypatch):
    """The list as TileLang's own tuner goes through it: the compiler is replaced, there is no GPU to measure on."""
    tilelang = host("tilelang", "pip install 'costmodel[tilelang]'")
    from costmodel.adapters.tilelang import ranked
    from tests.tilelang_product import product

    monkeypatch.setenv("TILELANG_AUTO_TUNING_DISABLE_CACHE", "1")
    tried = []

    configs = ranked(tile_configs, LIBRARY_GEMM, "A100", TILE_SIZES, top=0.5)
    matmul = tilelang.autotune(configs=configs)(tilelang.jit(product, target="c"))

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


# -- Inductor

TORCH = "pip install 'costmodel[torch]'"
BLOCKS = {
    "BM": "BLOCK_M", "BN": "BLOCK_N", "BK": "BLOCK_K", "STAGES": "num_stages",
    "WM": lambda c: min(64, c["BLOCK_M"]), "WN": lambda c: min(32, c["BLOCK_N"]),
}  # fmt: skip


def compiled_product(kernels, top):
    """A product of matrices compiled for the CPU, to whose choices those of Triton's template for CUDA are added.

    Returns:
        Template configurations before and after, and the first choice.
    """
    torch = host("torch", TORCH)
    host("triton", "pip install 'costmodel[triton]'")
    from torch._inductor import config
    from torch._inductor.kernel.mm import mm_template
    from torch._inductor.kernel_template_choice import make_ktc_generator
    from torch._inductor.template_heuristics import get_template_heuristic
    from torch._inductor.virtualized import V

    from costmodel.adapters.inductor import choices_class

    found = []

    class WithTemplates(choices_class("H100", kernels, top=top)):
        def _finalize_template_configs(self, choices, inputs, templates, op_name, kwarg_overrides=None):
            heuristic = get_template_heuristic(mm_template.uid, "cuda", op_name)
            given = list(
                make_ktc_generator(
                    mm_template, heuristic.get_template_configs(inputs, op_name), heuristic.get_extra_kwargs(inputs, op_name),
                    {}, inputs.output_layout(), inputs,
                )
            )  # fmt: skip
            result = super()._finalize_template_configs({**choices, mm_template.uid: iter(given)}, inputs, templates, op_name)
            left = [c for c in result if c.template is mm_template]
            found.append(([c.params.to_kwargs() for c in given], [c.params.to_kwargs() for c in left], result[0]))
            return [c for c in result if c.template is not mm_template]

    x, y = torch.ones(1024, 512, dtype=torch.bfloat16), torch.ones(512, 2048, dtype=torch.bfloat16)
    with config.patch(max_autotune=True, fx_graph_cache=False), V.set_choices_handler(WithTemplates()):
        torch.compiler.reset()
        product = torch.compile(lambda a, b: a @ b)(x, y)
    assert (product == 512).all()
    return found[0]


@pytest.fixture(autouse=True)
def quiet_torch():
    """What torch warns of while it compiles is not ours."""
    with warnings.catch_warnings():
        for module in ("torch.*", "tilelang.*", "triton.*", "helion.*"):
            warnings.filterwarnings("ignore", module=module)
        yield


def test_inductor_generates_code_for_the_best_templates_only():
    given, left, first = compiled_product({"mm": (LIBRARY_GEMM, BLOCKS)}, top=5)
    table = {
        "M": 1024, "N": 2048, "K": 512, "SPLIT": 1, "SPLITS": False, "INSTRUCTION": "mma", "MULTICAST": "",
        **{name: [spec(c) if callable(spec) else c[spec] for c in given] for name, spec in BLOCKS.items()},
    }  # fmt: skip
    scores = Scorer(LIBRARY_GEMM, "H100").score(table)
    order = np.argsort(scores.seconds, kind="stable")
    cut = scores.seconds[order[4]] * (1 + 1e-9)
    assert [c for c in left if c not in [given[i] for i in np.flatnonzero(scores.outside)]] == [
        given[i] for i in order if scores.seconds[i] <= cut
    ]
    assert 5 <= len(left) < len(given)
    assert type(first.template).__name__ == "ExternKernelChoice"


def test_inductor_keeps_all_templates_where_nothing_is_modelled():
    with pytest.warns(NotModelledWarning, match="Inductor: .*'WIDTH'") as told:
        given, left, _ = compiled_product({"mm": (unlike_any, {"B": "BLOCK_M"})}, top=1)
    assert left == given
    assert len([w for w in told if w.category is NotModelledWarning]) == 1
    given, left, _ = compiled_product({"bmm": (LIBRARY_GEMM, BLOCKS)}, top=1)
    assert left == given


def test_inductor_tells_its_caches_what_it_chooses_by():
    host("torch", TORCH)
    from costmodel.adapters.inductor import choices_class

    def name(device="H100", kernel=LIBRARY_GEMM, sizes=BLOCKS, top=8):
        return choices_class(device, {"mm": (kernel, sizes)}, top=top)().uuid()

    assert name() == name()
    others = [name("A100"), name(kernel=GEMM, sizes=None), name(sizes={**BLOCKS, "BK": 32}), name(top=7)]
    assert len({name(), *others}) == 5


# -- Helion


def helion_sizes(c):
    bm, bn, bk = c["block_sizes"]
    wide = max(4, bm * bn // (32 * c["num_warps"]) // 4)
    return {"M": c["x"].shape[0], "N": c["y"].shape[1], "K": c["x"].shape[1], "BM": bm, "BN": bn, "BK": bk, "TM": 4, "TN": wide}


def tuned_product(monkeypatch, tmp_path, body, hooks):
    """Helion's autotuner on a product of matrices, with measurements that are made up.

    Returns:
        The configurations it had measured, in order, and the bound kernel.
    """
    torch, helion = host("torch", TORCH), host("helion", "pip install --no-deps 'helion==1.5.1'")
    from helion import autotuner
    from helion.autotuner.benchmark_provider import BenchmarkProvider, BenchmarkResult

    measured = []

    class MadeUp(BenchmarkProvider):
        mutated_arg_indices = ()

        def __init__(self, kernel, settings, config_spec, args, log, autotune_metrics):
            pass

        def setup(self):
            pass

        def cleanup(self):
            pass

        def benchmark(self, configs, *, desc="", raise_if_no_viable_config=True):
            measured.extend(configs)
            return [BenchmarkResult(c, lambda *args: None, float(sum(c.config["block_sizes"])), "ok", 0.01) for c in configs]

    def autotuner_fn(bound, args, **kwargs):
        search = hooks["autotuner_fn"](bound, args, **kwargs)
        search._benchmark_provider_cls = MadeUp
        search.rebenchmark = lambda *args, **kwargs: None  # on a GPU, once more
        search.final_rebenchmark_best = lambda best, *args, **kwargs: best
        return search

    monkeypatch.setenv("HELION_CACHE_DIR", str(tmp_path))
    for name in autotuner.cache_classes:  # its key needs a GPU
        monkeypatch.setitem(autotuner.cache_classes, name, lambda search, autotuner_factory: search)
    made = helion.kernel(
        body, static_shapes=True, autotune_effort="quick", autotune_log_level=0, autotuner_fn=autotuner_fn,
        autotune_config_filter=hooks["autotune_config_filter"],
    )  # fmt: skip
    x, y = torch.randn(512, 256), torch.randn(256, 1024)
    bound = made.bind((x, y))
    bound.autotune((x, y), force=True)
    return measured, bound


@pytest.fixture
def product_body():
    """A Helion kernel, before it is decorated."""
    host("helion", "pip install --no-deps 'helion==1.5.1'")
    from tests import helion_product

    return helion_product.product


@pytest.mark.filterwarnings("ignore::costmodel.adapters.ranking.NotModelledWarning")
def test_helion_starts_from_the_best_candidates_and_measures_nothing_that_cannot_launch(monkeypatch, tmp_path, product_body):
    from costmodel.adapters.helion import autotuning

    hooks = autotuning(GEMM, "H100", helion_sizes, seeds=5, candidates=100)
    measured, bound = tuned_product(monkeypatch, tmp_path, product_body, hooks)
    seeds = bound.settings.autotune_seed_configs
    assert 5 <= len(seeds) < 100
    assert set(seeds) <= set(measured[: len(seeds) + 2])
    problem = {"M": 512, "N": 1024, "K": 256}
    rows = [{**helion_sizes({**c.config, "x": np.empty((512, 256)), "y": np.empty((256, 1024))})} for c in measured]
    scores = Scorer(GEMM, "H100").score({n: [row[n] for row in rows] for n in (*problem, "BM", "BN", "BK", "TM", "TN")})
    assert (scores.feasible | scores.outside).all()
    best = scores.seconds[: len(seeds) + 1].min()
    assert best <= np.nanmin(scores.seconds[len(seeds) + 1 : 30])


def test_helion_can_measure_the_best_only(monkeypatch, tmp_path, product_body):
    from costmodel.adapters.helion import autotuning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotModelledWarning)
        hooks = autotuning(GEMM, "H100", helion_sizes, seeds=4, candidates=50, measure_only=True)
        measured, _ = tuned_product(monkeypatch, tmp_path, product_body, hooks)
    assert 4 <= len(measured) < 50


def test_helion_searches_as_ever_where_nothing_is_modelled(monkeypatch, tmp_path, product_body):
    from costmodel.adapters.helion import autotuning

    with pytest.warns(NotModelledWarning, match="Helion's autotuner") as told:
        hooks = autotuning(unlike_any, "H100", {"N": 1 << 20, "B": "num_warps"}, seeds=4, candidates=20)
        measured, bound = tuned_product(monkeypatch, tmp_path, product_body, hooks)
    assert not bound.settings.autotune_seed_configs
    assert len(measured) > 20
    assert len([w for w in told if w.category is NotModelledWarning]) == 1
