"""`costmodel score`: JSON Lines in, JSON Lines out."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from costmodel import Scorer, estimate, kernel
from costmodel.adapters import json_lines
from costmodel.adapters.arriving_lines import lines
from costmodel.adapters.json_lines import ScoreStream, serve
from costmodel.adapters.score_schema import line_schema
from costmodel.cost import find_description
from costmodel.dtypes import f32
from costmodel.errors import SizeError
from costmodel.ir import to_json

TILES = [
    {"BM": bm, "BN": bn, "BK": 16, "TM": tm, "TN": 8, "M": m, "N": 4096, "K": 1024}
    for bm, bn, tm, m in itertools.product((64, 128, 256), (64, 128), (4, 8, 16), (1024, 4096))
]


ANSWER = Draft7Validator({**line_schema(), "anyOf": [{"$ref": "#/definitions/answer"}]})


def strict(line):
    """An answer as a parser reads it that knows no NaN; it is as the schema says."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON: {line}")

    answer = json.loads(line, parse_constant=refuse)
    ANSWER.validate(answer)
    assert line.isascii()
    return answer


def ask(stream, *requests):
    """Answers to some requests, sent together."""
    return [strict(line) for line in stream.answers([json.dumps(r).encode() for r in requests])]


def one_by_one(name, device, sizes, **told):
    try:
        return estimate(find_description(name), device, **sizes, **told)
    except SizeError as error:
        return str(error)


def test_answers_are_what_estimate_says_in_the_order_of_the_requests():
    """Kernels and devices mixed, some configurations that cannot run, identifiers of every kind."""
    mixed: list[dict[str, Any]] = [{"kernel": "gemm", "device": d, "sizes": t} for t in TILES for d in ("H100", "V100")]
    mixed += [
        {"kernel": "vector_add", "device": "A100", "sizes": {"N": n, "B": b}} for n in (1 << 10, 1 << 24) for b in (64, 2048)
    ]
    mixed = [
        {"id": i, **r}
        for i, r in zip(itertools.cycle([7, "x", None, [1, 2], {"a": 1.5}]), mixed[::3] + mixed[1::3], strict=False)
    ]
    answers = ask(ScoreStream(breakdown=True), *mixed)
    assert [a["id"] for a in answers] == [r["id"] for r in mixed]
    refused = 0
    for request, answer in zip(mixed, answers, strict=True):
        expected = one_by_one(request["kernel"], request["device"], request["sizes"])
        if isinstance(expected, str):
            assert answer["seconds"] is None
            assert answer["reason"] in expected
            refused += 1
            continue
        assert answer["seconds"] == pytest.approx(expected.seconds, rel=1e-12)
        assert answer["bound"] == expected.bound
        assert answer["terms"] == pytest.approx({t.name: t.share_s for t in expected.terms if t.share_s})
        assert answer["occupancy"] == pytest.approx(expected.occupancy.fraction)
        assert answer["registers"] == expected.registers_per_thread
    assert 0 < refused < len(mixed)


def test_lists_are_priced_together_and_answered_by_lists():
    rows = [{"N": 1 << 20, "B": b} for b in (64, 4096, 256)]
    stream = ScoreStream("vector_add", "H100", breakdown=True)
    (together,) = ask(stream, {"sizes": {"N": 1 << 20, "B": [64, 4096, 256]}})
    apart = ask(stream, *({"sizes": row} for row in rows))
    assert together["seconds"] == [a["seconds"] for a in apart]
    assert together["bound"] == [a.get("bound") for a in apart]
    assert together["reason"] == [None, "4096 threads per block, at most 1024", None]
    assert together["occupancy"] == [a.get("occupancy") for a in apart]
    assert sum(values[0] for values in together["terms"].values()) == pytest.approx(together["seconds"][0])
    assert "id" not in together


