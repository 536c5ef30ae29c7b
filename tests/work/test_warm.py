"""What is looked at before anything counts."""

from __future__ import annotations

import pytest

from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import RequestSample, Trial
from draftsmith.work.compare.warm import steady


def trial(latency_s: float) -> Trial:
    return Trial(
        plan_sha256="x", trial_id="t", block=0, order=0, arm="a", point="c1", node="n", engine_start_id="s",
        started_unix_s=1.0, wall_s=1.0, peak_concurrency=1,
        samples=(RequestSample(prompt_id="p", output_tokens=8, ttft_s=0.5, latency_s=latency_s),),
    )  # fmt: skip


def test_passes_end_when_times_hold_still() -> None:
    times = iter([2.0, 1.0, 1.01, 9.0])
    assert len(steady(lambda: trial(0.5 + next(times)))) == 3


def test_a_server_that_sends_its_answer_in_one_piece_is_named() -> None:
    """Behind a proxy that buffers, first and last token come at once."""
    with pytest.raises(InputError, match="in one piece"):
        steady(lambda: trial(0.5))
