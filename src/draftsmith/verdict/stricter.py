"""Thresholds against the defaults: which ones let more through."""

from __future__ import annotations

from collections.abc import Iterator

from draftsmith.contract.measure import Thresholds

# A smaller value asks for less.
AT_LEAST = ("min_gain", "confidence", "min_blocks", "lower_end_share", "general_share", "start_bound")
# A larger value allows more.
AT_MOST = (
    "p99_tpot_margin",
    "ttft_margin",
    "ttft_repaid_tokens",
    "throughput_margin",
    "error_rate_margin",
    "forgetting_margin",
    "client_server_tolerance",
    "false_promotion",
    "preemption_margin",
    "capacity_margin",
    "answers_margin",
)


def looser(thresholds: Thresholds) -> Iterator[str]:
    """`min_gain 0 (default 0.03)` for each threshold that is looser than the default."""
    default = Thresholds()
    for names, sign in ((AT_LEAST, 1), (AT_MOST, -1)):
        for name in names:
            value, usual = getattr(thresholds, name), getattr(default, name)
            if sign * value < sign * usual:
                yield f"{name} {value:g} (default {usual:g})"
