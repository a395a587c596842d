"""tinygrad's programs as kernels, and BEAM by prediction, in the real library without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from tests.hosts import host

PREPARED = """
import itertools, math, os, sys, warnings
os.environ.update(DEV="NULL:OPENCL", PARALLEL="0", CACHELEVEL="0", BEAM_UOPS_MAX="200", BEAM_UPCAST_MAX="16", BEAM_LOCAL_MAX="64")
from tinygrad import Tensor, dtypes
from tinygrad.codegen.opt import search
from tinygrad.helpers import BEAM, Context
from costmodel import UnsupportedError
from costmodel.adapters.tinygrad import predicted_beam
from costmodel.adapters.ranking import NotModelledWarning
from costmodel.counts import traffic, work
from costmodel.frontends.tinygrad import from_program

def programs(make, limit):
    # programs of a BEAM search, in the order in which it times them
    found = []
    def timed(program, *args, **kwargs):
        found.append(program)
        if len(found) >= limit:
            raise KeyboardInterrupt
        return [1.0 / len(found)]
    own = search._time_program
    search._time_program = timed
    try:
        with Context(BEAM=1):
            make().realize()
    except KeyboardInterrupt:
        pass
    finally:
        search._time_program = own
    return found
"""


def run(code):
    """Run in a fresh process: tinygrad reads its device from the environment once."""
    host("tinygrad", "pip install 'costmodel[tinygrad]'")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XDG_CACHE_HOME": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", PREPARED + textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_requested_bytes_are_those_of_every_lane_of_every_block():
    """Programs of a BEAM search, executed address by address: every lane, loop, guard and gate is walked."""
    run("""
    INTEGER = {
        "ADD": lambda a, b: a + b, "SUB": lambda a, b: a - b, "MUL": lambda a, b: a * b, "SHL": lambda a, b: a << b,
        "SHR": lambda a, b: a >> b, "AND": lambda a, b: a & b, "OR": lambda a, b: a | b, "XOR": lambda a, b: a ^ b,
        "CDIV": lambda a, b: a // b, "CMOD": lambda a, b: a % b, "FLOORDIV": lambda a, b: a // b, "FLOORMOD": lambda a, b: a % b,
        "IDIV": lambda a, b: a // b, "MOD": lambda a, b: a % b,
        "CMPLT": lambda a, b: a < b, "CMPEQ": lambda a, b: a == b, "CMPNE": lambda a, b: a != b,
    }

    def walked(program):
        uops = list(program.src[1].src)
        at = {u: i for i, u in enumerate(uops)}
        special = [u for u in uops if u.op.name == "SPECIAL"]
        bytes_ = {}
        def array(u):
            while u.op.name == "AFTER":
                u = u.src[0]
            return u
        def value(u, env):
            if u in env: return env[u]
            if u.op.name == "CONST": return int(u.arg)
            if u.op.name == "CAST": return value(u.src[0], env)
            return INTEGER[u.op.name](*(value(s, env) for s in u.src))
        def end_of(i, opening, closing):
            depth = 0
            for j in range(i, len(uops)):
                depth += (uops[j].op.name in opening) - (uops[j].op.name in closing)
                if not depth: return j
        def go(i, stop, env):
            while i < stop:
                u, op = uops[i], uops[i].op.name
                if op == "RANGE":
                    j = end_of(i, ("RANGE",), ("END",))
                    for n in range(value(u.src[0], env)):
                        go(i + 1, j, {**env, u: n})
                    i = j
                elif op == "IF":
                    j = end_of(i, ("IF",), ("ENDIF",))
                    if value(u.src[0], env): go(i + 1, j, env)
                    i = j
                elif op in ("LOAD", "STORE"):
                    pointer = u.src[0]
                    target = array(pointer.src[0])
                    gate = len(u.src) < 3 or value(u.src[2], env)
                    width = value(pointer.src[2], env) if pointer.op.name == "SHRINK" else 1
                    if gate and not (target.op.name == "BUFFER" and target.arg.addrspace.name == "REG"):
                        address = value(pointer.src[1], env)
                        assert 0 <= address and address + width <= value(target.src[0], env)
                        key = (op, target.op.name == "PARAM" and target.arg.slot)
                        bytes_[key] = bytes_.get(key, 0) + width * target.dtype.itemsize
                i += 1
        for lane in itertools.product(*(range(value(u.src[0], {})) for u in special)):
            go(0, len(uops), dict(zip(special, lane)))
        return bytes_

    for make, limit in (
        (lambda: Tensor.empty(4, 8) @ Tensor.empty(8, 8), 15),
        (lambda: Tensor.empty(2, 64).sum(1), 12),
        (lambda: Tensor.empty(1, 1, 6, 6).conv2d(Tensor.empty(4, 1, 3, 3), padding=1), 6),
        (lambda: Tensor.empty(4, 16).softmax(), 10),
        (lambda: Tensor.empty(12, 5, dtype=dtypes.double) * 2, 5),
    ):
        found = programs(make, limit)
        assert len(found) >= 5
        for program in found:
            counted = {}
            for f in traffic(from_program(program)).flows:
                load = f.target == "register" and f.source in ("l1", "shared")
                if load or (f.source == "register" and f.target in ("l1", "shared")):
                    key = ("LOAD" if load else "STORE", int(f.buffer[4:]) if f.buffer.startswith("data") else False)
                    counted[key] = counted.get(key, 0) + int(f.requested_bytes)
            assert counted == walked(program), (program.src[2].arg, counted, walked(program))
    """)


def test_operations_are_those_that_tinygrad_counts():
    """tinygrad's own estimate of a product of matrices: two operations for each multiply-add."""
    run("""
    found = programs(lambda: Tensor.empty(64, 64) @ Tensor.empty(64, 64), 20)
    assert len(found) >= 20
    for program in found:
        if "GROUP" in str(program.src[0].arg.applied_opts):
            continue
        done = work(from_program(program))
        operations = sum(int(n) * (2 if kind == "fma" else 1) for (kind, _), n in done.items())
        assert operations == program.src[0].arg.estimates.ops, (done, program.src[0].arg.estimates)
    """)


