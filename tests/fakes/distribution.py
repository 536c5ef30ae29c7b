"""Which tests run on the same worker, where there are several."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

try:
    from xdist.scheduler import LoadScopeScheduling
except ImportError:  # one process then: nothing is scheduled
    LoadScopeScheduling = object

ROOT = Path(__file__).parents[2]
SLURM = re.compile(r"/test_slurm_(real|loop|command)\.py::|\[slurm\b")
ENGINE = re.compile(r"/test_real_(vllm|engine|hot_swap)\.py::|/test_engine_stories\.py::.*\[vllm\]")


@cache
def _shared(path: str) -> str | None:
    """What the tests of a file share that is made once for all of them: the travelled loop, or something of the file's own."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if "travelled: Travelled" in text:  # in two halves, neither much longer than the engine's tests
        return "travelled, then killed" if path.endswith("/test_killed.py") else "travelled"
    return path if 'scope="module"' in text or not ("mark.story" in text or "/loop/" in path) else None


def scope(nodeid: str) -> str:
    """The name of what runs on one worker, in order: all tests of the one Slurm, of the engine, of what is shared, or a story."""
    if SLURM.search(nodeid):
        return "slurm"
    if ENGINE.search(nodeid):
        return "engine"
    return _shared(nodeid.partition("::")[0]) or nodeid


class Together(LoadScopeScheduling):
    """xdist's distribution by scope, with ours."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)
