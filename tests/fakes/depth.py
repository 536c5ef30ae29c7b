"""How many examples a property is tried on: enough to see a fault of today in `make check`, all of them at night.

DRAFTSMITH_DEEP=1 in the environment asks for all.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

SHARE = 1 if os.environ.get("DRAFTSMITH_DEEP") else 4


def examples(number: int, **others: Any) -> settings:
    """`number` examples in the deep profile, a quarter of them (at least ten) in the usual one."""
    return settings(max_examples=max(min(10, number), number // SHARE), deadline=None, **others)
