"""The file lock between processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from draftsmith.kit.lock import held


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("draftsmith.kit.lock.fcntl.flock", refuse)
    with pytest.raises(OSError, match=r"no locks .*flock"), held(tmp_path / "lock"):
        pass
