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
def _shares(path: str) -> bool:
    """Whether the tests of a file share what is made once for all of them."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return 'scope="module"' in text or not ("mark.story" in text or "/loop/" in path)


def scope(nodeid: str) -> str:
    """The name of what runs on one worker, in order: all tests of the one Slurm, all of the engine, a file, or a story."""
    if SLURM.search(nodeid):
        return "slurm"
    if ENGINE.search(nodeid):
        return "engine"
    path = nodeid.partition("::")[0]
    return path if _shares(path) else nodeid


class Together(LoadScopeScheduling):
    """xdist's distribution by scope, with ours."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)
