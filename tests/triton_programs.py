"""Small random programs in the IR that Triton gives, and what each asks for when it is run: integers as a processor has them.

A program is written down as text, for the front end, and as nested Python functions at the same time, which numpy runs block by
block. Divisions round to zero, narrow integers wrap round, loops may have no steps, masks are carried. Programs that divide by
nothing or leave 32 bits have no meaning and are thrown away.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LANES = 32
_TENSOR = f"tensor<{LANES}xi32, #blocked>"
_MASK = f"tensor<{LANES}xi1, #blocked>"
_POINTERS = f"tensor<{LANES}x!tt.ptr<f32>, #blocked>"
_HEAD = """#blocked = #ttg.blocked<{sizePerThread = [1], threadsPerWarp = [32], warpsPerCTA = [1], order = [0]}>
#loc = loc("program.py":1:0)
module attributes {"ttg.num-ctas" = 1 : i32, "ttg.num-warps" = 1 : i32, ttg.target = "cuda:90", "ttg.threads-per-warp" = 32 : i32} {
  tt.func public @program(%x: !tt.ptr<f32> loc(#loc), %n: i32 loc(#loc), %m: i32 loc(#loc)) attributes {noinline = false} {
"""
_TYPES = {"scalar": "i32", "tensor": _TENSOR, "mask": _MASK, "truth": "i1"}


class MeaninglessError(Exception):
    """A division by zero, or a number that 32 bits do not hold."""


def _whole(value):
    if np.any(np.abs(value) >= 1 << 31):
        raise MeaninglessError
    return value


def _divided(a, b):
    if np.any(np.equal(b, 0)):
        raise MeaninglessError
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))


def _narrow(a):
    return (np.asarray(a, np.int64) + 128) % 256 - 128


BINARY: dict[str, Any] = {
    "addi": lambda a, b: a + b,
    "subi": lambda a, b: a - b,
    "muli": lambda a, b: a * b,
    "divsi": _divided,
    "remsi": lambda a, b: a - _divided(a, b) * b,
    "minsi": np.minimum,
    "maxsi": np.maximum,
}
COMPARED: dict[str, Any] = {
    "slt": lambda a, b: a < b,
    "sle": lambda a, b: a <= b,
    "sgt": lambda a, b: a > b,
    "sge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "ult": lambda a, b: np.asarray(a) % (1 << 32) < np.asarray(b) % (1 << 32),
    "uge": lambda a, b: np.asarray(a) % (1 << 32) >= np.asarray(b) % (1 << 32),
}


@dataclass
class Program:
    """Text and functions of a program, as they grow."""

    choose: random.Random
    lines: list = field(default_factory=list)
    steps: list = field(default_factory=list)
    """Functions of the values by name, and of the bytes counted so far."""
    pools: dict = field(default_factory=lambda: {kind: [] for kind in _TYPES})
    """Names of values by kind."""
    names: int = 0
    depth: int = 0

    def fresh(self):
        self.names += 1
        return f"%v{self.names}"

    def write(self, text):
        self.lines.append("    " + "  " * self.depth + text + f' loc("program.py":{len(self.lines) + 1}:0)')

    def add(self, kind, text, function):
        """An operation with one result."""
        name = self.fresh()
        self.write(f"{name} = {text}")
        self.steps.append(lambda env, _: env.__setitem__(name, function(env)))
        self.pools[kind].append(name)
        return name

    def constant(self, value):
        return self.add("scalar", f"arith.constant {value} : i32", lambda env: value)

    def pick(self, kind):
        pool = self.pools[kind]
        return self.choose.choice(pool[-6:] if self.choose.random() < 0.6 else pool)

    def any_scalar(self):
        return self.constant(self.choose.choice([-3, 0, 1, 2, 7, 16, 32])) if self.choose.random() < 0.3 else self.pick("scalar")

    def splat(self, name):
        return self.add("tensor", f"tt.splat {name} : i32 -> {_TENSOR}", lambda env: np.full(LANES, env[name], np.int64))

    def arithmetic(self, kind):
        operator = self.choose.choice(["addi", "addi", "subi", "muli", "divsi", "remsi", "minsi", "maxsi"])
        a = self.pick(kind)
        if operator in ("muli", "divsi", "remsi"):
            b = self.constant(self.choose.choice([1, 2, 3, 8, 32])) if self.choose.random() < 0.8 else self.pick("scalar")
            b = b if kind == "scalar" else self.splat(b)
        else:
            b = self.any_scalar() if kind == "scalar" else self.pick(kind)
        return self.add(kind, f"arith.{operator} {a}, {b} : {_TYPES[kind]}", lambda env: _whole(BINARY[operator](env[a], env[b])))

    def comparison(self, kind):
        sign = self.choose.choice(["slt", "slt", *COMPARED])
        a = self.arithmetic(kind) if self.choose.random() < 0.4 else self.pick(kind)
        b = self.any_scalar() if kind == "scalar" else self.splat(self.any_scalar())
        found, made = ("truth", "i32") if kind == "scalar" else ("mask", _TENSOR)
        return self.add(found, f"arith.cmpi {sign}, {a}, {b} : {made}", lambda env: COMPARED[sign](env[a], env[b]))

    def combined(self, kind):
        a, b, operator = self.pick(kind), self.pick(kind), self.choose.choice(["andi", "andi", "ori"])
        both = operator == "andi"
        function = lambda env: np.logical_and(env[a], env[b]) if both else np.logical_or(env[a], env[b])  # noqa: E731
        return self.add(kind, f"arith.{operator} {a}, {b} : {_TYPES[kind]}", function)

    def replaced(self):
        index, limit = self.pick("tensor"), self.splat(self.any_scalar())
        mask = self.below(index, limit)
        other = self.splat(self.constant(self.choose.choice([-1, 0, 5])))
        types = f"{_MASK}, {_TENSOR}"
        where = lambda env: np.where(env[mask], env[index], env[other])  # noqa: E731
        return self.add("tensor", f"arith.select {mask}, {index}, {other} : {types}", where)

    def narrowed(self):
        a, narrow = self.pick("tensor"), _TENSOR.replace("i32", "i8")
        name = self.add("narrow", f"arith.trunci {a} : {_TENSOR} to {narrow}", lambda env: _narrow(env[a]))
        return self.add("tensor", f"arith.extsi {name} : {narrow} to {_TENSOR}", lambda env: env[name])

    def load(self):
        at = self.fresh()
        self.write(f"{at} = tt.addptr %xs, %at : {_POINTERS}, {_TENSOR}")
        mask = self.pick("mask") if self.pools["mask"] and self.choose.random() < 0.85 else None
        result = self.fresh()
        self.write(f"{result} = tt.load {at}{', ' + mask if mask else ''} : {_POINTERS}")

        def count(env, counted):
            counted[0] += 4 * int(np.sum(env[mask])) if mask else 4 * LANES

        self.steps.append(count)

    def block(self, operations):
        """So many random operations; values that a nested block makes stay in it."""
        for _ in range(operations):
            makers = [
                (lambda: self.arithmetic("scalar"), 3), (lambda: self.arithmetic("tensor"), 3), (lambda: self.comparison("tensor"), 4),
                (self.load, 4), (self.replaced, 1), (self.narrowed, 0.3),
            ]  # fmt: skip
            makers += [(lambda: self.combined("mask"), 2)] * (len(self.pools["mask"]) > 1)
            makers += [(self.loop, 3), (self.branch, 1.5)] * (self.depth < 2)
            functions, weights = zip(*makers, strict=True)
            self.choose.choices(functions, weights)[0]()

    def below(self, index, limit):
        return self.add("mask", f"arith.cmpi slt, {index}, {limit} : {_TENSOR}", lambda env: env[index] < env[limit])

    def inner(self, operations, values=(), limit=None):
        """A nested block: its functions, and the names of what it yields for values of these kinds; a mask by this limit."""
        steps, pools = self.steps, {k: list(v) for k, v in self.pools.items()}
        self.steps, self.depth = [], self.depth + 1
        for kind, name in values:
            self.pools[kind].append(name)
        self.block(operations)
        self.load()
        yielded = [self.carried_on(kind, name) for kind, name in values]
        if limit:
            yielded[-1] = self.below(yielded[-2], limit)
        if values:
            self.write(f"scf.yield {', '.join(yielded)} : {', '.join(_TYPES[k] for k, _ in values)}")
        made, self.steps, self.pools, self.depth = self.steps, steps, pools, self.depth - 1
        return made, yielded

    def carried_on(self, kind, name):
        """What a loop hands to its next step: mostly the value advanced."""
        if kind == "mask" or self.choose.random() < 0.3:
            return self.pick(kind) if self.choose.random() < 0.9 else name
        step = self.constant(self.choose.choice([1, 2, 32, -1]))
        step = step if kind == "scalar" else self.splat(step)
        return self.add(kind, f"arith.addi {name}, {step} : {_TYPES[kind]}", lambda env: _whole(env[name] + env[step]))

    def loop(self):
        low, high = self.any_scalar(), self.any_scalar()
        by = self.constant(self.choose.choice([1, 1, 2, 5, 32]))
        kinds = [k for k in ("scalar", "tensor", "mask") if self.pools[k] and self.choose.random() < 0.6]
        start, inside = [self.pick(k) for k in kinds], [self.fresh() for _ in kinds]
        limit = None
        if kinds[-2:] == ["tensor", "mask"] and self.choose.random() < 0.7:
            limit = self.splat(self.any_scalar())
            start[-1] = self.below(start[-2], limit)
        counter, result = self.fresh(), self.fresh()
        carried = ", ".join(f"{a} = {s}" for a, s in zip(inside, start, strict=True))
        types = ", ".join(_TYPES[k] for k in kinds)
        head = f"scf.for {counter} = {low} to {high} step {by} "
        names = [f"{result}#{n}" if len(kinds) > 1 else result for n in range(len(kinds))]
        left = f"{result}{f':{len(kinds)}' if len(kinds) > 1 else ''} = " if kinds else ""
        self.lines.append("    " + left + head + (f"iter_args({carried}) -> ({types}) " if kinds else "") + " : i32 {")
        known = list(self.pools["scalar"])
        self.pools["scalar"].append(counter)
        values = list(zip(kinds, inside, strict=True))
        steps, yielded = self.inner(self.choose.randint(1, 4), values, limit)
        self.pools["scalar"] = known
        self.write("}")

        def run(env, counted):
            env |= {a: env[s] for a, s in zip(inside, start, strict=True)}
            taken = range(int(env[low]), int(env[high]), int(env[by]))
            if len(taken) > 200:
                raise MeaninglessError
            for value in taken:
                env[counter] = value
                for step in steps:
                    step(env, counted)
                env |= dict(zip(inside, [env[y] for y in yielded], strict=True))
            env |= dict(zip(names, [env[a] for a in inside], strict=True))

        self.steps.append(run)
        for kind, name in zip(kinds, names, strict=True):
            self.pools[kind].append(name)

    def branch(self):
        self.comparison("scalar")
        truth = self.combined("truth") if len(self.pools["truth"]) > 1 and self.choose.random() < 0.3 else self.pick("truth")
        self.lines.append(f"    scf.if {truth} {{")
        then, _ = self.inner(self.choose.randint(0, 2))
        otherwise = []
        if self.choose.random() < 0.5:
            self.lines.append("    } else {")
            otherwise, _ = self.inner(self.choose.randint(0, 2))
        self.write("}")

        def run(env, counted):
            for step in then if env[truth] else otherwise:
                step(env, counted)

        self.steps.append(run)


def program(seed):
    """A program: its text, and a function from the sizes `n` and `m` and the blocks of the grid to bytes."""
    p = Program(random.Random(seed))
    p.pools |= {"narrow": []}
    p.pools["scalar"] += ["%n", "%m"]
    p.write("%c32 = arith.constant 32 : i32")
    p.write("%pid = tt.get_program_id x : i32")
    p.write("%start = arith.muli %pid, %c32 : i32")
    p.write(f"%range = tt.make_range {{end = {LANES} : i32, start = 0 : i32}} : {_TENSOR}")
    p.write(f"%first = tt.splat %start : i32 -> {_TENSOR}")
    p.write(f"%at = arith.addi %first, %range : {_TENSOR}")
    p.write(f"%xs = tt.splat %x : !tt.ptr<f32> -> {_POINTERS}")
    p.pools["scalar"] += ["%pid", "%start"]
    p.pools["tensor"] += ["%range", "%at"]
    p.comparison("tensor")
    p.block(p.choose.randint(4, 12))
    p.load()
    text = _HEAD + "\n".join(p.lines) + "\n    tt.return loc(#loc)\n  } loc(#loc)\n} loc(#loc)\n"

    def run(n, m, blocks):
        counted = [0]
        lanes = np.arange(LANES, dtype=np.int64)
        for pid in range(blocks):
            env = {"%n": n, "%m": m, "%pid": pid, "%start": 32 * pid, "%range": lanes, "%at": 32 * pid + lanes}
            for step in p.steps:
                step(env, counted)
        return counted[0]

    return text, run