BAD = [
    (b"nonsense", "BadRequest", "expected a JSON object on one line, got nonsense"),
    (b"\xff\xfe", "BadRequest", "expected a JSON object"),
    (b"[1]", "BadRequest", "expected a JSON object, got [1]"),
    (b'{"kernl": "gemm"}', "BadRequest", "unknown key 'kernl' (did you mean 'kernel'?)"),
    (b'{"kernel": 3, "sizes": {}}', "BadRequest", "kernel is 3: expected a name"),
    (b'{"sizes": [1]}', "BadRequest", 'sizes: expected an object such as {"N": 4096}, got [1]'),
    (b'{"sizes": {"N": null, "B": 64}}', "BadRequest", "sizes: N: expected a number, or a list of them, got nothing"),
    (b'{"sizes": {"N": [1, 2], "B": [64]}}', "BadRequest", "B: 1 values where another size has 2"),
    (b'{"sizes": {"N": [], "B": 64}}', "BadRequest", "an empty list"),
    (b'{"sizes": {"N": [[1]], "B": 64}}', "BadRequest", "N: expected numbers"),
    (b'{"sizes": {"N": 4096, "B": 64}, "registers": 0}', "BadRequest", "registers: expected a positive whole number up to 65536, got 0"),
    (b'{"sizes": {"N": 4096, "B": 64}, "registers": 99999}', "BadRequest", "whole number up to 65536, got 99999"),
    (b'{"sizes": {"N": 4096, "B": 64}, "spilled": 2}', "BadRequest", "spilled: 2 words without registers"),
    (b'{"sizes": {"N": 4096, "B": 64}, "registers": 64, "spilled": 1e400}', "BadRequest", "from 0 to 131072, got Infinity"),
    (b'{"id": 1, "sizes": {"N": 4096, "B": 64}} {}', "BadRequest", "more after its end: column 41"),
    (b'{"id": 1e999, "sizes": {"N": 4096, "B": 64}}', "BadRequest", "id: expected a JSON value that can be written again"),
    (b'{"id": [NaN], "sizes": {"N": 4096, "B": 64}}', "BadRequest", "id: expected a JSON value that can be written again"),
    (b'{"sizes": {"N": 4096, "B": 64}, "spilled": NaN}', "BadRequest", "spilled: expected a number of words"),
    (b'{"sizes": {"N": 4096, "BB": 64}}', "Size", "vector_add: unknown size 'BB' (did you mean 'B'?)"),
    (b'{"sizes": {"N": 4096}}', "Size", "no column for argument 'B'"),
    (b'{"kernel": "vector_ad", "sizes": {"N": 1, "B": 64}}', "Description", "did you mean vector_add?"),
    (b'{"kernel": "/etc/x.py:f", "sizes": {}}', "Description", "a request cannot load files"),
    (b'{"device": "/dev/null.yaml", "sizes": {"N": 1, "B": 64}}', "Profile", "a request cannot load files"),
    (b'{"device": "H10", "sizes": {"N": 1, "B": 64}}', "Profile", "unknown GPU 'H10'; did you mean h100"),
    (b'{"define": "", "ir": {}}', "BadRequest", "define: expected a name"),
    (b'{"define": "k", "ir": 3}', "BadRequest", "ir: expected the object"),
    (b'{"define": "k", "ir": {}}', "Description", "kernel JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "kind", "message"), BAD, ids=[b.decode(errors="replace") for b, *_ in BAD])
def test_a_bad_request_is_answered_by_an_error_and_the_stream_goes_on(line, kind, message):
    good = b'{"id": 1, "sizes": {"N": 4096, "B": 64}}'
    stream = ScoreStream("vector_add", "H100")
    before, error, after = map(strict, stream.answers([good, line, good]))
    assert before == after
    assert before["seconds"] > 0
    assert error["kind"] == kind
    assert message in error["error"]
    assert "seconds" not in error


NO_SIZES: list[tuple[dict[str, Any], str]] = [
    ({"N": 0, "B": 64}, "expected a number from 1 to 2**40, got 0"),
    ({"N": 1e300, "B": 64}, "expected a number from 1 to 2**40"),
    ({"N": 10**20, "B": 64}, "expected a number from 1 to 2**40"),
    ({"N": True, "B": 64}, "expected a whole number, got True"),
    ({"N": "4096", "B": 64}, "expected a whole number, got '4096'"),
    ({"N": 4096, "B": float("nan")}, "expected a whole number, got nan"),
    ({"N": 4096, "B": 64, "registers": 300}, "expected 1 to 255 of a thread"),
]


def counted(monkeypatch):
    """Grows by one with each call of a scorer."""
    calls, score = [], Scorer.score

    def counting(self, *args, **named):
        calls.append(1)
        return score(self, *args, **named)

    monkeypatch.setattr(Scorer, "score", counting)
    return calls


def test_values_that_are_no_sizes_are_said_row_by_row_in_one_call(monkeypatch):
    """Alone, among good ones, and in lists: the good ones are priced as ever, all of them together."""
    calls = counted(monkeypatch)
    good = {"sizes": {"N": 4096, "B": 64}, "registers": 32}
    bad: list[dict[str, Any]] = [
        {"sizes": {n: v for n, v in sizes.items() if n != "registers"}, "registers": sizes.get("registers", 32)}
        for sizes, _ in NO_SIZES
    ]
    stream = ScoreStream("vector_add", "H100")
    said = ask(stream, *(r for request in bad for r in (good, request)))
    assert len(calls) == 1
    assert said[::2] == ask(stream, good) * len(bad)
    for answer, request, (_, message) in zip(said[1::2], bad, NO_SIZES, strict=True):
        assert answer["seconds"] is None
        assert answer["modelled"] is False
        assert message in answer["reason"] or (type(request["sizes"]["N"]) is bool and "whole number" in answer["reason"])
        assert message in ask(stream, request)[0]["reason"] or type(request["sizes"]["N"]) is bool
    (lists,) = ask(stream, {"sizes": {"N": [4096, 0, 4096], "B": [64, 64, 4096]}})
    assert lists["modelled"] == [True, False, True]
    assert lists["reason"][0] is None
    assert lists["seconds"][0] == ask(stream, {"sizes": {"N": 4096, "B": 64}})[0]["seconds"]
    assert "expected a number from 1 to 2**40, got 0" in lists["reason"][1]


def test_a_breakdown_of_nothing_that_runs():
    stream = ScoreStream("vector_add", "H100", breakdown=True)
    alone, together = ask(stream, {"sizes": {"N": 4096, "B": 4096}}, {"sizes": {"N": 4096, "B": [4096, 2048]}})
    assert alone == {"seconds": None, "reason": "4096 threads per block, at most 1024"}
    assert together["seconds"] == together["occupancy"] == together["registers"] == [None, None]


def test_keys_in_any_order_and_registers_of_each_request_are_one_table(monkeypatch):
    """What `estimate` says of each alone, from one call for all."""
    order = random.Random(3)
    requests = []
    for n, tile in enumerate(TILES):
        sizes = dict(order.sample(sorted(tile.items()), len(tile)))
        requests.append({"sizes": sizes, "registers": 40 + 7 * n % 200, "spilled": n % 3} if n % 2 else {"sizes": sizes})
    calls = counted(monkeypatch)
    answers = ask(ScoreStream("gemm", "H100"), *requests)
    assert len(calls) == 2  # with registers, and without
    priced = 0
    for request, answer in zip(requests, answers, strict=True):
        told = {n: v for n, v in request.items() if n != "sizes"}
        expected = one_by_one("gemm", "H100", request["sizes"], **told)
        if isinstance(expected, str):
            assert answer["reason"] in expected
        else:
            assert answer["seconds"] == pytest.approx(expected.seconds, rel=1e-12)
            priced += 1
    assert priced > len(TILES) // 2


@pytest.mark.parametrize("error", [ValueError("odd"), RecursionError(), RuntimeError("generator raised StopIteration")])
def test_a_fault_of_the_model_is_an_answer(monkeypatch, error):
    """Of the requests to blame only; where all are, it is not tried with each."""
    score, calls = Scorer.score, []

    def faulty(self, columns, **named):
        calls.append(1)
        if 13 in np.atleast_1d(columns["N"]):
            raise error
        return score(self, columns, **named)

    monkeypatch.setattr(Scorer, "score", faulty)
    stream = ScoreStream("vector_add", "H100")
    answers = ask(stream, *({"id": n, "sizes": {"N": n, "B": 64}} for n in range(1, 40)), {"sizes": {"N": [12, 13], "B": 64}})
    assert [a.get("id") for a in answers if a.get("kind") == "Internal"] == [13, None]
    assert type(error).__name__ in answers[12]["error"]
    assert all(a["seconds"] > 0 for a in answers[:12] + answers[13:-1])
    calls.clear()
    answers = ask(stream, *[{"sizes": {"N": 13, "B": 64}}] * 1000)
    assert {a["kind"] for a in answers} == {"Internal"}
    assert len(calls) < 100


@pytest.mark.parametrize("depth", [60, 900, 990, 5000, 100_000])
@pytest.mark.parametrize("part", ['"id": {}', '"id": 1, "kernel": {}', '"id": 1, "define": "k", "ir": {{"format": {}}}'])
def test_what_is_nested_deep_is_an_error_or_comes_back(depth, part):
    nest = "[" * depth + "]" * depth
    line = f"{{{part.format(nest)}{'' if 'ir' in part else VECTOR}}}".encode()
    good = b'{"sizes": {"N": 4096, "B": 64}}'
    before, deep, after = ScoreStream("vector_add", "H100").answers([good, line, good])
    assert before == after
    assert strict(before)["seconds"] > 0
    assert ('"kind": "BadRequest"' in deep or '"kind": "Description"' in deep) or deep.startswith(f'{{"id": {nest}, "seconds": 2')


VECTOR = ', "sizes": {"N": 4096, "B": 64}'


def _worked(amount):
    """JSON of a kernel that adds this often."""
    ir = json.loads(to_json(find_description("vector_add").trace()))
    text = json.dumps(ir)
    assert text.count('"amount": "1"') == 1
    return json.loads(text.replace('"amount": "1"', f'"amount": "{amount}"'))


def test_work_below_nothing_and_times_beyond_numbers_are_no_times():
    """Formulas whose value only sizes tell; as rows and as lists, with a breakdown."""
    stream = ScoreStream(device="H100", breakdown=True)
    for amount, bad, fine, reason in (
        ("N - 10**9", 4096, 1 << 30, "is -9.99996e+08, expected at least 0"),
        ("*".join("N" * 40), 1 << 30, 64, "leaves its range"),
    ):
        sizes = ({"N": bad, "B": 64}, {"N": fine, "B": 64}, {"N": [bad, fine], "B": 64})
        define = {"define": "k", "ir": _worked(amount)}
        _, alone, priced, lists = ask(stream, define, *({"kernel": "k", "sizes": s} for s in sizes))
        assert (alone["seconds"], alone["modelled"]) == (None, False)
        assert reason in alone["reason"]
        assert ask(stream, {"kernel": "k", "sizes": sizes[0]}) == [alone]
        assert lists["seconds"] == [None, priced["seconds"]]
        assert lists["reason"] == [alone["reason"], None]
    (refused,) = ask(stream, {"define": "k", "ir": _worked("1 - 2")})
    assert "the amount of add is -1; expected at least 0" in refused["error"]


@pytest.mark.parametrize(
    "request_",
    [
        {"kernel": "x" * 100_000, "sizes": {}},
        {"kernel": "vector_add", "device": "x" * 100_000, "sizes": {"N": 4096, "B": 64}},
        {"kernel": "vector_add", "sizes": {"x" * 100_000: 1}},
        {"kernel": "vector_add", "sizes": {"N": 4096, "B": "x" * 100_000}},
        {"kernel": "vector_add", "sizes": {"N": [4096, 1], "B": "x" * 100_000}},
        {"x" * 100_000: 1},
        {"define": "k", "ir": {"format": "x" * 100_000}},
        {"kernel": "\ud800.py", "sizes": {}},
    ],
    ids=lambda r: str(r)[:20],
)
def test_messages_are_bounded_and_can_be_read(request_):
    (line,) = ScoreStream(device="H100").answers([json.dumps(request_).encode()])
    answer = strict(line)
    assert len(line) < 10_000
    assert all(text.encode() for text in answer.values() if isinstance(text, str))


def _scaled(times):
    @kernel(name="mine")
    def mine(k, *, N):
        a = k.buffer("a", (N * times,), f32)
        with k.blocks(N * times // 128) as b, k.threads(128) as t:
            k.load(a[b * 128 + t])

    return mine.trace()


def test_a_defined_kernel_is_priced_and_may_be_defined_anew():
    """Requests before a definition mean the old kernel, also within one batch."""
    once, thrice = _scaled(1), _scaled(3)
    define = [{"define": "mine", "ir": json.loads(to_json(k))} for k in (once, thrice)]
    request = {"kernel": "mine", "sizes": {"N": 1 << 20}}
    unknown, defined, first, again, second = ask(ScoreStream(device="V100"), request, define[0], request, define[1], request)
    assert unknown["kind"] == "Description"
    assert defined == again == {"defined": "mine", "arguments": ["N"]}
    assert first["seconds"] == estimate(once, "V100", N=1 << 20).seconds
    assert second["seconds"] == estimate(thrice, "V100", N=1 << 20).seconds > first["seconds"]


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(json_lines, "MOST_KERNELS", 3)
    monkeypatch.setattr(json_lines, "MOST_SCORERS", 2)
    stream, ir = ScoreStream(device="V100"), json.loads(to_json(_scaled(1)))
    for n in range(6):
        _, answer = ask(stream, {"define": f"k{n}", "ir": ir}, {"kernel": f"k{n}", "sizes": {"N": 1024}})
        assert answer["seconds"] > 0
    assert list(stream.defined) == ["k3", "k4", "k5"]
    assert len(stream._scorers) == 2
    assert ask(stream, {"kernel": "k0", "sizes": {"N": 1024}})[0]["kind"] == "Description"


class Chunks:
    """A stream that gives its bytes in given pieces."""

    def __init__(self, pieces):
        self.pieces = iter([*pieces, b""])

    def read1(self, size):
        piece = next(self.pieces)
        assert len(piece) <= size
        return piece


@given(st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b".")), max_size=8), st.booleans(), st.data())
def test_lines_are_the_same_however_the_bytes_arrive(wanted, ended, data):
    text = b"\n".join(wanted) + b"\n" * ended
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(text) - 1, 1)), max_size=6)))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)]) if text[a:b]]
    assert list(itertools.chain(*lines(Chunks(pieces)))) == [line for line in wanted if line.strip()]


