"""The JSON Schemas of profiles are those of the models, accept all that is shipped, and refuse what the loader refuses."""

from __future__ import annotations

import json
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from costmodel.device import load_profile, profile_schemas
from costmodel.device.schema import field_names, field_text
from costmodel.errors import ProfileError

SHIPPED = Path(__file__).resolve().parents[1] / "hardware_profiles"
BOARD, ARCHITECTURE = "board.schema.json", "architectures/architecture.schema.json"
FILES = [*sorted(SHIPPED.glob("*.yaml")), *sorted((SHIPPED / "architectures").glob("*.yaml"))]


def kind(path: Path) -> str:
    return ARCHITECTURE if path.parent.name == "architectures" else BOARD


@lru_cache(maxsize=2)
def made(schema: str) -> dict[str, Any]:
    return profile_schemas()[schema]


def complaints(path: Path, schema: str) -> list[str]:
    """Paths and messages of what the schema refuses in a file."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = Draft7Validator(made(schema)).iter_errors(data)
    return [".".join([*map(str, error.path), error.message]) for error in found]


@pytest.mark.parametrize("name", [BOARD, ARCHITECTURE])
def test_committed_schema_is_up_to_date(name: str) -> None:
    committed = json.loads((SHIPPED / name).read_text(encoding="utf-8"))
    assert committed == made(name), "run: costmodel devices --schema hardware_profiles"
    Draft7Validator.check_schema(committed)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_file_names_its_schema_and_fits_it(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == SHIPPED / kind(path)
    assert complaints(path, kind(path)) == []


def test_every_field_is_described_with_its_unit() -> None:
    properties = made(BOARD)["properties"]
    assert list(properties) == [n for n in field_names() if n in properties]
    assert set(properties) == set(field_names())
    for name in field_names():
        for inner in field_names((name,)):
            assert properties[name]["properties"][inner]["description"].startswith(field_text((name, inner)))
    assert properties["dram"]["properties"]["latency_cycles"]["description"].endswith("[cycles]")
    assert properties["dram"]["properties"]["achievable_fraction"]["maximum"] == 1


MISTAKES: dict[str, tuple[str, str, str]] = {
    "number as text": ("bandwidth_bytes_per_s: 900.0e+9", "bandwidth_bytes_per_s: 9e11", "dram.bandwidth_bytes_per_s"),
    "number with a unit": ("boost_hz: 1380.0e+6", "boost_hz: 1380 MHz", "clock.boost_hz"),
    "quoted whole number": ("sm_count: 80", "sm_count: '80'", "sm_count"),
    "half an SM": ("sm_count: 80", "sm_count: 80.5", "sm_count"),
    "a flag": ("sm_count: 80", "sm_count: yes", "sm_count"),
    "nothing": ("sm_count: 80", "sm_count:", "sm_count"),
    "zero": ("sm_count: 80", "sm_count: 0", "sm_count"),
    "negative": ("bandwidth_bytes_per_s: 900.0e+9", "bandwidth_bytes_per_s: -1.0", "dram.bandwidth_bytes_per_s"),
    "above one": ("achievable_fraction: 0.962", "achievable_fraction: 96.2", "dram.achievable_fraction"),
    "unknown field": ("sm_count: 80", "sm_count: 80\nsms: 80", "sms"),
    "unknown field of a group": ("  boost_hz: ", "  boots_hz: 1.0\n  boost_hz: ", "clock"),
    "missing field": ("  boost_hz: 1380.0e+6\n", "", "clock"),
    "missing whole number": ("sm_count: 80\n", "", "sm_count"),
    "missing aliases": ("aliases:\n", "alias:\n", "aliases"),
    "alias as a number": ("  - V100\n", "  - 680\n", "aliases.0"),
    "list for a group": ("sources:", "l1: [1]\nsources:", "l1"),
    "unknown matrix input": ("sources:", "throughput:\n  matrix_fma: {fp15: 1.0}\nsources:", "throughput.matrix_fma"),
    "vendor": ("sources:", "vendor: Nvidia\nsources:", "vendor"),
    "capability as a number": ("sources:", "compute_capability: 7.0\nsources:", "compute_capability"),
    "source of no field": ("sources:", "sources:\n  drams: datasheet", "sources"),
    "empty source": ("sources:", "sources:\n  dram.latency_cycles: ''", "sources"),
}


@pytest.fixture
def board(tmp_path: Path) -> Path:
    (tmp_path / "architectures").mkdir()
    shutil.copy(SHIPPED / "architectures" / "volta.yaml", tmp_path / "architectures")
    return Path(shutil.copy(SHIPPED / "v100_pcie.yaml", tmp_path))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_schema_and_loader_refuse_the_same(board: Path, mistake: str) -> None:
    assert complaints(board, BOARD) == []
    load_profile(board)
    old, new, place = MISTAKES[mistake]
    text = board.read_text(encoding="utf-8")
    assert old in text
    board.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert any(place in complaint for complaint in complaints(board, BOARD))
    with pytest.raises(ProfileError, match=place.replace(".", r"\.")):
        load_profile(board)


def test_a_board_states_only_what_differs_and_an_architecture_no_board(tmp_path: Path) -> None:
    board: dict[str, Any] = yaml.safe_load((SHIPPED / "v100_pcie.yaml").read_text(encoding="utf-8"))
    validator = Draft7Validator(made(BOARD))
    assert validator.is_valid(board)
    assert "limits" not in board
    assert validator.is_valid(board | {"throughput": {"matrix_fma": {}}})
    assert not validator.is_valid({k: v for k, v in board.items() if k != "sources"})
    architecture = yaml.safe_load((SHIPPED / "architectures" / "volta.yaml").read_text(encoding="utf-8"))
    validator = Draft7Validator(made(ARCHITECTURE))
    assert validator.is_valid(architecture)
    assert validator.is_valid({k: v for k, v in architecture.items() if k != "limits"})
    assert not validator.is_valid(architecture | {"title": "Volta"})
