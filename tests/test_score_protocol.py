"""`PROTOCOL.md` and the JSON Schemas: what they say of `costmodel score` is so."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from costmodel import estimate, kernel
from costmodel.adapters import json_lines, score_schema
from costmodel.adapters.json_lines import ScoreStream
from costmodel.cost import description_names, find_description
from costmodel.dtypes import f32
from costmodel.errors import DescriptionError
from costmodel.ir import ceil_div, from_json, to_json
from tests.test_score import BAD

PAGE = Path(json_lines.__file__).with_name("PROTOCOL.md").read_text(encoding="utf-8")
SCHEMA = score_schema.line_schema()


def of(definition: str) -> Draft7Validator:
    return Draft7Validator({**SCHEMA, "anyOf": [{"$ref": f"#/definitions/{definition}"}]})


REQUEST, KERNEL = of("request"), of("kernel")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


def close(given: Any, shown: Any) -> bool:
    """Whether an answer is as the page shows it, its times to three digits."""
    if isinstance(shown, float):
        return isinstance(given, float) and abs(given - shown) <= 0.01 * shown
    if isinstance(shown, list):
        return isinstance(given, list) and len(given) == len(shown) and all(map(close, given, shown))
    return bool(given == shown)


def test_the_page_shows_what_is_answered():
    (dialogue,) = blocks("text")
    asked = [line[2:] for line in dialogue.splitlines() if line.startswith("> ")]
    shown = [json.loads(line[2:]) for line in dialogue.splitlines() if line.startswith("< ")]
    assert len(asked) == len(shown) >= 5
    assert all(REQUEST.is_valid(json.loads(line)) for line in asked)
    for line, expected in zip(ScoreStream().answers([line.encode() for line in asked]), shown, strict=True):
        answer = json.loads(line)
        assert list(answer) == list(expected), f"PROTOCOL.md should say {line}"
        assert all(close(answer[key], expected[key]) for key in expected), f"PROTOCOL.md should say {line}"


@kernel
def axpy(k, *, N, B):
    x, y = k.buffer("x", (N,), f32, read_only=True), k.buffer("y", (N,), f32)
    k.require(B % 32 == 0)
    with k.blocks(ceil_div(N, B)) as b, k.threads(B) as t, k.when(b * B + t < N):
        k.do("y += a x", loads=[x[b * B + t], y[b * B + t]], stores=y[b * B + t], work=k.fma(f32))


def test_the_kernel_of_the_page_is_the_one_it_says():
    (text,) = blocks("json")
    ir = json.loads(text)
    KERNEL.validate(ir)
    stream = ScoreStream(device="H100")
    sizes = [{"N": n, "B": b} for n, b in ((1 << 26, 256), ((1 << 24) + 7, 512), (1 << 20, 100))]
    lines = [{"define": "mine", "ir": ir}, *({"kernel": "mine", "sizes": s} for s in sizes)]
    defined, *answers = (json.loads(a) for a in stream.answers([json.dumps(line).encode() for line in lines]))
    assert defined == {"defined": "mine", "arguments": ["N", "B"]}
    assert [a["seconds"] for a in answers[:2]] == [estimate(axpy, "H100", **s).seconds for s in sizes[:2]]
    assert answers[2] == {"seconds": None, "reason": "requires B % 32 == 0", "modelled": False}


def test_the_client_of_the_page_runs(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    (tmp_path / "client.js").write_text(blocks("js")[0], encoding="utf-8")
    program = tmp_path / "costmodel"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m costmodel "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    said = subprocess.run(
        [node, str(tmp_path / "client.js")], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120
    )
    assert (said.returncode, said.stderr) == (0, "")
    timed = json.loads(said.stdout)
    assert {t["B"] for t in timed} == {32, 64, 128, 256, 512, 1024}
    assert [t["seconds"] for t in timed] == sorted(
        estimate(find_description("vector_add"), "H100", N=1 << 26, B=b).seconds for b in (32, 64, 128, 256, 512, 1024)
    )


def test_the_schema_is_printed():
    said = subprocess.run([sys.executable, "-m", "costmodel", "score", "--schema"], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == SCHEMA
    Draft7Validator.check_schema(SCHEMA)


def test_the_page_names_every_key_and_limit():
    keys = {key for part in ("request", "answer") for key in _properties(part)}
    assert {"seconds", "spilled", "modelled", "ir"} <= keys
    assert {key for key in keys if f"`{key}`" not in PAGE and f"`{key}:" not in PAGE} == set()
    for limit in (score_schema.MOST_ROWS, score_schema.MOST_KERNELS):
        assert f"{limit:,}" in PAGE
    assert f"{score_schema.LONGEST_LINE_BYTES >> 20} MiB" in PAGE


def _properties(definition: str) -> set[str]:
    parts = [part["$ref"].split("/")[-1] for part in SCHEMA["definitions"][definition]["oneOf"]]
    return {key for part in parts for key in SCHEMA["definitions"][part]["properties"]}


ONLY_THE_READER = ("equally long", "1 values where another", "without registers", "id: expected", "must be")
"""Parts of messages about what the schema cannot say."""


@pytest.mark.parametrize(("line", "kind", "message"), BAD, ids=[b.decode(errors="replace") for b, *_ in BAD])
def test_the_schema_refuses_bad_requests_and_only_those(line, kind, message):
    """Form, that is: names and values are for the model."""
    try:
        given = json.loads(line, parse_constant=int)  # of NaN: a ValueError, since it is no JSON
    except ValueError:
        assert kind == "BadRequest"
        return
    if any(part in message for part in ONLY_THE_READER):
        return
    assert REQUEST.is_valid(given) == (kind in ("Size", "Profile") or ("ir" not in given and kind == "Description"))


def _traced(name: str) -> dict[str, Any] | None:
    description = find_description(name)
    try:
        document: dict[str, Any] = json.loads(to_json(description.trace()))
    except DescriptionError:
        return None
    return document


def test_shipped_kernels_are_as_the_schema_says():
    documents = [d for d in map(_traced, description_names()) if d is not None]
    assert len(documents) > 20
    for document in documents:
        KERNEL.validate(document)


DOCUMENT = json.loads(to_json(axpy.trace()))
DOCUMENT["body"][0]["body"][0]["body"].insert(0, {"barrier": True})


def _paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(p for key, value in items for p in _paths(value, (*path, key)))]


VALUES: list[Any] = [
    None,
    True,
    0,
    1,
    3,
    -1,
    1.5,
    "",
    "x",
    "N",
    "serial",
    "shared",
    "f64",
    [],
    {},
    ["N"],
    {"barrier": True},
    {"loop": "i"},
]


@given(st.sampled_from([p for p in _paths(DOCUMENT) if p]), st.sampled_from(VALUES), st.booleans())
def test_what_the_schema_refuses_of_a_kernel_is_refused(path, value, surplus):
    document = copy.deepcopy(DOCUMENT)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    if surplus and isinstance(parent, dict):
        parent["surplus"] = value
    parent[path[-1]] = copy.deepcopy(value)
    try:
        read = from_json(json.dumps(document))
    except DescriptionError:
        return
    assert KERNEL.is_valid(document)
    KERNEL.validate(json.loads(to_json(read)))
