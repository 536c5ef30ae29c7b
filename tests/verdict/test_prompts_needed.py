"""How many prompts a claim needs, against campaigns that are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from draftsmith.contract.measure import Thresholds
from draftsmith.verdict.blocks import critical
from draftsmith.verdict.prompts_needed import Claims
from draftsmith.verdict.rule import LAST_SHARE, Rule


@pytest.mark.parametrize(("gain", "noise"), [(0.1, 0.02), (0.3, 0.1), (0.06, 0.0)])
def test_so_many_prompts_find_nine_gains_of_ten(gain: float, noise: float) -> None:
    claims = Claims(Thresholds(), noise=noise, block_prompts=8)
    prompts = claims.needed(gain)
    assert prompts
    rng = np.random.default_rng(0)
    error = math.sqrt((claims.spread**2 + 8 * noise**2) / prompts)
    rule = Rule.of(Thresholds())
    seen = rng.normal(math.log1p(gain), error, 20_000)
    found = (seen - critical(rule.alpha * LAST_SHARE, 0) * error > rule.bar).mean()
    assert found == pytest.approx(0.9, abs=0.02)
    assert claims.smallest(prompts) == pytest.approx(gain, rel=0.02)


def test_the_sentence_names_prompts_before_the_run() -> None:
    claims = Claims(Thresholds(), noise=0.02, block_prompts=8)
    said = claims.sentence(63, 0.06)
    assert said.startswith("63 different prompts can carry a claim from about ")
    assert f"one of 6 % needs about {claims.needed(0.06)}" in said
    assert "needs about" not in claims.sentence(10_000, 0.06)
    assert claims.needed(0.01) is None
