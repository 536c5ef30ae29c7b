"""What a plan measures with: prompts of the profile's lengths without its text, pairs of trials, and the time of a step."""

from __future__ import annotations

from typing import Any

import pytest

from draftsmith.contract.errors import EngineError
from draftsmith.contract.measure import RequestSample, SpecCounters, Trial
from draftsmith.contract.profile import BenchShape
from draftsmith.work.plan.bench import PLAIN, samples, step_s, usable
from draftsmith.work.plan.forecast import design
from draftsmith.work.plan.prompts import plan_prompts

SHAPES = (BenchShape(name="json", isl=180, osl=35, weight=0.7), BenchShape(name="chat", isl=5000, osl=900, weight=0.3))


def trial(
    arm: str,
    block: int,
    tpot_s: float,
    *,
    point: str = "c1",
    tokens: int = 31,
    steps: int | None = None,
    **changed: Any,
) -> Trial:
    one = RequestSample(prompt_id="p", output_tokens=tokens, ttft_s=0.1, latency_s=0.1 + tpot_s * (tokens - 1))
    drafted = steps is not None
    counters = SpecCounters(
        present=drafted,
        drafts=steps or 0,
        generation_tokens=tokens,
        requests=1,
        decode_steps=steps if drafted else tokens - 1,
    )
    values: dict[str, Any] = {
        "plan_sha256": "m", "trial_id": f"{point}/{block}/{arm}", "block": block, "order": 0, "arm": arm, "point": point,
        "node": "n", "engine_start_id": "s", "started_unix_s": 0.0, "wall_s": 1.0, "peak_concurrency": 1,
        "samples": (one,), "counters": counters,
    }  # fmt: skip
    return Trial(**(values | changed))


def test_prompts_have_the_profiles_lengths_in_its_proportions_and_fit_the_context() -> None:
    prompts = plan_prompts(SHAPES, 5, 64, 49152, 2048)
    assert len(prompts) == 10
    assert [p.content_class for p in prompts].count("json") == 7
    for prompt in prompts:
        ids = prompt.prompt_token_ids or []
        assert len(ids) + prompt.max_tokens < 2048
        assert all(0 <= token < 49152 for token in ids)
        assert prompt.messages is None
    assert {p.max_tokens for p in prompts} == {35, 64}
    assert prompts == plan_prompts(SHAPES, 5, 64, 49152, 2048), "the same for every server and every start"


def test_prompts_repeat_a_phrase_so_that_lookup_finds_something() -> None:
    ids = plan_prompts(SHAPES, 1, 64, 49152, 2048)[0].prompt_token_ids or []
    assert ids[:24] == ids[24:48]
    assert len(set(ids)) > 12


def test_a_tiny_vocabulary_still_gives_prompts() -> None:
    assert all(p.prompt_token_ids for p in plan_prompts(SHAPES, 1, 8, 40, 256))


def test_a_step_takes_the_time_of_its_tokens() -> None:
    assert step_s(trial(PLAIN, 0, 0.030)) == pytest.approx(0.030)
    assert step_s(trial("draft-k3", 0, 0.015, tokens=31, steps=12)) == pytest.approx(0.015 * 30 / 12)


def test_pairs_become_samples_and_an_unpaired_trial_none() -> None:
    arms = design([1, 3], "draft", "engine", ngram=False)
    trials = [
        trial(PLAIN, 0, 0.030), trial("draft-k1", 0, 0.020, steps=20), trial(PLAIN, 1, 0.031),
        trial(PLAIN, 2, 0.029), trial("draft-k3", 2, 0.015, steps=12), trial("draft-k3", 3, 0.015, steps=12),
    ]  # fmt: skip
    found = samples(trials, arms, repeats=2)
    assert [(s.arm, s.k, s.repeat) for s in found] == [("draft-k1", 1, 0), ("draft-k3", 3, 0)]
    assert found[0].ratio == pytest.approx(0.020 * 1.5 / 0.030)
    assert found[1].plain_step_s == pytest.approx(0.029)


def test_a_trial_with_failed_requests_is_refused_with_a_next_step() -> None:
    failed = RequestSample(prompt_id="p", error="timeout")
    with pytest.raises(EngineError, match="timeout") as refused:
        usable(trial("draft-k1", 0, 0.02, samples=(failed,)))
    assert "finished points are kept" in refused.value.next_step


def test_the_design_asks_for_lengths_that_do_not_rise_with_k_alone() -> None:
    arms = design([1, 3, 5], "folder", "worker", ngram=True)
    assert [arm.name for arm in arms] == ["draft-k1", "draft-k3", "draft-k5", "ngram-k3"]
    shares = [((arm.asked_al or 0) - 1) / arm.k for arm in arms[:3]]
    assert shares[0] > shares[1] < shares[2]
    assert all(arm.spec_config["rejection_sample_method"] == "synthetic" for arm in arms[:3])
    assert "--worker-extension-cls" in arms[0].flags
    assert arms[3].flags == ()
    assert "rejection_sample_method" not in arms[3].spec_config, "n-gram is measured as it is"
    assert design([1], "folder", "engine", ngram=False)[0].flags == ()
