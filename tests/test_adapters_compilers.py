"""egglog, Inductor and Helion, each the real one, on the CPU."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from costmodel import Scorer, estimate
from costmodel.adapters.ranking import NotModelledWarning, Pricer
from costmodel.adapters.triton_gemm import triton_gemm
from costmodel.cost import find_description
from costmodel.device import find_device
from costmodel.errors import SizeError
from tests.hosts import host, one_warning, unlike_any

GEMM = find_description("gemm")
LIBRARY_GEMM = find_description("library_gemm")


@pytest.fixture(autouse=True)
def quiet_torch():
    """What torch warns of while it compiles is not ours."""
    with warnings.catch_warnings():
        for module in ("torch.*", "tilelang.*", "triton.*", "helion.*"):
            warnings.filterwarnings("ignore", module=module)
        yield


# -- egglog


@pytest.fixture
def products():
    """An e-graph in which a product of matrices can be tiled in several ways, and the function that tiles."""
    egglog = host("egglog", "pip install 'costmodel[egglog]'")
    from tests.host_kernels.egglog_products import Tensor, tiled

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


def test_egglog_leaves_what_is_no_implementation(products):
    """The block of the page of hooks, run: without `abstract`, a product that no kernel computes costs nothing and wins."""
    from costmodel.adapters import egglog as hook

    graph, product, tiled, tensor = products
    page = Path(hook.__file__).with_name("README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"## egglog\n\n```python\n(.*?)```", page, re.S)
    names = {"tiled": tiled, "gemm": GEMM, "Tensor": tensor, "egraph": graph, "program": product}
    exec(compile(block, "README.md", "exec"), names)
    assert str(graph.extract(product, cost_model=names["cost"])).startswith("tiled(")
    without = hook.KernelCost(graph, "H100", {tiled: (GEMM, gemm_sizes)})
    assert str(graph.extract(product, cost_model=without)) == 'Tensor("A") @ Tensor("B")'


@pytest.mark.parametrize("wrong", [{"M": [1, 2]}, {"M": None}, {"T": 3}])
def test_egglog_is_not_ended_by_a_kernel_that_joins_later(products, wrong):
    """An exception in a cost model would end the process; so would a warning that is an error."""
    from costmodel.adapters.egglog import KernelCost

    graph, product, tiled, _ = products
    sizes = lambda egraph, a, b, size, tile: {**gemm_sizes(egraph, a, b, size, tile), **(wrong if size == 4096 else {})}  # noqa: E731
    model = KernelCost(graph, "H100", {tiled: (GEMM, sizes)})
    late = tiled(product, product, 4096, 64)
    graph.register(late)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, cost = graph.extract(late, include_cost=True, cost_model=model)
    assert str(found).startswith("tiled(")
    assert cost.not_modelled == (0 if "T" in wrong else 1)


def test_egglog_extracts_as_ever_where_nothing_is_modelled(products):
    from costmodel.adapters.egglog import KernelCost

    graph, product, tiled, _ = products
    with one_warning("egglog: 5 of 5"):
        model = KernelCost(graph, "H100", {tiled: (unlike_any, lambda egraph, a, b, size, tile: {"N": size // (tile - 16)})})
        found = graph.extract(product, cost_model=model)
    assert str(found) == str(graph.extract(product))


def test_costs_of_programs_are_ordered_as_they_are_equal():
    from costmodel.adapters.egglog import ProgramCost

    ascending = [ProgramCost(0, 0, 5, 9), ProgramCost(0, 0, 6, 1), ProgramCost(0, 1, 0, 0), ProgramCost(1, 0, 0, 0)]
    assert sorted([ascending[i] for i in (2, 0, 3, 1)]) == ascending
    for x in ascending:
        for y in ascending:
            assert (x == y) + (x < y) + (x > y) == 1
            assert x + y - y == x


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
    from torch._inductor.template_heuristics.registry import get_template_heuristic
    from torch._inductor.virtualized import V

    from costmodel.adapters.inductor import choices_class

    found = []
    handler = choices_class("H100", kernels, top=top)()

    finalize = handler._finalize_template_configs

    def with_templates(choices, inputs, templates, op_name, kwarg_overrides=None):
        heuristic = get_template_heuristic(mm_template.uid, "cuda", op_name)
        given = list(
            make_ktc_generator(
                mm_template, heuristic.get_template_configs(inputs, op_name), heuristic.get_extra_kwargs(inputs, op_name),
                {}, inputs.output_layout(), inputs,
            )
        )  # fmt: skip
        result = finalize({**choices, mm_template.uid: iter(given)}, inputs, templates, op_name)
        left = [c for c in result if c.template is mm_template]
        found.append(([c.params.to_kwargs() for c in given], [c.params.to_kwargs() for c in left], result[0]))
        return [c for c in result if c.template is not mm_template]

    x, y = torch.ones(1024, 512, dtype=torch.bfloat16), torch.ones(512, 2048, dtype=torch.bfloat16)
    handler._finalize_template_configs = with_templates
    with config.patch(max_autotune=True, fx_graph_cache=False), V.set_choices_handler(handler):
        torch.compiler.reset()
        product = torch.compile(lambda a, b: a @ b)(x, y)
    assert (product == 512).all()
    return found[0]


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


def test_inductor_has_a_description_of_its_product():
    """Of its 21 tiles a dozen are described; that which no H100 can launch is left out (Triton asks for 262,144 bytes)."""
    gemm, sizes = triton_gemm("H100")
    with one_warning("of 21 configurations of gemm_triton"):
        given, left, _ = compiled_product({"mm": (gemm, sizes)}, top=1.0)
    tiles = [tuple(c[n] for n in ("BLOCK_M", "BLOCK_N", "BLOCK_K", "num_stages")) for c in given]
    kept = [tuple(c[n] for n in ("BLOCK_M", "BLOCK_N", "BLOCK_K", "num_stages")) for c in left]
    assert set(tiles) - set(kept) == {(128, 128, 128, 4)}
    problem = {"M": 1024, "N": 2048, "K": 512, "dtype": "torch.bfloat16"}
    prices = Pricer(lambda c: gemm.trace(INSTRUCTION=c["INSTRUCTION"], DTYPE=c["DTYPE"]), "H100").price(
        [sizes({**problem, **c}) for c in left[:12]]
    )
    assert prices.order.tolist() == list(range(12))


def test_inductor_keeps_all_templates_where_nothing_is_modelled():
    with one_warning("Inductor: .*'WIDTH'"):
        given, left, _ = compiled_product({"mm": (unlike_any, {"B": "BLOCK_M"})}, top=1)
    assert left == given
    given, left, _ = compiled_product({"bmm": (LIBRARY_GEMM, BLOCKS)}, top=1)
    assert left == given


def test_inductor_tells_its_caches_what_it_chooses_by():
    host("torch", TORCH)
    from costmodel.adapters.inductor import choices_class

    def name(device="H100", kernel=LIBRARY_GEMM, sizes=BLOCKS, top=8):
        return choices_class(device, {"mm": (kernel, sizes)}, top=top)().uuid()

    assert name() == name()

    def scaled(times):
        return lambda c: {"BM": c["BLOCK_M"] * times}

    faster = replace(find_device("H100"), launch_overhead_s=1e-6)
    others = [
        name("A100"), name(faster), name(kernel=GEMM, sizes=None), name(sizes={**BLOCKS, "BK": 32}), name(top=7),
        name(sizes=scaled(1)), name(sizes=scaled(2)), name(sizes=triton_gemm("H100", {"GROUP": 4})[1]),
        name(sizes=triton_gemm("H100", {"GROUP": 8})[1]),
    ]  # fmt: skip
    assert len({name(), *others}) == 1 + len(others)


def test_inductor_can_carry_its_choices_to_another_process():
    """As `FX_COMPILE_MODE=SUBPROCESS` and `config.save_config` do; and they choose there as here."""
    host("torch", TORCH)
    from torch._inductor import config

    from costmodel.adapters.inductor import choices_class

    choices = choices_class("H100", {"mm": triton_gemm("H100")}, top=8)
    with config.patch(inductor_choices_class=choices):
        saved = config.save_config()
    script = "import sys, torch._inductor.config as c; c.load_config(sys.stdin.buffer.read()); print(c.inductor_choices_class().uuid())"
    there = subprocess.run([sys.executable, "-c", script], input=saved, capture_output=True, check=True)
    assert there.stdout.decode().strip() == choices.uuid()


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
def bodies():
    """Helion kernels, before they are decorated."""
    host("helion", "pip install --no-deps 'helion==1.5.1'")
    from tests.host_kernels import helion_product

    return helion_product


def test_helion_starts_from_what_is_best_by_its_own_kernel_and_measures_nothing_that_cannot_launch(monkeypatch, tmp_path, bodies):
    from costmodel.adapters.helion import autotuning
    from costmodel.frontends.helion import HelionSpace

    measured, bound = tuned_product(monkeypatch, tmp_path, bodies.product, autotuning("A10", seeds=5, candidates=100))
    seeds = bound.settings.autotune_seed_configs
    assert 5 <= len(seeds) < 100
    assert set(seeds) <= set(measured[: len(seeds) + 2])
    seconds = HelionSpace(bound, "A10").score(measured, "A10")
    assert not np.isinf(seconds).any()
    from_seeds, random = seconds[: len(seeds) + 1], seconds[len(seeds) + 1 : 30]
    assert np.median(from_seeds[np.isfinite(from_seeds)]) < np.median(random[np.isfinite(random)])


@pytest.mark.parametrize("live", [False, True])
def test_helion_never_compiles_what_cannot_launch(monkeypatch, bodies, live):
    from costmodel.adapters.helion import autotuning

    torch, helion = host("torch", TORCH), host("helion", "pip install --no-deps 'helion==1.5.1'")
    x = torch.randn(512, 512)
    bound = helion.kernel(bodies.product, static_shapes=True).bind((x, x))
    if live:  # as if the tensors were on one
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A10")
        monkeypatch.setattr(bound.env, "device", torch.device("cuda", 0))
    hooks = autotuning(*(() if live else ("A10",)), seeds=2, candidates=10, measure_only=True)
    hooks["autotuner_fn"](bound, (x, x))
    small, large = (
        helion.Config(**{**bound.config_spec.default_config(), "block_sizes": [64, 64, k], "num_stages": 4}) for k in (16, 128)
    )
    assert hooks["autotune_config_filter"](small) is small
    assert hooks["autotune_config_filter"](large) is None  # 3 × 64 KiB of shared memory, where an A10 has 99


@pytest.mark.filterwarnings("ignore::costmodel.adapters.ranking.NotModelledWarning")
def test_helion_takes_a_description_instead(monkeypatch, tmp_path, bodies):
    from costmodel.adapters.helion import autotuning

    hooks = autotuning("H100", GEMM, helion_sizes, seeds=5, candidates=100)
    measured, bound = tuned_product(monkeypatch, tmp_path, bodies.split_product, hooks)
    seeds = bound.settings.autotune_seed_configs
    assert 5 <= len(seeds) < 100
    assert set(seeds) <= set(measured[: len(seeds) + 2])
    problem = {"M": 512, "N": 1024, "K": 256}
    rows = [{**helion_sizes({**c.config, "x": np.empty((512, 256)), "y": np.empty((256, 1024))})} for c in measured]
    scores = Scorer(GEMM, "H100").score({n: [row[n] for row in rows] for n in (*problem, "BM", "BN", "BK", "TM", "TN")})
    assert (scores.feasible | scores.outside).all()


@pytest.mark.parametrize("seeds", [1, 4])
def test_helion_can_measure_the_best_only(monkeypatch, tmp_path, bodies, seeds):
    from costmodel.adapters.helion import autotuning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotModelledWarning)
        hooks = autotuning("H100", seeds=seeds, candidates=50, measure_only=True)
        measured, _ = tuned_product(monkeypatch, tmp_path, bodies.product, hooks)
    assert max(seeds, 2) <= len(measured) < 50


@pytest.mark.parametrize(
    ("body", "given", "told"),
    [
        ("split_product", ("H100",), r"21 of 21 .* kernel split_product, helion_product\.py:\d+: operation atomic_add"),
        ("product", ("MI300X",), "21 of 21 .* compute capability"),
        ("product", (), "unknown GPU 'tensors on the cpu'"),
        ("product", ("H100", unlike_any, {"N": 1 << 20, "B": "num_warps"}), "21 of 21 .*WIDTH"),
    ],
)
def test_helion_searches_as_ever_where_nothing_is_modelled(monkeypatch, tmp_path, bodies, body, given, told):
    from costmodel.adapters.helion import autotuning

    with one_warning(f"Helion's autotuner: {told}"):
        hooks = autotuning(*given, seeds=4, candidates=20)
        measured, bound = tuned_product(monkeypatch, tmp_path, getattr(bodies, body), hooks)
    assert not bound.settings.autotune_seed_configs
    assert len(measured) > 20


def test_helions_sizes_need_a_description():
    from costmodel.adapters.helion import autotuning

    with pytest.raises(SizeError, match="sizes without a description"):
        autotuning("H100", sizes={"M": 512})
