"""What operations on memory and matrix instructions mean to the reader."""

from __future__ import annotations

import re
from dataclasses import replace

from costmodel.frontends.triton.arithmetic import axis
from costmodel.frontends.triton.comparisons import held as masked
from costmodel.frontends.triton.events import Condition, Multiply, Stage, Sync, Tile, Touch
from costmodel.frontends.triton.module_text import Operation, TensorType, split_types, tensor_type
from costmodel.frontends.triton.polynomials import Polynomial
from costmodel.frontends.triton.reading import Handler, Reader
from costmodel.frontends.triton.values import Descriptor, Opaque, Pointer

__all__ = ["HANDLERS"]

_UNCACHED = re.compile(r"cacheModifier = c[gv]|isVolatile = true")
_POINTERS = re.compile(r"(tensor<[\dx]*!tt\.ptr<[^>]*>(?:, .*?>?)?>|!tt\.ptr<[^>]*>)(?=$|,| ->)")
_POINTEE = re.compile(r"!tt\.ptr<(.*?)>")


def _touched(reader: Reader, operation: Operation, kind: str, mask: str | None, tile: Tile | None = None) -> Touch:
    """The elements behind a tensor of pointers."""
    pointer = reader[operation.operands[0]]
    if not isinstance(pointer, Pointer):
        reason = pointer.reason if isinstance(pointer, Opaque) else "no pointer"
        raise reader.fail(
            operation, f"the address is {reason}; expected an argument and an index made of sizes, blocks and loops"
        )
    held = reader.conditions(operation, reader[mask], "the mask") if mask else ()
    cached = not _UNCACHED.search(operation.text)
    return Touch(kind, pointer.buffer, pointer.offset, held, _elements(operation), cached, reader.where(operation), tile)


def _elements(operation: Operation) -> TensorType:
    """The type of the elements behind the tensor of pointers."""
    types = operation.types.strip("() ")
    first = _POINTERS.match(types)
    tensor = tensor_type(first.group(1) if first else types)
    pointee = _POINTEE.search(tensor.element)
    return TensorType(tensor.shape, pointee.group(1) if pointee else tensor.element, tensor.encoding)


def _load(reader: Reader, operation: Operation) -> None:
    masked = operation.operands[1] if len(operation.operands) > 1 else None
    touch = _touched(reader, operation, "load", masked)
    reader.give(operation, Opaque(f"loaded at line {touch.where.line}"))
    staged = reader.staged(operation)
    if staged is None:
        reader.emit(touch)
        return
    ring = TensorType(touch.tensor.shape, touch.tensor.element, staged.encoding)
    tile = reader.tile(f"ring_{touch.buffer}", ring, staged.stages)
    reader.rings[operation.results[0]] = tile
    reader.emit(replace(touch, tile=tile), Sync())
    if operation.results[0] not in reader.allocated:
        reader.emit(Stage("load", tile, touch.tensor, touch.where))


def _store(reader: Reader, operation: Operation) -> None:
    masked = operation.operands[2] if len(operation.operands) > 2 else None
    reader.emit(_touched(reader, operation, "store", masked))


def _atomic(reader: Reader, operation: Operation) -> None:
    reader.skip(operation)
    masked = operation.operands[2] if len(operation.operands) > 2 and operation.name == "tt.atomic_rmw" else None
    reader.emit(_touched(reader, operation, "atomic", masked))


# -- shared memory


def _allocate(reader: Reader, operation: Operation) -> None:
    tensor = tensor_type(operation.result_type)
    if not operation.operands:
        reader.give(operation, reader.tile("tile", tensor))
        return
    source = operation.operands[0]
    if source in reader.rings:
        reader.give(operation, reader.rings[source])
        return
    tile = reader.tile("tile", tensor)
    reader.give(operation, tile)
    register = tensor_type(operation.types.rsplit(" -> ", 1)[0].strip("() "))
    reader.emit(Stage("store", tile, register, reader.where(operation)), Sync())


def _local_store(reader: Reader, operation: Operation) -> None:
    tile = reader[operation.operands[1]]
    if isinstance(tile, Tile):
        register = tensor_type(operation.types.split(" -> ")[0].strip())
        reader.emit(Stage("store", tile, register, reader.where(operation)), Sync())


def _local_load(reader: Reader, operation: Operation) -> None:
    reader.skip(operation)
    tile = reader[operation.operands[0]]
    if not isinstance(tile, Tile):
        raise reader.fail(operation, "the shared array is not known")
    reader.emit(Stage("load", tile, tensor_type(operation.result_type), reader.where(operation)))


def _view(reader: Reader, operation: Operation) -> None:
    """Another view of a shared array: the same bytes."""
    tile = reader[operation.operands[0]]
    reader.give(operation, Tile(tile.name, tensor_type(operation.result_type), tile.stages) if isinstance(tile, Tile) else tile)


# -- matrix instructions


