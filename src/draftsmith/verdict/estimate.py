"""From trials to per-block log ratios. The block is the unit; prompts inside it are paired, never counted as samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from draftsmith.contract.measure import RequestSample, Trial
from draftsmith.verdict.blocks import BlockLog

Cell = tuple[Trial, ...]
Metric = Callable[[RequestSample], float | None]

MIN_SHARED_PROMPTS = 0.5


def tpot(sample: RequestSample) -> float | None:
    """Seconds per output token after the first."""
    return sample.tpot_s


def ttft(sample: RequestSample) -> float | None:
    """Seconds to the first token, of a request that succeeded."""
    return None if sample.error else sample.ttft_s


def cells(trials: Iterable[Trial], point: str, traffic: str) -> dict[str, dict[int, Cell]]:
    """Trials of one point and kind of traffic as {arm: {block: trials in order}}."""
    table: dict[str, dict[int, list[Trial]]] = {}
    for trial in trials:
        if trial.point == point and trial.traffic == traffic:
            table.setdefault(trial.arm, {}).setdefault(trial.block, []).append(trial)
    return {
        arm: {
            block: tuple(sorted(result, key=lambda t: (t.order, t.trial_id))) for block, result in sorted(rows.items())
        }
        for arm, rows in table.items()
    }


def by_prompt(cell: Cell, metric: Metric) -> dict[str, float]:
    """Mean of a metric per prompt over the trials of one cell (an arm may run twice in a block)."""
    seen: dict[str, list[float]] = {}
    for trial in cell:
        for sample in trial.samples:
            value = metric(sample)
            if value is not None:
                seen.setdefault(sample.prompt_id, []).append(value)
    return {prompt: sum(values) / len(values) for prompt, values in seen.items()}


def starts_of(*several: Cell) -> tuple[str, ...]:
    """Distinct server starts behind some cells."""
    return tuple(sorted({trial.engine_start_id for cell in several for trial in cell}))


def paired_log(slow: Cell, fast: Cell, metric: Metric, quantile: float = 0.5) -> float | None:
    """log(quantile in `slow` / quantile in `fast`) over the prompts that both have; None with too few of them."""
    left, right = by_prompt(slow, metric), by_prompt(fast, metric)
    shared = sorted(left.keys() & right.keys())
    if not shared or len(shared) < MIN_SHARED_PROMPTS * max(len(left), len(right)):
        return None
    top = quantile_of([left[p] for p in shared], quantile)
    bottom = quantile_of([right[p] for p in shared], quantile)
    return math.log(top / bottom) if top > 0 and bottom > 0 else None


def block_logs(
    slow: Mapping[int, Cell], fast: Mapping[int, Cell], measure: Callable[[Cell, Cell], float | None]
) -> list[BlockLog]:
    """One log ratio per block in which both arms have a usable value, in block order."""
    logs = []
    for block in sorted(slow.keys() & fast.keys()):
        value = measure(slow[block], fast[block])
        if value is not None and math.isfinite(value):
            logs.append(BlockLog(block, value, starts_of(slow[block], fast[block])))
    return logs


def tpot_logs(slow: Mapping[int, Cell], fast: Mapping[int, Cell]) -> list[BlockLog]:
    """The primary estimate: per block, log(median TPOT of `slow` / median TPOT of `fast`), paired by prompt."""
    return block_logs(slow, fast, lambda a, b: paired_log(a, b, tpot))


def values(trials: Iterable[Trial], metric: Metric) -> list[float]:
    """All defined values of a metric over some trials."""
    numbers = (metric(sample) for trial in trials for sample in trial.samples)
    return [value for value in numbers if value is not None]


def quantile_of(numbers: Sequence[float], q: float) -> float:
    """Linear-interpolated quantile of a non-empty sequence."""
    if q == 0.5:
        return statistics.median(numbers)
    ordered = sorted(numbers)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def rounded(value: float | None, digits: int = 9) -> float | None:
    """To significant digits, so that a recomputed verdict is equal in text on another machine."""
    if value is None or not math.isfinite(value) or value == 0:
        return value
    return float(f"{value:.{digits}g}")
