"""The loop nest and its data edges as a frozen networkx graph.

Nodes are `("kernel", name)`, `("loop", index)` (`index#2` for a namesake), `("guard", n)`, `("statement", n)`, `("barrier", n)`
and `("buffer", name)`; each has a `label` for reading, the `item` it stands for, and a `layer` (its
depth) for `networkx.multipartite_layout(graph, subset_key="layer")`. Edges are `contains` (with the
`position` in the body), `reads` (buffer to statement) and `writes` (statement to buffer) with the
`access`.
"""

from __future__ import annotations

import networkx as nx

from costmodel.ir.checks import describe
from costmodel.ir.types import Barrier, Guard, Kernel, Loop, Node, Statement
from costmodel.symbols import to_text

__all__ = ["loop_nest_graph", "loose_ends"]

Key = tuple[str, str | int]


def loop_nest_graph(kernel: Kernel) -> nx.MultiDiGraph:
    """The frozen graph of a kernel.

    Example:
        `for line in nx.generate_network_text(graph): print(line)` draws the tree in a terminal.
    """
    graph = nx.MultiDiGraph(name=kernel.name)
    root: Key = ("kernel", kernel.name)
    graph.add_node(root, label=kernel.name, item=kernel, layer=0)
    for buffer in kernel.buffers:
        shape = " × ".join(to_text(n) for n in buffer.shape)
        graph.add_node(
            ("buffer", buffer.name), label=f"{buffer.space} {buffer.name}[{shape}] {buffer.dtype}", item=buffer, layer=-1
        )
    _add_body(graph, root, kernel.body, 1)
    return nx.freeze(graph)


def loose_ends(kernel: Kernel) -> tuple[str, ...]:
    """What the data edges show to be forgotten: arrays that are read but never written, or the other way round.

    Global arrays come from outside and go there, so only shared memory and registers can be loose.
    """
    graph = loop_nest_graph(kernel)
    found = []
    for buffer in kernel.buffers:
        if buffer.space not in ("shared", "register"):
            continue
        read, written = graph.out_degree(("buffer", buffer.name)), graph.in_degree(("buffer", buffer.name))
        if not read and not written:
            found.append(f"{buffer.space} {buffer.name} is never used")
        elif not written and not buffer.exchange:
            found.append(f"{buffer.space} {buffer.name} is read, but nothing writes it")
        elif not read:
            found.append(f"{buffer.space} {buffer.name} is written, but nothing reads it")
    return tuple(found)


def _add_body(graph: nx.MultiDiGraph, parent: Key, body: tuple[Node, ...], layer: int) -> None:
    for position, node in enumerate(body):
        key = _key(graph, node)
        graph.add_node(key, label=_label(node), item=node, layer=layer)
        graph.add_edge(parent, key, kind="contains", position=position)
        if isinstance(node, Loop | Guard):
            _add_body(graph, key, node.body, layer + 1)
        elif isinstance(node, Statement):
            for access in node.loads:
                graph.add_edge(("buffer", access.buffer.name), key, kind="reads", access=access, label=describe(access))
            for access in node.stores:
                graph.add_edge(key, ("buffer", access.buffer.name), kind="writes", access=access, label=describe(access))


def _key(graph: nx.MultiDiGraph, node: Node) -> Key:
    if isinstance(node, Loop):
        name = str(node.index)
        twins = sum(1 for k in graph if k[0] == "loop" and str(k[1]).split("#")[0] == name)
        return ("loop", f"{name}#{twins + 1}" if twins else name)
    kind = type(node).__name__.lower()
    return (kind, sum(1 for k in graph if k[0] == kind))


def _label(node: Node) -> str:
    if isinstance(node, Loop):
        return f"{node.kind} {node.index} < {to_text(node.extent)}"
    if isinstance(node, Guard):
        conditions = " and ".join(f"{to_text(a)} {op} {to_text(b)}" for op, a, b in node.conditions)
        return f"if {conditions or 'data'}" + ("" if node.fraction is None else f" (passes {node.fraction})")
    return "barrier" if isinstance(node, Barrier) else node.name