@given(st.lists(st.integers(0, 60), max_size=8), st.integers(1, 25))
def test_a_line_that_is_too_long_is_cut_and_the_next_one_is_whole(lengths, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "LONGEST_LINE_BYTES", 30)
        text = b"".join(bytes([97 + n]) * length + b"\n" for n, length in enumerate(lengths))
        found = list(itertools.chain(*lines(Chunks([text[i : i + size] for i in range(0, len(text), size)]), 30)))
        wanted = [bytes([97 + n]) * length for n, length in enumerate(lengths) if length]
        assert len(found) == len(wanted)
        for got, whole in zip(found, wanted, strict=True):
            assert got == whole if len(whole) <= 30 else whole.startswith(got) and len(got) > 30
        answers = ScoreStream("vector_add", "H100").answers(found)
        assert [("more than 30 bytes" in a) for a in answers] == [len(whole) > 30 for whole in wanted]


def test_a_long_line_in_small_pieces_is_not_copied_for_each():
    """By pieces of a kilobyte, 16 MiB would be copied 16,384 times: minutes."""
    whole = b" " * (1 << 24) + b"{}"
    started = time.process_time()
    (found,) = itertools.chain(*lines(Chunks([whole[i : i + 1024] for i in range(0, len(whole), 1024)])))
    assert found == whole
    assert time.process_time() - started < 2


