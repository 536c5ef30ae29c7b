"""What tier `verdict` promises beside the times: the same model, answers, clocks and caches, and a lossless verification."""

from __future__ import annotations

import pytest
from bundle_world import plan, trial

from draftsmith.contract.measure import Arm, Trial
from draftsmith.verdict.conditions import conditions, lossy, out_of_order
from draftsmith.verdict.stricter import looser


def candidate(**said: object) -> Arm:
    return Arm.model_validate({"name": "new", "role": "candidate"} | said)


def world(**changes: object) -> list[Trial]:
    found = []
    for block in range(3):
        for arm in ("standing", "tailored"):
            one = trial(plan(), arm, block, 0.04)
            samples = [
                s.model_copy(update={"output_sha256": f"{s.prompt_id}-x", "cached_tokens": 0}) for s in one.samples
            ]
            if arm == "tailored" and "answers" in changes:
                samples = [s.model_copy(update={"output_sha256": f"{s.prompt_id}-y"}) for s in samples]
            if arm == "tailored" and "cached" in changes:
                samples = [s.model_copy(update={"cached_tokens": s.prompt_tokens}) for s in samples]
            clock = 1980.0 if arm == "tailored" or "clock" not in changes else 900.0
            one = one.model_copy(update={"samples": tuple(samples), "hardware": {"gpu_sm_clock_mhz": clock}})
            found.append(one)
            if arm == "standing":
                twin = trial(plan(), arm, block, 0.04).model_copy(update={"arm": "standing#b", "traffic": "aa"})
                same = tuple(s.model_copy(update={"output_sha256": f"{s.prompt_id}-x"}) for s in twin.samples)
                found.append(twin.model_copy(update={"samples": same}))
    return found


@pytest.mark.parametrize(
    ("arm", "word"),
    [
        (candidate(spec_config={"method": "eagle3", "rejection_sample_method": "fly"}), "fly"),
        (candidate(spec_config={"method": "eagle3", "rejection_sample_method": "synthetic"}), "synthetic"),
        (
            candidate(command=("vllm", "serve", "m", "--speculative-config", '{"rejection_sample_method": "fly"}')),
            "fly",
        ),
        (candidate(flags=("--speculative-accept-threshold-single=0.9",)), "threshold-single 0.9"),
        (
            candidate(command=("python", "-m", "sglang", "--speculative-accept-threshold-acc", "0.8")),
            "threshold-acc 0.8",
        ),
        (candidate(spec_config={"method": "medusa", "posterior_threshold": 0.09}), "posterior-threshold"),
    ],
)
def test_lossy_verification_is_named(arm: Arm, word: str) -> None:
    [sentence] = lossy(arm)
    assert sentence.startswith("lossy verification: new")
    assert word in sentence


@pytest.mark.parametrize(
    "arm",
    [
        candidate(spec_config={"method": "eagle3", "rejection_sample_method": "block"}),
        candidate(spec_config={"method": "eagle3", "rejection_sample_method": "strict"}),
        candidate(flags=("--speculative-accept-threshold-single", "1.0", "--max-num-seqs", "8")),
        candidate(),
    ],
)
def test_lossless_verification_is_not(arm: Arm) -> None:
    assert list(lossy(arm)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("answers", "answers something else"),
        ("cached", "the prefix cache was not the same"),
        ("clock", "900 MHz for standing"),
    ],
)
def test_arms_that_were_not_served_alike_are_named(change: str, said: str) -> None:
    assert conditions(plan(), plan().arms, world()) == ()
    [sentence] = conditions(plan(), plan().arms, world(**{change: True}))
    assert said in sentence


def test_whole_commands_that_serve_other_models_are_named() -> None:
    arms = [
        Arm(name="standing", role="standing", command=("vllm", "serve", "large")),
        Arm(name="tailored", role="candidate", command=("python", "-m", "sglang", "--model-path=small")),
    ]
    assert conditions(plan(), arms, []) == ("not the same model: standing serves large, tailored serves small",)


def test_blocks_have_to_come_in_their_order() -> None:
    trials = [trial(plan(), "standing", block, 0.04) for block in range(3)]
    assert out_of_order(trials) == []
    late = [t.model_copy(update={"started_unix_s": t.started_unix_s - 3600 * t.block}) for t in trials]
    assert len(out_of_order(late)) == 2


def test_answers_that_may_differ_more_are_a_looser_threshold() -> None:
    limits = plan().thresholds.model_copy(update={"answers_margin": 0.9})
    assert list(looser(limits)) == ["answers_margin 0.9 (default 0.5)"]
