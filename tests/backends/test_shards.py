"""What several shards of a phase amount to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.errors import BackendError
from draftsmith.contract.job import JobResult
from draftsmith.phases.shards import merge_shards


def shard(rows: int, speed: float | None, passed: bool = True, **more: Any) -> JobResult:
    figures = {
        "rows": rows, "captured_rows": rows, "captured_tokens": 10 * rows, "capture_tokens_per_s": speed, "bytes": rows,
        "estimate_bytes": rows, "probe": {"passed": passed, "checks": [{"name": f"check of {rows}", "passed": passed}]},
    }  # fmt: skip
    return JobResult(ok=True, outputs={"states": "/s"}, figures=figures, wall_s=float(rows), **more)


def test_rows_and_speeds_add_up_and_the_slowest_decides_the_time() -> None:
    merged = merge_shards([(Path("shard-0000"), shard(3, 100.0)), (Path("shard-0001"), shard(5, None))])

    assert merged.outputs == {"states": "/s"}
    assert merged.wall_s == 5.0
    assert merged.figures["rows"] == 8
    assert merged.figures["captured_tokens"] == 80
    assert merged.figures["capture_tokens_per_s"] == 100.0
    assert merged.figures["probe"]["passed"] is True
    assert [check["name"] for check in merged.figures["probe"]["checks"]] == ["check of 3", "check of 5"]


def test_a_probe_that_failed_in_one_shard_failed() -> None:
    merged = merge_shards([(Path("a"), shard(3, 1.0)), (Path("b"), shard(5, 1.0, passed=False))])

    assert merged.figures["probe"]["passed"] is False


def test_all_captured_before_has_no_speed() -> None:
    assert merge_shards([(Path("a"), shard(3, None))]).figures["capture_tokens_per_s"] is None


@pytest.mark.parametrize("missing", [None, JobResult(ok=False, error="x")])
def test_a_shard_without_a_result_is_named(missing: JobResult | None) -> None:
    with pytest.raises(BackendError, match="shard-0001"):
        merge_shards([(Path("shard-0000"), shard(3, 1.0)), (Path("ws/shard-0001"), missing)])
