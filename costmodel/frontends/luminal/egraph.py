"""A term out of an e-graph in egraph-serialize's JSON: `nodes[id] = {op, children, eclass, cost, subsumed}`.

What egglog's serializer and luminal's extraction read and write. Children name nodes, but stand for their e-classes.
"""

from __future__ import annotations

import heapq
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from costmodel.errors import DescriptionError, UnsupportedError
from costmodel.frontends.luminal.terms import HELPERS, OPERATORS, Argument, Term, Terms

__all__ = ["Choice", "EGraph", "ENode", "cheapest_nodes", "chosen_term", "read_egraph"]

Choice = Mapping[str, str] | Callable[[str, Sequence[str]], str]
"""For each e-class one of its nodes: a mapping, or a function of the e-class and its nodes."""


@dataclass(frozen=True, slots=True)
class ENode:
    """One node of an e-graph."""

    op: str
    children: tuple[str, ...]
    """E-classes."""
    eclass: str
    cost: float
    """At least 0; infinite where the node is never to be chosen."""


@dataclass(frozen=True, slots=True)
class EGraph:
    """Nodes by their identifiers, e-classes by theirs."""

    nodes: dict[str, ENode]
    classes: dict[str, tuple[str, ...]]
    roots: tuple[str, ...]
    names: dict[str, str]
    """E-classes by the name that `let` bound them to."""


def read_egraph(source: str | Mapping[str, Any]) -> EGraph:
    """Read and check an e-graph.

    Raises:
        DescriptionError: no JSON, or not of this form.
    """
    if isinstance(source, str):
        try:
            source = json.loads(source)
        except json.JSONDecodeError as error:
            raise DescriptionError(f"luminal: e-graph: line {error.lineno}, column {error.colno}: {error.msg}") from None
        except ValueError:  # of `int`, which reads no more digits than this
            raise DescriptionError(
                f"luminal: e-graph: a number of more than {sys.get_int_max_str_digits()} digits; write it shorter, such as 1e300"
            ) from None
        except RecursionError:
            raise DescriptionError(
                "luminal: e-graph: the JSON is nested too deeply; an e-graph is a flat list of nodes"
            ) from None
    found = source.get("nodes") if isinstance(source, Mapping) else None
    if not isinstance(source, Mapping) or not isinstance(found, Mapping) or not found:
        given = f"one with {', '.join(map(str, source)) or 'nothing'}" if isinstance(source, Mapping) else type(source).__name__
        raise DescriptionError(
            f"luminal: e-graph: expected an object with 'nodes', as egraph-serialize writes it, got {given:.80}"
        )
    nodes = {str(name): _node(str(name), node, found) for name, node in found.items() if not _is_subsumed(node)}
    classes: dict[str, list[str]] = defaultdict(list)
    for name, made in nodes.items():
        classes[made.eclass].append(name)
    roots, data = source.get("root_eclasses", ()), source.get("class_data", {})
    if not isinstance(roots, list | tuple) or not isinstance(data, Mapping):
        raise DescriptionError("luminal: e-graph: expected root_eclasses to be a list, and class_data an object")
    names = {str(d["let"]).lstrip("$"): str(c) for c, d in data.items() if isinstance(d, Mapping) and "let" in d}
    return EGraph(nodes, {c: tuple(members) for c, members in classes.items()}, tuple(map(str, roots)), names)


def _is_subsumed(node: Any) -> bool:
    return isinstance(node, Mapping) and node.get("subsumed") is True


def _node(name: str, node: Any, nodes: Mapping[str, Any]) -> ENode:
    where = f"luminal: e-graph: node {name!r}"
    if not isinstance(node, Mapping) or not {"op", "eclass"} <= node.keys():
        raise DescriptionError(f"{where}: expected op, children, eclass and cost, got {node!r:.80}")
    children = node.get("children", ())
    if not isinstance(children, list | tuple):
        raise DescriptionError(f"{where}: children {children!r:.80}: expected a list of nodes")
    for child in children:
        found = nodes.get(child) if isinstance(child, str) else None
        if not isinstance(found, Mapping) or "eclass" not in found:
            raise DescriptionError(f"{where}: its child {child!r} is no node")
    own = tuple(str(nodes[c]["eclass"]) for c in children)
    cost = node.get("cost", 1.0)
    cost = math.inf if cost is None else cost  # which serde_json writes as null
    return ENode(str(node["op"]), own, str(node["eclass"]), _cost(name, cost))


def _cost(node: str, given: Any) -> float:
    is_number = isinstance(given, Real) and not isinstance(given, bool)
    if not is_number or not given >= 0:
        raise DescriptionError(
            f"luminal: e-graph: node {node!r}: cost {given!r:.80}: expected a number of at least 0 (inf: never to be chosen)"
        )
    try:
        return float(given)
    except OverflowError:
        return math.inf


def cheapest_nodes(egraph: EGraph, cost: Callable[[str], float] | None = None) -> dict[str, str]:
    """Of each e-class the node whose tree costs least, among programs: the operators of the search take no part.

    Args:
        egraph: as read.
        cost: of a node by its identifier, at least 0; infinite for one that must not be chosen. As serialized if left out.

    Returns:
        E-class to node, without e-classes that hold no program of finite cost; never a cycle.

    Raises:
        DescriptionError: a cost that is no number of at least 0.
    """
    own = {name: _cost(name, cost(name)) if cost else node.cost for name, node in egraph.nodes.items()}
    readers: dict[str, list[str]] = defaultdict(list)
    missing = {
        name: len(set(node.children)) for name, node in egraph.nodes.items() if _in_language(node) and math.isfinite(own[name])
    }
    for name in missing:
        for child in set(egraph.nodes[name].children):
            readers[child].append(name)
    queue = [(own[name], name) for name, left in missing.items() if left == 0]
    heapq.heapify(queue)
    chosen, totals = dict[str, str](), dict[str, float]()
    while queue:  # Knuth's shortest hyperpaths: an e-class is settled when its cheapest tree comes up
        total, name = heapq.heappop(queue)
        eclass = egraph.nodes[name].eclass
        if eclass in chosen:
            continue
        chosen[eclass], totals[eclass] = name, total
        for reader in readers[eclass]:
            missing[reader] -= 1
            if missing[reader] == 0:
                heapq.heappush(queue, (own[reader] + sum(totals[c] for c in egraph.nodes[reader].children), reader))
    return chosen


