"""Programs of the system that tests here use: Debian's prometheus and chromium. `.ci/watching.sh` installs them."""

from __future__ import annotations

import shutil

import pytest


def needs(program: str) -> str:
    """Its path; the test is skipped, with the reason, where it is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed: .ci/watching.sh installs it where there is root and apt-get")
    return found
