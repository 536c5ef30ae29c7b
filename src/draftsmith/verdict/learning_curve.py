"""Predict acceptance from training volume, using earlier runs of this target. Returns nothing without such runs. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from draftsmith.contract.plan import Acceptance, DraftRecord, Volume
from draftsmith.verdict.break_even import acceptance_length, length_at, per_token_for

NEAR = 2.0
"""One run speaks for volumes up to this factor from its own; a line for this factor beyond its ends."""
FACTORS = (0.5, 1.0, 2.0, 4.0)
MOST_PER_TOKEN = 0.99
CONFIDENCE = 0.95


def expect(records: Sequence[DraftRecord], answer_tokens: int, k: int) -> Acceptance:
    """Acceptance to expect from `answer_tokens` with K drafted tokens. Records of other traffic do not count.

    One run gives a point without spread. Several volumes give a line of the per-token chance over the logarithm of
    the volume; three or more runs give it an interval.
    """
    used = [r for r in records if r.same_traffic is not False and r.answer_tokens > 0]
    curve = _Curve(used, k)
    volumes = tuple(curve.at(round(answer_tokens * factor)) for factor in FACTORS)
    expected = curve.at(answer_tokens)
    if expected.acceptance_length is None:
        return Acceptance(volumes=volumes, records=tuple(records), sentence=_unknown(records, used, answer_tokens))
    nearest = min(used, key=lambda r: abs(math.log(r.answer_tokens / max(answer_tokens, 1))))
    scale = expected.acceptance_length
    known = nearest.by_position if len(curve.volumes) == 1 and nearest.by_position else curve.positions(answer_tokens)
    error = (
        (expected.high - expected.low) / 2 / scale if expected.low is not None and expected.high is not None else None
    )
    return Acceptance(
        k=k,
        by_position=tuple(known),
        relative_error=error,
        volumes=volumes,
        records=tuple(records),
        sentence=_known(used, expected, error, k),
    )


class _Curve:
    def __init__(self, records: Sequence[DraftRecord], k: int) -> None:
        self.records, self.k = records, k
        self.volumes = sorted({r.answer_tokens for r in records})
        self.chances = [per_token_for(min(r.acceptance_length, r.k + 1), r.k) or 0.0 for r in records]

    def at(self, answer_tokens: int) -> Volume:
        """One point; without figures where the records do not reach."""
        volume = Volume(answer_tokens=answer_tokens)
        if not self.volumes or not self.volumes[0] / NEAR <= answer_tokens <= self.volumes[-1] * NEAR:
            return volume
        if len(self.volumes) == 1:
            lengths = [length_at(r.by_position, self.k) if r.by_position else acceptance_length(p, self.k)
                       for r, p in zip(self.records, self.chances, strict=True)]  # fmt: skip
            middle = statistics.fmean(lengths)
            half = _half(lengths)
            return Volume(
                answer_tokens=answer_tokens,
                acceptance_length=middle,
                low=None if half is None else max(1.0, middle - half),
                high=None if half is None else min(self.k + 1.0, middle + half),
            )
        chance, half = self._line(answer_tokens)
        return Volume(
            answer_tokens=answer_tokens,
            acceptance_length=acceptance_length(chance, self.k),
            low=None if half is None else acceptance_length(max(0.0, chance - half), self.k),
            high=None if half is None else acceptance_length(min(MOST_PER_TOKEN, chance + half), self.k),
        )

    def positions(self, answer_tokens: int) -> list[float]:
        """Acceptance by position of the fitted chance."""
        chance = self._line(answer_tokens)[0] if len(self.volumes) > 1 else statistics.fmean(self.chances)
        return [chance**i for i in range(1, self.k + 1)]

    def _line(self, answer_tokens: int) -> tuple[float, float | None]:
        """Per-token chance and half its interval (of a new run); more traffic never expects less."""
        from scipy import special

        x = [math.log(r.answer_tokens) for r in self.records]
        mx, my, n = statistics.fmean(x), statistics.fmean(self.chances), len(x)
        sxx = sum((v - mx) ** 2 for v in x)
        slope = max(0.0, sum((v - mx) * (c - my) for v, c in zip(x, self.chances, strict=True)) / sxx)
        place = math.log(answer_tokens)
        value = min(MOST_PER_TOKEN, max(0.0, my + slope * (place - mx)))
        if n < 3:
            return value, None
        left = sum((c - my - slope * (v - mx)) ** 2 for v, c in zip(x, self.chances, strict=True))
        spread = math.sqrt(left / (n - 2) * (1 + 1 / n + (place - mx) ** 2 / sxx))
        return value, float(special.stdtrit(n - 2, (1 + CONFIDENCE) / 2)) * spread


def _half(values: Sequence[float]) -> float | None:
    """Half the interval of a new value beside these; None for one alone."""
    if len(values) < 2:
        return None
    from scipy import special

    n = len(values)
    return float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * statistics.stdev(values) * math.sqrt(1 + 1 / n)


def _unknown(records: Sequence[DraftRecord], used: Sequence[DraftRecord], answer_tokens: int) -> str:
    if not records:
        return "nothing is known of a draft on this traffic: no earlier run of this target has compared one"
    if not used:
        return f"nothing is known: the traffic of {len(records)} earlier run(s) of this target was other traffic"
    low, high = min(r.answer_tokens for r in used), max(r.answer_tokens for r in used)
    return (
        f"nothing is known for {answer_tokens:,} answer tokens: earlier runs had {low:,} to {high:,}, "
        f"which speaks for at most {NEAR:g} times less or more"
    )


def _known(used: Sequence[DraftRecord], volume: Volume, error: float | None, k: int) -> str:
    span = f" ({volume.low:.2f} to {volume.high:.2f})" if error is not None else ", spread not known"
    runs = "one earlier run" if len(used) == 1 else f"{len(used)} earlier runs"
    judged = "" if all(r.same_traffic for r in used) else "; whether their traffic is this one could not be judged"
    return f"AL {volume.acceptance_length:.2f} with K = {k}{span} from {volume.answer_tokens:,} answer tokens, by {runs}{judged}"