def _in_language(node: ENode) -> bool:
    return node.op in OPERATORS or (not node.children and _primitive(node.op) is not None)


def chosen_term(egraph: EGraph, choice: Choice | None, root: str | None) -> Term:
    """The term that a choice of nodes makes of an e-class.

    Args:
        egraph: as read.
        choice: the node of each e-class; the cheapest as serialized if left out.
        root: an e-class, or the name that `let` gave one; the only root of the e-graph if left out.

    Raises:
        DescriptionError: no such root, a choice of another type or none for an e-class, or one that leads round in a circle.
        UnsupportedError: a chosen operator is no part of the language.
    """
    if not (choice is None or callable(choice) or isinstance(choice, Mapping)):
        raise DescriptionError(f"luminal: choice: expected a mapping of e-classes to nodes, or a function, got {choice!r:.80}")
    start = _root(egraph, root)
    picked: Choice
    if choice is None:
        picked = cheapest_nodes(egraph)
        if start not in picked:
            raise UnsupportedError(f"luminal: e-class {start!r} holds no program: {_blocked(egraph, start, picked)}")
    else:
        picked = choice
    terms, made, picks = Terms(), dict[str, Argument](), dict[str, str]()
    stack = [start]
    while stack:
        eclass = stack[-1]
        if eclass in made:
            stack.pop()
            continue
        name = picks.get(eclass) or _pick(egraph, picked, eclass)
        picks[eclass], node = name, egraph.nodes[name]
        waiting = [c for c in dict.fromkeys(node.children) if c not in made]
        if waiting:
            for child in waiting:
                if child in picks:  # its own children are still waiting
                    raise DescriptionError(
                        f"luminal: the chosen nodes lead round in a circle, through e-classes {child!r} and {eclass!r}"
                    )
            stack.extend(reversed(waiting))
            continue
        primitive = _primitive(node.op) if not node.children else None
        args = tuple(made[c] for c in node.children)
        made[eclass] = primitive if primitive is not None else terms.make(node.op, args, f"node {name!r}")
    found = made[start]
    if not isinstance(found, Term):
        raise DescriptionError(f"luminal: e-class {start!r} is the primitive {found!r}; expected a term")
    return found


def _root(egraph: EGraph, root: str | None) -> str:
    if root is None and len(egraph.roots) == 1:
        root = egraph.roots[0]
    if root is None:
        raise DescriptionError(
            f"luminal: the e-graph has {len(egraph.roots)} roots; pass root=, an e-class or one of: {', '.join(egraph.names)}"
        )
    found = egraph.names.get(root.lstrip("$"), root) if isinstance(root, str) else None
    if found not in egraph.classes:
        raise DescriptionError(f"luminal: no e-class {root!r}; by name there are: {', '.join(egraph.names) or 'none'}")
    return found


def _pick(egraph: EGraph, choice: Choice, eclass: str) -> str:
    members = egraph.classes.get(eclass, ())
    if not members:
        raise DescriptionError(f"luminal: all nodes of e-class {eclass!r} are subsumed")
    if isinstance(choice, Mapping):
        if eclass not in choice and len(members) > 1:
            raise DescriptionError(f"luminal: no choice for e-class {eclass!r}; its nodes: {', '.join(members)}")
        picked = choice.get(eclass, members[0])
    else:
        picked = choice(eclass, members)
    if picked not in members:
        raise DescriptionError(f"luminal: {picked!r} is no node of e-class {eclass!r}; its nodes: {', '.join(members)}")
    return picked


def _blocked(egraph: EGraph, start: str, picked: Mapping[str, str]) -> str:
    """Why: the first e-class below whose nodes are all outside the language, or cost infinitely much."""
    seen, queue = {start}, [start]
    for eclass in queue:
        members = egraph.classes.get(eclass, ())
        ops = {egraph.nodes[name].op for name in members}
        if not any(_in_language(egraph.nodes[name]) for name in members):
            kind = "helpers of the search" if ops <= HELPERS else "operators that are no part of the language"
            return f"e-class {eclass!r} has only {kind}: {', '.join(sorted(ops))}"
        if not any(_in_language(egraph.nodes[name]) and math.isfinite(egraph.nodes[name].cost) for name in members):
            return f"e-class {eclass!r} has only nodes of infinite cost: {', '.join(members)}"
        for name in members:
            fresh = [c for c in egraph.nodes[name].children if c not in picked and c not in seen]
            seen.update(fresh)
            queue.extend(fresh)
    return "every choice leads round in a circle or to an infinite cost"


def _primitive(op: str) -> int | str | None:
    """A number or text as egglog prints it, text also as its older versions boxed it."""
    if re.fullmatch(r"-?\d{1,19}", op):
        return int(op)
    boxed = re.fullmatch(r'(?:Boxed\()?"((?:[^"\\]|\\.)*)"\)?', op)
    return boxed[1] if boxed else None
