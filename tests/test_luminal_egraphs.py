"""Programs out of e-graphs: choices, circles, mistakes; e-graphs that the real egglog made under rules of our own."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import DescriptionError, UnsupportedError
from costmodel.frontends.luminal import cheapest_nodes, from_luminal, price, read_egraph
from tests.luminal_terms import enter, gmem, leave, text
from tests.oracle import count

RULES = Path(__file__).parent / "luminal_rules.egg"
LINE = ("i", 4, 1)


def simple(operation="Exp2"):
    return leave((operation, enter(gmem("A"), LINE)), LINE)


def egraph(*terms, costs=()) -> dict[str, Any]:
    """Each term's nodes; the terms are one e-class, `root`."""
    nodes: dict[str, Any] = {}

    def add(term, eclass=None):
        if not isinstance(term, tuple):
            op = str(term) if isinstance(term, int) else f'"{term}"'
            name = f"p{op}"
            nodes[name] = {"op": op, "children": [], "eclass": f"c{name}", "cost": 1.0, "subsumed": False}
            return name
        children = [add(a) for a in term[1:]]
        key = next((n for n, d in nodes.items() if (d["op"], d["children"]) == (term[0], children)), None)
        name = key or f"n{len(nodes)}"
        nodes.setdefault(
            name, {"op": term[0], "children": children, "eclass": eclass or f"c{name}", "cost": 1.0, "subsumed": False}
        )
        return name

    tops = [add(term, "root") for term in terms]
    for top, cost in zip(tops, costs, strict=False):
        nodes[top]["cost"] = cost
    return {"nodes": nodes, "root_eclasses": ["root"], "class_data": {"root": {"type": "IR", "let": "$out"}}, "tops": tops}


def test_the_cheapest_as_serialized_is_chosen():
    both = egraph(simple("Exp2"), simple("Sin"), costs=(3.0, 2.0))
    assert from_luminal(both).kernels == from_luminal(text(simple("Sin"))).kernels
    both["nodes"][both["tops"][1]]["subsumed"] = True
    assert from_luminal(json.dumps(both)).kernels == from_luminal(text(simple("Exp2"))).kernels


def _top_or_first(top, eclass, nodes):
    return top if top in nodes else nodes[0]


def _dearer_than(top, node):
    return float(node != top)


def test_a_choice_is_a_mapping_or_a_function():
    both = egraph(simple("Exp2"), simple("Sin"))
    for top, op in zip(both["tops"], ("Exp2", "Sin"), strict=True):
        wanted = from_luminal(text(simple(op))).kernels
        assert from_luminal(both, choice={"root": top}).kernels == wanted
        assert from_luminal(both, choice=partial(_top_or_first, top)).kernels == wanted
        assert from_luminal(both, choice=cheapest_nodes(read_egraph(both), partial(_dearer_than, top))).kernels == wanted
        assert from_luminal(read_egraph(both), choice={"root": top}, root="out").kernels == wanted


def test_operators_of_the_search_are_never_cheapest():
    both = egraph(leave(("TileLoop", gmem("A"), "i"), LINE), simple(), costs=(0.0, 100.0))
    assert from_luminal(both).kernels == from_luminal(text(simple())).kernels
    with pytest.raises(UnsupportedError, match=r"node 'n\d+': TileLoop is a helper"):
        from_luminal(both, choice={"root": both["tops"][0]})
    only = egraph(leave(("TileLoop", gmem("A"), "i"), LINE))
    with pytest.raises(
        UnsupportedError, match=r"'root' holds no program: e-class 'cn\d+' has only helpers of the search: TileLoop"
    ):
        from_luminal(only)


def test_a_node_of_infinite_cost_is_never_chosen():
    """serde_json writes an infinite cost as null."""
    for infinite in (None, float("inf"), 10**400):
        both = egraph(simple("Exp2"), simple("Sin"), costs=(infinite, 1e308))
        assert from_luminal(json.dumps(both)).kernels == from_luminal(text(simple("Sin"))).kernels
        both["nodes"][both["tops"][1]]["cost"] = infinite
        with pytest.raises(UnsupportedError, match=f"e-class 'root' has only nodes of infinite cost: {', '.join(both['tops'])}"):
            from_luminal(both)
        assert from_luminal(both, choice={"root": both["tops"][0]}).kernels == from_luminal(text(simple("Exp2"))).kernels


def test_costs_of_ones_own_are_checked_as_serialized_ones_are():
    both = egraph(simple("Exp2"), simple("Sin"))
    first, second = both["tops"]
    read = read_egraph(both)
    single: Any = np.float32
    assert cheapest_nodes(read, lambda name: single(name == first))["root"] == second
    assert cheapest_nodes(read, lambda name: float("inf") if name == second else 5)["root"] == first
    assert "root" not in cheapest_nodes(read, lambda name: float("inf") if name in both["tops"] else 0)
    wrongs: Any = (float("nan"), -1, -0.5, None, "1", True, float("-inf"))
    for wrong in wrongs:
        with pytest.raises(DescriptionError, match=f"node '.*': cost {wrong!r}: expected a number of at least 0"):
            cheapest_nodes(read, dict.fromkeys(read.nodes, wrong).__getitem__)