def test_beam_is_led_by_predictions_and_leaves_the_library_as_it_was():
    out = run("""
    from costmodel import Scorer
    own = search._time_program, search.diskcache_get, search.diskcache_put
    def forbidden(*args, **kwargs): raise AssertionError("measured")
    search._time_program = forbidden
    timed = []
    import costmodel.adapters.tinygrad as adapter
    price = adapter.Pricer.price
    def noted(self, configs, **kwargs):
        prices = price(self, configs, **kwargs)
        timed.append((prices.seconds[0], configs[0]["program"]))
        return prices
    adapter.Pricer.price = noted
    with predicted_beam("H100"), Context(BEAM=1):
        Tensor.empty(64, 64).sum(1).realize()
    assert search._time_program is forbidden and search.diskcache_get is own[1] and search.diskcache_put is own[2]
    first, best = timed[0][0], min(s for s, _ in timed)
    assert all(Scorer(from_program(p), "H100").score({}).seconds[0] == s for s, p in timed[:5])
    print(len(timed), first, best)
    """)
    count, first, best = out.split()
    assert int(count) > 20
    assert float(best) < float(first)


def test_beam_contexts_may_be_left_in_any_order():
    run("""
    own = search._time_program
    first, second = predicted_beam("H100"), predicted_beam("A100")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert search._time_program is not own
    second.__exit__(None, None, None)
    assert search._time_program is own
    """)


def test_what_is_not_understood_is_timed_as_ever():
    run("""
    asked = []
    def measured(program, *args, **kwargs):
        asked.append(program)
        if len(asked) > 5: raise KeyboardInterrupt
        return [1.0]
    search._time_program = measured
    def refuse(config): raise UnsupportedError("tinygrad: a spiral loop")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            with predicted_beam("H100", refuse), Context(BEAM=1):
                (Tensor.empty(64, 64) @ Tensor.empty(64, 64)).realize()
        except KeyboardInterrupt:
            pass
    ours = [w for w in told if issubclass(w.category, NotModelledWarning)]
    assert len(asked) == 6 and len(ours) == 1 and "spiral loop" in str(ours[0].message)
    assert search._time_program is measured
    """)


def test_an_address_that_depends_on_data_is_refused_by_name():
    out = run("""
    (program,) = programs(lambda: Tensor.empty(1000)[Tensor.empty(64, dtype=dtypes.int)], 1)
    try:
        from_program(program)
    except UnsupportedError as error:
        print(error)
    """)
    assert "an address depends on WHERE, which is not understood" in out
