"""From trials and training records to the few numbers a plot or table shows. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from draftsmith.contract.measure import RequestSample, Trial

LENGTH_EDGES = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
FEWEST_IN_GROUP = 3


@dataclass(frozen=True)
class Spread:
    """Median of the block medians with a t interval over blocks (None with one block). Any positive unit."""

    value: float
    low: float | None
    high: float | None
    blocks: int


@dataclass(frozen=True)
class Accepted:
    """Acceptance length over some requests that drafted."""

    length: float
    requests: int


@dataclass(frozen=True)
class Epoch:
    """Validation after one epoch (0-based). `step` is the optimiser step it stands at, if known."""

    epoch: int
    step: float | None
    loss: float | None
    acceptance: tuple[float, ...]


@dataclass(frozen=True)
class Training:
    """`steps`: (optimiser step, loss, acceptance at position 0 or None), in order; `epochs` by number."""

    steps: tuple[tuple[float, float, float | None], ...]
    epochs: tuple[Epoch, ...]
    stopped: str | None = None


def tpots(trials: Iterable[Trial]) -> list[float]:
    """TPOT of every request that has one, in seconds."""
    return [value for trial in trials for sample in trial.samples if (value := sample.tpot_s) is not None]


def block_spread(trials: Iterable[Trial], confidence: float) -> Spread | None:
    """How one arm's median TPOT varies from block to block. The interval is taken on the log scale."""
    by_block: dict[int, list[float]] = {}
    for trial in trials:
        by_block.setdefault(trial.block, []).extend(tpots([trial]))
    medians = [statistics.median(values) for values in by_block.values() if values]
    if not medians:
        return None
    middle = statistics.median(medians)
    if len(medians) < 2:
        return Spread(middle, None, None, len(medians))
    from scipy import special  # scipy.stats says the same and takes a second to import

    logs = [math.log(value) for value in medians]
    width = float(special.stdtrit(len(logs) - 1, 0.5 + confidence / 2)) * statistics.stdev(logs) / math.sqrt(len(logs))
    mean = statistics.fmean(logs)
    return Spread(math.exp(mean), math.exp(mean - width), math.exp(mean + width), len(medians))


def accepted_by(trials: Iterable[Trial], group: Callable[[RequestSample], str | None]) -> dict[str, Accepted]:
    """Acceptance length by any grouping of requests; groups of fewer than three requests are left out."""
    drafts: dict[str, int] = {}
    taken: dict[str, int] = {}
    requests: dict[str, int] = {}
    for trial in trials:
        for sample in trial.samples:
            key = group(sample)
            if key is None or not sample.drafts:
                continue
            drafts[key] = drafts.get(key, 0) + sample.drafts
            taken[key] = taken.get(key, 0) + (sample.accepted_tokens or 0)
            requests[key] = requests.get(key, 0) + 1
    return {
        key: Accepted(1 + taken[key] / drafts[key], requests[key]) for key in drafts if requests[key] >= FEWEST_IN_GROUP
    }


def request_lengths(trials: Iterable[Trial]) -> list[float]:
    """Acceptance length of every request that drafted and whose server counted by request."""
    return [
        1 + (sample.accepted_tokens or 0) / sample.drafts
        for trial in trials
        for sample in trial.samples
        if sample.drafts
    ]


def bucket(tokens: int | None) -> str | None:
    """The length bucket of a token count, such as `64-127`."""
    if tokens is None:
        return None
    for low, high in pairwise(LENGTH_EDGES):
        if low <= tokens < high:
            return f"{low}–{high - 1}"
    return f"{LENGTH_EDGES[-1]}+"


def bucket_order(label: str) -> int:
    """For sorting labels of `bucket`."""
    return int(label.rstrip("+").split("–")[0])


def lengths(trials: Iterable[Trial]) -> tuple[float | None, float | None]:
    """Median input and output tokens of the requests that succeeded."""
    good = [sample for trial in trials for sample in trial.samples if sample.error is None]
    inputs = [s.prompt_tokens for s in good if s.prompt_tokens is not None]
    outputs = [s.output_tokens for s in good if s.output_tokens is not None]
    return (
        statistics.median(inputs) if inputs else None,
        statistics.median(outputs) if outputs else None,
    )


def training(records: Iterable[Mapping[str, Any]]) -> Training:
    """Read metric records as the trainer writes them. Unknown records and non-finite numbers are passed over."""
    steps: list[tuple[float, float, float | None]] = []
    last_step: dict[int, float] = {}
    epochs: dict[int, Epoch] = {}
    stopped = None
    for record in records:
        epoch = record.get("epoch")
        train, val = record.get("train"), record.get("val")
        if isinstance(train, Mapping) and (loss := _number(train.get("loss"))) is not None:
            step = _number(record.get("global_step"))
            place = float(len(steps)) if step is None else step
            steps.append((place, loss, _number(train.get("full_acc_0", train.get("position_0_acc")))))
            if isinstance(epoch, int):
                last_step[epoch] = place
        if isinstance(val, Mapping) and isinstance(epoch, int):
            epochs[epoch] = Epoch(epoch, last_step.get(epoch), _number(val.get("loss_epoch")), _positions(val))
        if isinstance(record.get("stopped"), Mapping):
            stopped = str(record["stopped"].get("reason", ""))
    return Training(tuple(steps), tuple(epochs[key] for key in sorted(epochs)), stopped)


def smooth(values: Sequence[float], width: int) -> list[float]:
    """Centred mean over `width` values; fewer at the ends."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    out = []
    for index in range(len(values)):
        low, high = max(0, index - width // 2), min(len(values), index + (width + 1) // 2)
        out.append((sums[high] - sums[low]) / (high - low))
    return out


def length_of(acceptance: Sequence[float]) -> float:
    """Acceptance length from the shares of drafts accepted at each position."""
    return 1 + sum(acceptance)


def conditional(acceptance: Sequence[float]) -> list[float]:
    """Share accepted at each position among drafts accepted up to the one before."""
    before = 1.0
    out = []
    for share in acceptance:
        out.append(share / before if before > 0 else 0.0)
        before = share
    return out


def _positions(val: Mapping[str, Any]) -> tuple[float, ...]:
    positions: list[float] = []
    while True:
        k = len(positions)
        value = _number(val.get(f"full_acc_{k}_epoch", val.get(f"position_{k}_acc_epoch")))
        if value is None:
            return tuple(positions)
        positions.append(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