COSTS = st.floats(0, 100) | st.just(float("inf")) | st.integers(0, 3)


@pytest.mark.soak
@given(st.lists(COSTS, min_size=3, max_size=3), st.lists(COSTS, min_size=2, max_size=2), COSTS)
def test_the_cheapest_tree_is_that_of_trying_all(tops, inner, around):
    """Three ways to the root, one through an e-class of two: whichever sum is least, and none of what is infinite."""
    nodes = {f"t{n}": {"op": f'"{n}"', "children": [], "eclass": "root", "cost": c} for n, c in enumerate(tops)}
    nodes |= {f"i{n}": {"op": f'"i{n}"', "children": [], "eclass": "inner", "cost": c} for n, c in enumerate(inner)}
    nodes["around"] = {"op": "GMEM", "children": ["i0"], "eclass": "root", "cost": around}
    chosen = cheapest_nodes(read_egraph({"nodes": nodes}))
    sums = {**{f"t{n}": c for n, c in enumerate(tops)}, "around": around + min(inner)}
    least = min(sums.values())
    assert ("root" in chosen) == (least < float("inf"))
    if "root" in chosen:
        assert sums[chosen["root"]] == pytest.approx(least)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["a", "b", "Exp2", "GMEM", '"A"', "root", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "let"]), inner, max_size=3),
    max_leaves=4,
)
FIELDS = {"op": JUNK, "children": JUNK | st.lists(st.sampled_from("ab")), "eclass": JUNK, "cost": JUNK, "subsumed": JUNK}


@pytest.mark.soak
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "nodes": JUNK | st.dictionaries(st.sampled_from("abc"), JUNK | st.fixed_dictionaries({}, optional=FIELDS)),
            "root_eclasses": JUNK,
            "class_data": JUNK | st.dictionaries(st.sampled_from("ab"), JUNK),
        },
    )
    | JUNK,
    st.booleans(),
)
def test_anything_is_an_e_graph_or_refused(given_graph, written):
    try:
        from_luminal(json.dumps(given_graph) if written and isinstance(given_graph, dict) else given_graph)
    except DescriptionError as error:
        assert str(error).startswith("luminal: ")  # noqa: PT017 - nearly all of it is refused


def test_circles_are_refused_and_never_cheapest():
    both = egraph(simple())
    both["nodes"]["round"] = {"op": "Exp2", "children": [both["tops"][0]], "eclass": "root", "cost": 0.0}
    assert from_luminal(both).kernels == from_luminal(text(simple())).kernels
    with pytest.raises(DescriptionError, match="lead round in a circle, through e-classes 'root' and 'root'"):
        from_luminal(both, choice={"root": "round"})
    both["nodes"] = {"round": {**both["nodes"]["round"], "children": ["round"]}}
    with pytest.raises(UnsupportedError, match="every choice leads round in a circle"):
        from_luminal(both)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda g: g.update(nodes={}), {}, "expected an object with 'nodes'"),
        (lambda g: g.update(nodes=[]), {}, "expected an object with 'nodes'"),
        (lambda g: g["nodes"].update(x=3), {}, "node 'x': expected op, children, eclass and cost, got 3"),
        (lambda g: g["nodes"].update(x={"op": "Exp2"}), {}, "node 'x': expected op, children, eclass and cost"),
        (lambda g: g["nodes"].update(x={"op": "A", "eclass": "c", "children": ["y"]}), {}, "its child 'y' is no node"),
        (lambda g: g["nodes"].update(x={"op": "A", "eclass": "c", "cost": -1}), {}, "cost -1: expected a number of at least 0"),
        (lambda g: g["nodes"].update(x={"op": "A", "eclass": "c", "cost": float("nan")}), {}, "cost nan: expected a number"),
        (lambda g: g["nodes"].update(x={"op": "A", "eclass": "c", "children": 3}), {}, "children 3: expected a list of nodes"),
        (lambda g: g["nodes"].update(x={"op": "A", "eclass": "c", "children": [["n0"]]}), {}, r"its child \['n0'\] is no node"),
        (lambda g: g.update(root_eclasses="root"), {}, "expected root_eclasses to be a list"),
        (lambda g: g.update(class_data=3), {}, "and class_data an object"),
        (lambda g: [n.update(subsumed=True) for n in g["nodes"].values()], {"choice": {}}, "no e-class 'root'"),
        (lambda g: g["nodes"]["p4"].update(subsumed=True), {"choice": lambda _, n: n[0]}, "all nodes of e-class 'cp4' are subsumed"),
        (lambda g: g["nodes"]["p4"].update(subsumed=True), {}, "e-class 'cp4' has only"),
        (lambda g: g.update(root_eclasses=[]), {}, "the e-graph has 0 roots; pass root=, an e-class or one of: out"),
        (lambda g: None, {"root": "x"}, "no e-class 'x'; by name there are: out"),
        (lambda g: None, {"choice": {}}, "no choice for e-class 'root'; its nodes: "),
        (lambda g: None, {"choice": {"root": "x"}}, "'x' is no node of e-class 'root'"),
        (lambda g: None, {"root": "cp4"}, "e-class 'cp4' is the primitive 4; expected a term"),
        (lambda g: None, {"root": 4}, "no e-class 4; by name there are: out"),
        (lambda g: None, {"root": "cn4"}, "node 'n4': MNum is of sort Expression, no program; expected an IR"),
        (lambda g: None, {"choice": 3}, "choice: expected a mapping of e-classes to nodes, or a function, got 3"),
        (lambda g: g["nodes"].update(x={"op": "A", "eclass": "c", "cost": "1"}), {}, "node 'x': cost '1': expected a number"),
    ],
)  # fmt: skip
def test_malformed_e_graphs_say_what_was_expected(change, options, message):
    graph = egraph(simple("Exp2"), simple("Sin"))
    change(graph)
    with pytest.raises(DescriptionError, match=message):
        from_luminal(graph, **options)


