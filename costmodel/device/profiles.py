"""Finds and reads the YAML profiles: `<folder>/<board>.yaml` over `<folder>/architectures/<name>.yaml`.

Folders, first one wins: those in `COSTMODEL_PROFILES` (separated as in `PATH`), then the shipped
one, which is `costmodel/_hardware_profiles` in a wheel and `hardware_profiles` in a checkout.
A name matches without regard to case, spaces, `_` and `-`. Files are read again when they change; the
shipped folder, which a search asks thousands of times a second, is looked at twice a second.
"""

from __future__ import annotations

import os
import re
import time
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from costmodel.device.citations import cited_figures, field_paths, figure_paths
from costmodel.device.complaints import refuse
from costmodel.device.model import Device
from costmodel.device.schema import build_device
from costmodel.device.strict_yaml import Plain, read_mapping
from costmodel.errors import ProfileError

__all__ = ["BOARD_ONLY", "architectures_give", "device_names", "find_device", "load_profile", "profile_folders"]

PROFILES_VARIABLE = "COSTMODEL_PROFILES"
BOARD_ONLY = ("name", "title", "aliases")
"""Fields that an architecture's file may not state."""
_PACKAGE = Path(__file__).resolve().parents[1]
_SHIPPED = (_PACKAGE / "_hardware_profiles", _PACKAGE.parent / "hardware_profiles")
_LOOKS_PER_S = 2


def find_device(name: str | Path) -> Device:
    """Return the GPU of a name, an alias, or the path of a profile.

    Args:
        name: such as `"V100"`, `"Tesla V100-PCIE-32GB"`, `"rtx_2070_super"` or `"boards/mine.yaml"`.

    Raises:
        ProfileError: no such GPU (with the closest names), or its profile is malformed.

    Example:
        >>> find_device("tesla v100 pcie 32gb").sm_count
        80
    """
    text = str(name)
    if isinstance(name, Path) or text.endswith((".yaml", ".yml")):
        return load_profile(Path(name))
    folders = profile_folders()
    key = _folded(text)
    for folder in folders:
        path = _catalogue(folder, _stamp(folder)).get(key)
        if path is not None:
            return load_profile(path)
    known = {k: p for f in reversed(folders) for k, p in _catalogue(f, _stamp(f)).items()}
    close = dict.fromkeys(known[k].stem for k in get_close_matches(key, known, n=5, cutoff=0.5))
    there = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(device_names())}."
    add = f"To add one, write <name>.yaml as {folders[-1] / 'README.md'} explains, and pass its path"
    raise ProfileError(f"unknown GPU {text!r}; {there} {add}")


def device_names() -> tuple[str, ...]:
    """Return the canonical names of all boards, sorted."""
    return tuple(sorted({path.stem for folder in profile_folders() for path in _boards(folder)}))


def load_profile(path: str | Path) -> Device:
    """Read one board profile and the architecture it names.

    The architecture is looked up in `architectures/` beside the board, then in each profile folder.

    Raises:
        ProfileError: a file is unreadable or malformed; one line for each mistake.
    """
    path = Path(path).absolute()
    folders = tuple(dict.fromkeys((path.parent, *profile_folders())))
    stamps = (_file_stamp(path), *(_stamp(folder / "architectures") for folder in folders))
    return _loaded(path, folders, stamps)


def profile_folders() -> tuple[Path, ...]:
    """Return the folders searched for boards, first one wins.

    Raises:
        ProfileError: a folder in `COSTMODEL_PROFILES` does not exist, or none is found.
    """
    own = [Path(p).absolute() for p in os.environ.get(PROFILES_VARIABLE, "").split(os.pathsep) if p]
    for folder in own:
        if not folder.is_dir():
            raise ProfileError(f"{PROFILES_VARIABLE}: {folder} is not a folder")
    shipped = [folder for folder in _SHIPPED if folder.is_dir()][:1]
    if not own and not shipped:
        places = " or ".join(map(str, _SHIPPED))
        raise ProfileError(f"no hardware profiles at {places}; set {PROFILES_VARIABLE}")
    return tuple(dict.fromkeys(own + shipped))


def architectures_give() -> frozenset[str]:
    """Return the paths of the fields that some shipped architecture gives, which a board may leave to it."""
    folder = profile_folders()[-1] / "architectures"
    return frozenset(p for path in sorted(folder.glob("*.yaml")) for p in field_paths(read_mapping(path, _shown(path))))