def _dot(reader: Reader, operation: Operation) -> None:
    reader.skip(operation)
    left, _, sums = (tensor_type(t.strip()) for t in re.split(r" \* | -> ", operation.types))
    a, b = (reader[n] for n in operation.operands[:2])
    element = left.element
    dtype = {"f32": "tf32", "f64": "f64", "i8": "i8"}.get(element, "f8" if element.startswith("f8") else element)
    spelt = reader.module.aliases.get(sums.encoding, sums.encoding)
    if "nvidia_mma" not in spelt and "blocked" not in spelt:
        raise reader.fail(operation, f"a product with sums in {spelt}; expected #ttg.nvidia_mma or #ttg.blocked")
    *batch, m, n = sums.shape
    count = 1
    for extent in batch:
        count *= extent
    tiles = [v if isinstance(v, Tile) else None for v in (a, b)]
    reader.emit(Multiply(m, n, left.shape[-1], count, dtype, sums.encoding, tiles[0], tiles[1], reader.where(operation)))


# -- tensor descriptors


def _make_map(reader: Reader, operation: Operation) -> None:
    """`ttng.tensormap_create`: extents, strides in bytes, fastest dimension first."""
    target, base = operation.operands[:2]
    _, extents, strides, _ = (re.findall(r"%[\w$.-]+(?:#\d+)?", part) for part in re.findall(r"\[(.*?)\]", operation.text)[:4])
    pointer = reader[base]
    shape, steps = [reader[n] for n in extents], [reader[n] for n in strides]
    size = {"0": 1, "6": 2, "10": 2, "7": 4, "8": 4, "2": 4, "3": 4, "9": 8}.get(operation.attribute("elem_type") or "", 0)
    known = all(isinstance(v, Polynomial) for v in (*shape, *steps))
    if not isinstance(pointer, Pointer) or not known or not size:
        raise reader.fail(operation, "a tensor descriptor whose base, extents or strides only the data tell")
    in_elements = [reader.algebra.floor(s, Polynomial.of(size)) for s in steps if isinstance(s, Polynomial)]
    reader.values[target] = Descriptor(
        pointer.buffer,
        pointer.offset,
        tuple(s for s in shape[::-1] if isinstance(s, Polynomial)),
        (*in_elements[::-1], Polynomial.of(1)),
    )


def _tensor_copy(reader: Reader, operation: Operation) -> None:
    """TMA: a box of an array, cut at the array's edges."""
    descriptor = reader[operation.operands[0]]
    found = re.search(r"\[(.*?)\]", operation.text)
    at = [reader[n] for n in re.findall(r"%[\w$.-]+(?:#\d+)?", found.group(1) if found else "")]
    if not isinstance(descriptor, Descriptor) or not all(isinstance(p, Polynomial) for p in at):
        raise reader.fail(operation, "a copy by a tensor descriptor whose place only the data tell")
    rest = operation.operands[1 + len(at) :]
    tile = reader[rest[0]] if rest else None
    box = tensor_type(split_types(operation.types)[0])
    offset, held = descriptor.offset, list[Condition]()
    for d, (start, extent, stride) in enumerate(zip(at, descriptor.shape, descriptor.strides, strict=True)):
        assert isinstance(start, Polynomial)
        place = start + axis(reader.algebra, d, box.shape[d])
        offset = offset + place * stride
        held += [("<", place, extent), (">=", place, Polynomial.of(0))]
    if not isinstance(tile, Tile):
        raise reader.fail(operation, "a copy whose shared array is not known")
    where, stores = reader.where(operation), "local_to_global" in operation.name
    staged = None if stores else reader.staged(operation)
    if staged is not None:
        tile = reader.restaged(tile, staged.stages)
    tensor, inside = TensorType(box.shape, box.element, tile.tensor.encoding), masked(reader.algebra, held)
    touch = Touch(
        "store" if stores else "load", descriptor.buffer, offset, inside.conditions, tensor, True, where, tile, descriptor.shape
    )
    reader.emit(touch, *([] if stores else [Sync()]))


HANDLERS: dict[str, Handler] = {
    "tt.load": _load,
    "tt.store": _store,
    "tt.atomic_rmw": _atomic,
    "tt.atomic_cas": _atomic,
    "ttg.local_alloc": _allocate,
    "ttg.local_store": _local_store,
    "ttg.local_load": _local_load,
    "ttg.memdesc_trans": _view,
    "ttg.memdesc_index": _view,
    "ttg.memdesc_subview": _view,
    "ttg.memdesc_subslice": _view,
    "ttg.memdesc_reinterpret": _view,
    "ttg.memdesc_reshape": _view,
    "tt.dot": _dot,
    "ttng.warp_group_dot": _dot,
    "ttng.tensormap_create": _make_map,
    "ttng.reinterpret_tensor_descriptor": lambda reader, operation: reader.give(operation, reader[operation.operands[0]]),
    "ttng.async_tma_copy_global_to_local": _tensor_copy,
    "ttng.async_tma_copy_local_to_global": _tensor_copy,
}
"""By the operation's name."""