def test_broken_json_says_where():
    with pytest.raises(DescriptionError, match="e-graph: line 1, column 10"):
        from_luminal('{"nodes":')
    with pytest.raises(DescriptionError, match="a number of more than 4300 digits"):
        from_luminal('{"nodes": {"n": {"op": "GMEM", "eclass": "c", "cost": 1' + "0" * 5000 + "}}}")
    with pytest.raises(DescriptionError, match="nested too deeply"):
        from_luminal('{"nodes":' + "[" * 100_000)


# --- egglog ----------------------------------------------------------------------------------------


def saturated(term, *rulesets):
    """The e-graph of a term under our rules, as egglog's own serializer writes it."""
    bindings = pytest.importorskip("egglog.bindings", reason="needs egglog: pip install costmodel[egglog]")
    graph = bindings.EGraph()
    runs = "\n".join(f"(run {name} 1)" if "inside" not in name else f"(run {name} 8)" for name in (*rulesets, "index"))
    program = f"{RULES.read_text()}\n(let $program {text(term)})\n{runs}\n(run index 8)"
    graph.run_program(*graph.parse_program(program))
    serialized = graph.serialize([], max_functions=None, max_calls_per_function=None, include_temporary_functions=False)
    return read_egraph(serialized.to_json())


def sampled(graph, n, **options):
    """Programs of random choices."""
    rng = random.Random(11)
    found = {}
    for _ in range(n):
        weights = {name: 10.0 ** rng.uniform(-3, 3) for name in graph.nodes}
        program = from_luminal(graph, root="program", choice=cheapest_nodes(graph, weights.__getitem__), **options)
        found[program.kernels] = program
    return list(found.values())


def test_tiles_that_egglog_finds_are_cheaper_and_touch_the_same():
    line = ("i", 1024, 1)
    term = leave(("Add", enter(gmem("A"), line), ("Exp2", enter(gmem("B"), line))), line)
    graph = saturated(term, "split", "split-inside")
    assert from_luminal(graph, root="program").kernels == from_luminal(text(term)).kernels  # the smallest tree is the first
    programs = sampled(graph, 30, grid=1, block=1)
    assert sorted(int(p.kernels[0].block_shape()[0]) for p in programs) == [1, 256]
    best = min(programs, key=lambda p: price(p, "H100").seconds)
    assert int(best.kernels[0].block_shape()[0]) == 256
    for program in programs:
        (statement,) = count(program.kernels[0], {}).statements
        assert {a.footprint_bytes for a in (*statement.loads, *statement.stores)} == {4096}
        assert statement.executions == 1024
        assert {b.name: int(b.elements) for b in program.kernels[0].buffers} == {"A": 1024, "B": 1024, "out": 1024}


def test_loops_that_egglog_merges_touch_the_same():
    levels = (("m", 12, 20), ("n", 20, 1))
    term = leave(("Exp2", enter(gmem("A"), ("m", 12, 1), ("n", 20, 12))), *levels)
    programs = sampled(saturated(term, "merge", "merge-inside"), 30)
    assert sorted(int(p.kernels[0].grid_shape()[0]) for p in programs) == [12, 240]
    for program in programs:
        (statement,) = count(program.kernels[0], {}).statements
        assert {a.footprint_bytes for a in (*statement.loads, *statement.stores)} == {960}
        assert {int(b.elements) for b in program.kernels[0].buffers} == {240}


def test_split_and_merged_again():
    line = ("i", 2048, 1)
    programs = sampled(
        saturated(leave(("Exp2", enter(gmem("A"), line)), line), "split", "split-inside", "merge", "merge-inside"), 60
    )
    assert len(programs) >= 3
    for program in programs:
        (statement,) = count(program.kernels[0], {}).statements
        assert statement.stores[0].requested_bytes == statement.stores[0].footprint_bytes == 8192