@lru_cache(maxsize=256)
def _loaded(path: Path, folders: tuple[Path, ...], _stamps: tuple[object, ...]) -> Device:
    """Read and merge a board and its architecture; `_stamps` only make the cache notice changes."""
    shown = _shown(path)
    board = read_mapping(path, shown)
    if board.get("name") != path.stem:
        raise ProfileError(f"{shown}: name: expected the file name {path.stem!r}, got {board.get('name')!r}")
    base_path = _architecture_file(board, shown, folders)
    base_shown = _shown(base_path)
    base = _architecture(base_path, base_shown)
    base_sources, base_mistakes = cited_figures(base, base_shown)
    sources, mistakes = cited_figures(board, shown)
    merged = _merged(base, board)
    figures = set(figure_paths({k: v for k, v in merged.items() if k != "sources"}))
    merged["sources"] = {k: v for k, v in (base_sources | sources).items() if k in figures}

    def owner(field: tuple[str, ...]) -> str:
        return base_shown if _states(base, field) and not _states(board, field) else shown

    device, wrong = build_device(merged, owner, f"; give it here or in {base_shown}")
    refuse([*wrong, *mistakes, *base_mistakes])
    assert device is not None
    return device


def _architecture_file(board: Plain, shown: str, folders: tuple[Path, ...]) -> Path:
    """Return the file of the architecture a board names."""
    wanted = board.get("architecture")
    files = {p.stem: p for f in reversed(folders) for p in sorted((f / "architectures").glob("*.yaml"))}
    if not isinstance(wanted, str) or wanted not in files:
        got = "nothing" if wanted is None else repr(wanted)
        raise ProfileError(f"{shown}: architecture: expected one of {', '.join(sorted(files))}, got {got}")
    return files[wanted]


def _architecture(path: Path, shown: str) -> Plain:
    """Read an architecture's file, which states no board."""
    data = read_mapping(path, shown)
    if data.get("architecture") != path.stem:
        got = data.get("architecture")
        raise ProfileError(f"{shown}: architecture: expected the file name {path.stem!r}, got {got!r}")
    for key in BOARD_ONLY:
        if key in data:
            raise ProfileError(f"{shown}: {key}: belongs in a board's profile, not in an architecture's")
    return data


def _merged(base: Plain, over: Plain) -> Plain:
    """Return `base` with the fields of `over` laid over it, group by group; an empty group clears one."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and value:
            result[key] = _merged(below, value)
        else:
            result[key] = value
    return result


def _states(data: Plain, field: tuple[str, ...]) -> bool:
    """Return whether a file states a field."""
    at: object = data
    for part in field:
        if not isinstance(at, dict) or part not in at:
            return False
        at = at[part]
    return True


@lru_cache(maxsize=16)
def _catalogue(folder: Path, _stamps: tuple[object, ...]) -> dict[str, Path]:
    """Return the board file of each folded name, title and alias of a folder."""
    found: dict[str, Path] = {}
    for path in _boards(folder):
        data = read_mapping(path, _shown(path))
        aliases = data.get("aliases")
        names = [path.stem, data.get("title"), *(aliases if isinstance(aliases, list) else ())]
        for name in (n for n in names if isinstance(n, str)):
            other = found.setdefault(_folded(name), path)
            if other != path:
                both = f"{name!r} also belongs to {_shown(other)} (keep one)"
                raise ProfileError(f"{_shown(path)}: aliases: {both}")
    return found


def _boards(folder: Path) -> list[Path]:
    """List the board files of a folder."""
    return sorted(folder.glob("*.yaml"))


def _folded(name: str) -> str:
    """Return a name without what does not matter in it."""
    return re.sub(r"[\s_-]", "", name).casefold()


def _shown(path: Path) -> str:
    """Return a file as messages name it: from its profile folder on."""
    start = path.parent.parent.parent if path.parent.name == "architectures" else path.parent.parent
    return path.relative_to(start).as_posix()


def _file_stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file does; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _stamp(folder: Path) -> tuple[object, ...]:
    """Return what changes when a YAML file of a folder does."""
    shipped = folder in _SHIPPED or folder.parent in _SHIPPED
    return _looked_at(folder, int(time.monotonic() * _LOOKS_PER_S)) if shipped else _states_of(folder)


@lru_cache(maxsize=8)
def _looked_at(folder: Path, _moment: int) -> tuple[object, ...]:
    """The same, once for each moment."""
    return _states_of(folder)


def _states_of(folder: Path) -> tuple[object, ...]:
    """Return name, time and size of each YAML file of a folder."""
    try:
        with os.scandir(folder) as entries:
            states = [(entry.name, entry.stat()) for entry in entries if entry.name.endswith(".yaml")]
    except OSError:
        return ()
    return tuple(sorted((name, state.st_mtime_ns, state.st_size) for name, state in states))
