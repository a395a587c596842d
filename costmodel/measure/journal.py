"""What a sweep has done so far, as lines of JSON beside its output: safe against being killed at any moment.

The first line is the header: what is measured, on what, how, and what was predicted before. Each further line is one
configuration, its row or its counters; or a session, where a sweep went on. A line is one `write` to a file opened for
appending; what a kill cut off is dropped when the sweep goes on, and measured again. One sweep at a time holds the
file's lock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from costmodel.errors import MeasureError
from costmodel.measure.task import Row

__all__ = ["Journal", "journal_path"]

_SYNC_S = 1.0
"""A power cut costs at most the lines of this long; a kill costs none."""
Kind = Literal["row", "counters", "session"]


def journal_path(out: Path) -> Path:
    """Where the journal of an output lies."""
    return out.with_name(f"{out.name}.journal")


class Journal:
    """An open journal."""

    def __init__(self, path: Path, identity: Mapping[str, Any], header: Mapping[str, Any], *, restart: bool = False) -> None:
        """Begin a journal, or go on with the one that is there.

        Args:
            path: of the journal.
            identity: what must be the same for a sweep to go on.
            header: what else is written down when it begins.
            restart: throw away what is there.

        Raises:
            MeasureError: another sweep holds it, it belongs to another one, or it is damaged.
        """
        import fcntl  # not on Windows

        self.path = path
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self.file)
            raise MeasureError(f"{path}: another sweep is writing it; wait for it, or give another --out") from None
        try:
            self.lines: dict[Kind, dict[str, Row]] = {"row": {}, "counters": {}, "session": {}}
            self.synced_s = 0.0
            found = b"" if restart else self._whole_lines()
            if not found:
                os.ftruncate(self.file, 0)
                self.header: dict[str, Any] = {"identity": dict(identity), **header}
                self._write(self.header)
            else:
                self._read(found, identity)
            self.resumed = bool(found)
        except BaseException:
            os.close(self.file)
            raise

    @property
    def rows(self) -> dict[str, Row]:
        """Of each configuration that was measured, by its key, in the order of measuring."""
        return self.lines["row"]

    @property
    def counters(self) -> dict[str, Row]:
        """Of each configuration that was counted."""
        return self.lines["counters"]

    @property
    def sessions(self) -> dict[str, Row]:
        """When a sweep went on, and with which GPU."""
        return self.lines["session"]

    def add(self, kind: Kind, key: str, row: Row) -> None:
        """Write a configuration down."""
        self._write({"key": key, kind: row})
        self.lines[kind][key] = row

    def close(self) -> None:
        """Leave it to others."""
        os.fsync(self.file)
        os.close(self.file)

    def _write(self, value: Mapping[str, Any]) -> None:
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        written = os.write(self.file, line)
        if written != len(line):
            raise MeasureError(
                f"{self.path}: no room: {written} of {len(line)} bytes written; free some and go on with the sweep"
            )
        if time.monotonic() - self.synced_s > _SYNC_S:
            os.fsync(self.file)
            self.synced_s = time.monotonic()

    def _whole_lines(self) -> bytes:
        """Everything up to the last end of a line; the rest is cut off the file."""
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.ftruncate(self.file, len(whole))
        return whole

    def _read(self, found: bytes, identity: Mapping[str, Any]) -> None:
        for number, line in enumerate(found.splitlines(), 1):
            try:
                value = json.loads(line)
                if number == 1:
                    self.header = value
                    self._same(value["identity"], identity)
                    continue
                kind = next(kind for kind in self.lines if kind in value)
                self.lines[kind][value["key"]] = value[kind]
            except (ValueError, KeyError, TypeError, StopIteration):
                raise MeasureError(
                    f"{self.path}: line {number} is damaged: {line[:60].decode(errors='replace')!r}; "
                    "remove that line, or start anew with --restart"
                ) from None

    def _same(self, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        plain = json.loads(json.dumps(dict(now)))
        other = [
            f"{n} was {_short(begun.get(n))}, is {_short(plain.get(n))}"
            for n in {**begun, **plain}
            if begun.get(n) != plain.get(n)
        ]
        if other:
            raise MeasureError(
                f"{self.path}: begun by another sweep: {'; '.join(other)}. Start anew with --restart, or give another --out"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
