"""How often an arm answers other than the baseline, against how often the baseline answers other than itself.

Greedy answers of a correct draft differ only where two tokens are nearly tied and the shape of a batch tips the balance.
That happens between two passes of one server too (A/A), so A/A is the measure. Reported, not judged.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from draftsmith.contract.measure import ComparisonPlan, RequestSample, Trial
from draftsmith.verdict.validate import base_arm

CHANCE = 0.01

Answers = dict[tuple[int, str], RequestSample]
"""The baseline's answers by block and prompt."""


@dataclass(frozen=True)
class Divergence:
    """`compared`: pairs of answers to one prompt in one block; `differing`: pairs whose token ids are not the same.

    `first`: median position (0-based) at which the differing answers leave the baseline's first answer, where recorded.
    `excess`: chance of so many differences if the arm differed no more often than A/A does; None without A/A.
    """

    arm: str
    point: str
    compared: int
    differing: int
    first: float | None
    excess: float | None = None

    @property
    def share(self) -> float:
        """Share of pairs that differ."""
        return self.differing / self.compared

    @property
    def beyond_noise(self) -> bool:
        """Whether equal servers would hardly differ so often."""
        return self.excess is not None and self.excess < CHANCE


def divergences(plan: ComparisonPlan, trials: Iterable[Trial]) -> tuple[Divergence, ...]:
    """Per point: the baseline against itself (arm `<baseline> (A/A)`), then every other arm. `trials`: valid ones.

    Answers without token ids are not compared; an arm without any pair is left out.
    """
    rows = list(trials)
    compared: list[Divergence] = []
    for point in plan.points:
        at_point = [trial for trial in rows if trial.point == point.name]
        base: Answers = {}
        for trial in at_point:
            if trial.traffic == "own" and trial.arm == plan.baseline:
                base |= {(trial.block, s.prompt_id): s for s in trial.samples if _hashed(s)}
        twins = [t for t in at_point if t.traffic == "aa" and base_arm(t.arm) == plan.baseline]
        itself = _between(f"{plan.baseline} (A/A)", point.name, base, twins)
        compared += [itself] if itself else []
        for arm in plan.arms:
            if arm.name == plan.baseline:
                continue
            other = [t for t in at_point if t.traffic == "own" and t.arm == arm.name]
            if pair := _between(arm.name, point.name, base, other):
                compared.append(_judged(pair, itself))
    return tuple(compared)


def sentence(divergence: Divergence) -> str:
    """`3 of 72 answers differ, first at token 41 (median)`."""
    where = f", first at token {divergence.first:.0f} (median)" if divergence.first is not None else ""
    more = "; more than equal servers differ here" if divergence.beyond_noise else ""
    return f"{divergence.differing} of {divergence.compared} answers differ{where}{more}"


def _between(name: str, point: str, base: Answers, others: Sequence[Trial]) -> Divergence | None:
    compared, firsts, differing = 0, [], 0
    for trial in others:
        for sample in trial.samples:
            other = base.get((trial.block, sample.prompt_id))
            if not _hashed(sample) or other is None:
                continue
            compared += 1
            if sample.output_sha256 != other.output_sha256:
                differing += 1
                if sample.first_divergence_hint is not None:
                    firsts.append(sample.first_divergence_hint)
    if not compared:
        return None
    return Divergence(name, point, compared, differing, statistics.median(firsts) if firsts else None)


def _judged(pair: Divergence, itself: Divergence | None) -> Divergence:
    if itself is None:
        return pair
    chance = _at_least(pair.differing, pair.compared, itself.differing, itself.compared)
    return Divergence(pair.arm, pair.point, pair.compared, pair.differing, pair.first, chance)


def _at_least(seen: int, of: int, other_seen: int, other_of: int) -> float:
    """Fisher's exact test, one-sided: chance that `seen` or more of all differences fall on the first group."""
    total, marked = of + other_of, seen + other_seen
    ways = math.comb(total, marked)
    top = min(of, marked)
    return sum(math.comb(of, k) * math.comb(other_of, marked - k) for k in range(seen, top + 1)) / ways


def _hashed(sample: RequestSample) -> bool:
    return sample.error is None and sample.output_sha256 is not None
