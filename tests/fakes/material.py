"""Foreign material beside the repository: logs, folders and data that other tools wrote. Tests of it are skipped where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared(*steps: str) -> Path:
    """A path of the material. Skips the test (or, at import, the module) if it is not there."""
    place = SHARED.joinpath(*steps)
    if not place.exists():
        pytest.skip(f"no {'/'.join(('shared', *steps))} beside the repository", allow_module_level=True)
    return place