@pytest.mark.parametrize("cuts", [(), (1,), (2,), (3,), (4,)])
def test_a_byte_order_mark_is_no_part_of_the_first_line(cuts):
    text = b"\xef\xbb\xbf{}\n\xef\xbb\xbf"
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    assert list(itertools.chain(*lines(Chunks(pieces)))) == [b"{}", b"\xef\xbb\xbf"]
    assert list(lines(Chunks([b"\xef\xbb\xbf\n"]))) == []


def test_serve_answers_everything_and_more_rows_than_allowed_are_refused(monkeypatch):
    monkeypatch.setattr(json_lines, "MOST_ROWS", 2)
    said: list[str] = []
    text = b'{"sizes": {"N": [1, 2, 3], "B": 64}}\n\n  \n{"sizes": {"N": [1, 2], "B": 64}}'
    serve(io.BufferedReader(io.BytesIO(text)), said.append, ScoreStream("vector_add", "H100"))
    refused, answered = map(json.loads, "".join(said).splitlines())
    assert "3 configurations in one request, at most 2" in refused["error"]
    assert len(answered["seconds"]) == 2


def _started(*arguments):
    command = [sys.executable, "-m", "costmodel", "score", *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_caller_that_waits_for_each_answer_gets_it(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "from costmodel import kernel\nfrom costmodel.dtypes import f32\n\n@kernel\ndef own(k, *, N):\n"
        '    a = k.buffer("a", (N,), f32)\n    with k.blocks(N // 64) as b, k.threads(64) as t:\n        k.load(a[b * 64 + t])\n'
    )
    with _started(file, "--device", "H100") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for n in (1 << 12, 1 << 24):
            process.stdin.write(json.dumps({"id": n, "kernel": "own", "sizes": {"N": n}}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == n
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_caller_that_goes_away_leaves_no_traceback():
    with _started("--kernel", "vector_add", "--device", "H100") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        try:
            while process.poll() is None:
                process.stdin.write('{"sizes": {"N": 4096, "B": 64}}\n' * 1000)
                process.stdin.flush()
                time.sleep(0.05)
        except BrokenPipeError:
            pass
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--device", "H10"], "unknown GPU 'H10'"), ([Path("absent.py")], "absent.py: no such file")],
)
def test_mistakes_on_the_command_line_end_it(arguments, message):
    with _started(*arguments) as process:
        _, said = process.communicate("", 30)
    assert process.returncode == 2
    assert message in said


def test_closed_input_is_an_error_and_no_traceback():
    command = f"{shlex.quote(sys.executable)} -m costmodel score --device H100 <&-"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: costmodel score: standard input or output is closed")


def test_profiles_come_from_the_command_line_only(tmp_path):
    """One of the caller's own is the device where a request names none; a pipe that a request names is not opened."""
    own, pipe = tmp_path / "mine.yaml", tmp_path / "pipe.yaml"
    shipped = Path(__file__).parents[1] / "hardware_profiles" / "h100_sxm.yaml"
    own.write_text(shipped.read_text(encoding="utf-8").replace("name: h100_sxm", "name: mine"), encoding="utf-8")
    os.mkfifo(pipe)
    with _started("--kernel", "vector_add", "--device", own) as process:
        requests = [{"sizes": {"N": 4096, "B": 64}}, {"device": str(pipe), "sizes": {"N": 4096, "B": 64}}]
        said, _ = process.communicate("".join(json.dumps(r) + "\n" for r in requests), 60)
    priced, refused = map(strict, said.splitlines())
    assert priced["seconds"] == estimate(find_description("vector_add"), "H100", N=4096, B=64).seconds
    assert "a request cannot load files" in refused["error"]
