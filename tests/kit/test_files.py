"""Lines in a file that grows while the disk fills up and processes are killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from draftsmith.kit import files


def test_a_line_that_the_disk_takes_in_parts_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
    files.append_line(tmp_path / "log", "one line of some length")
    with files.LineLog(tmp_path / "log") as log:
        log.add("and another")
    assert list(files.read_lines(tmp_path / "log")) == ["one line of some length", "and another"]


def test_a_disk_that_is_full_is_an_error_and_the_torn_line_can_be_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    files.append_line(path, "whole \u2028 line")
    write, room = os.write, [4]

    def last_bytes(handle: int, data: bytes) -> int:
        if not room:
            raise OSError(28, "No space left on device")
        return write(handle, data[: room.pop()])

    with monkeypatch.context() as full:
        full.setattr(os, "write", last_bytes)
        with pytest.raises(OSError, match="No space"):
            files.append_line(path, "this one does not fit")
    assert path.read_bytes().endswith(b"this")
    files.cut_torn_line(path)
    files.append_line(path, "after it")
    assert list(files.read_lines(path)) == ["whole \u2028 line", "after it"]
    files.cut_torn_line(path)
    files.cut_torn_line(tmp_path / "nowhere")
    assert len(list(files.read_lines(path))) == 2
