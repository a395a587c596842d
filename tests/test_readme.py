"""What the documents say is run: every Python block, every command, every name and link."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import costmodel
from costmodel.cli import app, main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "hardware_profiles").glob("*.md"), *(ROOT / "validation").rglob("*.md"))
    if path.name != "LICENSE"
]
COMMANDS = ("devices", "estimate", "measure", "probe", "rank", "score", "validate")


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def command(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run one command line and return what it prints."""
    monkeypatch.setattr(sys, "argv", ["costmodel", *line.split()])
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, line
    return out.getvalue()


def test_every_python_block_of_the_readme_runs(tmp_path, monkeypatch):
    """In order, as one file: descriptions are traced from their source."""
    found = blocks(README)
    assert len(found) >= 3
    path = tmp_path / "readme.py"
    path.write_text("\n".join(found), encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "readme", "__file__": str(path)}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
    text = out.getvalue()
    assert "transpose on " in text
    assert "bound by" in text
    assert namespace["padded"].seconds < namespace["plain"].seconds
    assert len(namespace["scores"].table) == 4


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.name != "README.md" or d.parent != ROOT], ids=str)
def test_python_blocks_of_other_documents_compile(document):
    for block in blocks(document.read_text(encoding="utf-8")):
        compile(block, str(document), "exec")


def test_the_demo_of_the_makefile_prints_the_breakdown_and_the_best_tiles(monkeypatch):
    makefile = (ROOT / "Makefile").read_text()
    variables = dict(re.findall(r"^(\w+) [?:]?= (.*)$", makefile, re.M))
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", makefile, re.M)
    assert recipe
    lines = [re.sub(r"\$\((\w+)\)", lambda m: variables.get(m[1], m[0]), line) for line in recipe[1].splitlines()]
    ran = [line.partition("/costmodel ")[2] for line in lines if "/costmodel " in line]
    assert ran
    printed = "".join(command(line, monkeypatch) for line in ran)
    assert "gemm on " in printed
    assert "occupancy" in printed
    assert re.search(r"^ 1 +\d+", printed, re.M)


def test_every_command_in_the_documents_exists(monkeypatch):
    shown = command("", monkeypatch)
    assert all(re.search(rf"^  {name} ", shown, re.M) for name in COMMANDS)
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for name in re.findall(r"`costmodel (\w+)", text) + re.findall(r"^\$? ?costmodel (\w+)", text, re.M):
            assert name in COMMANDS, f"{document.name}: costmodel {name}"
        for options in re.findall(r"costmodel \w+[^`\n]*", text):
            for option in re.findall(r" (--[a-z-]+)", options):
                assert option in _options(), option


def _options() -> set[str]:
    """Every option of every command."""
    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    return {"--help"} | {option for command in commands for parameter in command.params for option in parameter.opts}


def test_every_make_target_in_the_documents_exists():
    targets = set(re.findall(r"^([a-z]+):(?!=)", (ROOT / "Makefile").read_text(), re.M))
    for document in DOCUMENTS:
        for target in re.findall(r"`make ([a-z]+)`", document.read_text(encoding="utf-8")):
            assert target in targets, f"{document.name}: make {target}"


def test_every_link_and_path_in_the_documents_leads_somewhere():
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#]+)", text):
            assert link.startswith("http") or (document.parent / link).exists(), f"{document.name}: {link}"
        for path in re.findall(r"`((?:costmodel|tests|validation|hardware_profiles)/[\w/.]+)`", text):
            assert (ROOT / path).exists() or "_hardware_profiles" in path or "_descriptions" in path, f"{document.name}: {path}"


def test_the_readme_sets_up_with_exactly_two_commands():
    section = README.partition("## Two commands")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(.*?)` \|", section, re.M) == ["make demo", "make test"]


def test_names_in_the_readme_resolve():
    for name in re.findall(r"from costmodel import (.*)", README):
        for part in name.split(","):
            assert hasattr(costmodel, part.strip())
    for device in re.findall(r'estimate\(\w+, "([^"]+)"', README):
        assert costmodel.find_device(device)
