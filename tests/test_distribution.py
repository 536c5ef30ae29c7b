"""Which tests share a worker: what shares a server or a scheduler does, stories do not."""

from __future__ import annotations

import pytest
from distribution import scope


@pytest.mark.parametrize(
    ("nodeid", "where"),
    [
        ("tests/engines/test_real_vllm.py::test_a[x]", "engine"),
        ("tests/loop/test_real_engine.py::test_a", "engine"),
        ("tests/backends/test_slurm_loop.py::test_a", "slurm"),
        ("tests/backends/test_protocol.py::test_a[slurm]", "slurm"),
        ("tests/backends/test_protocol.py::test_a[local]", "tests/backends/test_protocol.py"),
        ("tests/backends/test_slurm_text.py::test_a[1]", "tests/backends/test_slurm_text.py"),
        ("tests/loop/test_killed.py::test_a[corpus]", "travelled, then killed"),
        ("tests/loop/test_refused.py::test_a", "travelled"),
        ("tests/loop/test_reuse.py::test_a", "travelled"),
        ("tests/loop/test_whole_loop.py::test_a[1]", "tests/loop/test_whole_loop.py::test_a[1]"),
        ("tests/work/test_compare.py::test_a", "tests/work/test_compare.py::test_a"),
        ("tests/lake/test_lake.py::test_a", "tests/lake/test_lake.py"),
    ],
)
def test_a_place_for_each(nodeid: str, where: str) -> None:
    assert scope(nodeid) == where
