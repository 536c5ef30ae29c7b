"""How many different prompts a claim needs, before anything is measured. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from draftsmith.contract.measure import Thresholds
from draftsmith.verdict.blocks import critical
from draftsmith.verdict.rule import LAST_SHARE, Rule

USUAL_SPREAD = 0.25
"""Spread over prompts of the log ratio of two drafts, where no comparison has shown it."""
MISSED = 0.1  # of true gains of that size


@dataclass(frozen=True)
class Claims:
    """What prompts can carry. `spread`: over prompts, `noise`: of one block, both sd of a log ratio."""

    limits: Thresholds
    noise: float
    block_prompts: int
    spread: float = USUAL_SPREAD

    def needed(self, gain: float) -> int | None:
        """Different prompts for a true gain (a fraction) to be found in nine of ten; None if it is below the bar."""
        rule = Rule.of(self.limits)
        above = math.log1p(gain) - rule.bar
        return math.ceil((self._errors(rule) / above) ** 2 * self._variance) if above > 0 else None

    def smallest(self, prompts: int) -> float:
        """The smallest true gain (a fraction) that so many different prompts can carry."""
        rule = Rule.of(self.limits)
        log = rule.bar + self._errors(rule) * math.sqrt(self._variance / max(1, prompts))
        return math.expm1(max(rule.claim, log))

    @property
    def _variance(self) -> float:
        """Of one prompt's log ratio, with its part of a block's noise."""
        return self.spread**2 + self.block_prompts * self.noise**2

    def _errors(self, rule: Rule) -> float:
        """Standard errors between the bar and a gain that is found in nine of ten, at the last look."""
        return critical(rule.alpha * LAST_SHARE, 0) + critical(MISSED, 0)

    def sentence(self, held_out: int, gain: float) -> str:
        """For the operator: what the held-out prompts can carry, and what a gain would need."""
        carried = f"{held_out} different prompts can carry a claim from about {100 * self.smallest(held_out):.2g} %"
        needed = self.needed(gain)
        more = f"; one of {100 * gain:.2g} % needs about {needed}" if needed and needed > held_out else ""
        return f"{carried}{more} (if drafts differ by {100 * self.spread:.0f} % from prompt to prompt)"
