"""What is reported beside the verdict: divergence, a schedule of K, open loops, arms that are not ours."""

from __future__ import annotations

from typing import Any

import pytest
from campaign import C1, CANDIDATE, PROMPTS, STANDING, World, plan_of

from draftsmith.contract.measure import Arm, ComparisonPlan, OperatingPoint, Trial
from draftsmith.verdict.arms import has_draft, says_speculation, speculation
from draftsmith.verdict.divergence import divergences, sentence
from draftsmith.verdict.schedule import propose, schedule_sentence, scheduled_config
from draftsmith.verdict.validate import valid_trials

K2 = CANDIDATE.model_copy(
    update={"name": "tailored-k2", "spec_config": {"method": "eagle3", "model": "draft", "num_speculative_tokens": 2}}
)
OFF = Arm(name="off", role="standing")
LOADS = (C1, OperatingPoint(name="c4", concurrency=4), OperatingPoint(name="c16", concurrency=16))


class ByLoad(World):
    """A world whose arms have another speed at every load."""

    speeds: dict[tuple[str, str], float]

    def trial(self, point: OperatingPoint, block: int, order: int, arm: str, traffic: str) -> Trial:
        self.tpot = {name: self.speeds[name, point.name] for name in {a.name for a in self.plan.arms}}
        return super().trial(point, block, order, arm, traffic)


def by_load(speeds: dict[str, tuple[float, float, float]], *arms: Arm, **changed: Any) -> ByLoad:
    plan = plan_of(*arms, baseline=arms[0].name, points=LOADS)
    world = ByLoad(plan, {}, **changed)
    world.speeds = {(arm, p.name): times[i] for arm, times in speeds.items() for i, p in enumerate(LOADS)}
    return world


def test_k_follows_the_load_where_the_winner_changes_with_it() -> None:
    world = by_load(
        {"off": (0.045, 0.048, 0.070), "tailored": (0.026, 0.036, 0.085), "tailored-k2": (0.030, 0.031, 0.080)},
        OFF, CANDIDATE, K2,
    )  # fmt: skip
    decision = world.decide(4)
    assert propose(world.plan, decision) == [[1, 3, 3], [4, 15, 2], [16, 16, 0]]
    config = scheduled_config(world.plan, decision)
    assert config is not None
    assert config["num_speculative_tokens"] == 3
    assert config["num_speculative_tokens_per_batch_size"] == [[1, 3, 3], [4, 15, 2], [16, 16, 0]]
    words = schedule_sentence(world.plan, decision)
    assert words is not None
    assert "1 to 3: K=3, 4 to 15: K=2, 16: off" in words


def test_no_schedule_where_one_length_is_best_or_nothing_is_known_of_it() -> None:
    same = by_load({"off": (0.045, 0.048, 0.07), "tailored": (0.026, 0.03, 0.04)}, OFF, CANDIDATE)
    assert propose(same.plan, same.decide(3)) == []
    assert scheduled_config(same.plan, same.decide(3)) is None
    running = CANDIDATE.model_copy(update={"spec_config": None, "endpoint": "http://127.0.0.1:1"})
    unknown = by_load({"off": (0.045, 0.048, 0.07), "tailored": (0.026, 0.06, 0.09)}, OFF, running)
    assert propose(unknown.plan, unknown.decide(3)) == []


def answering(differ: dict[str, int]) -> Any:
    """`differ`: arm -> how many of its answers are not the baseline's, from token 17 on."""

    def change(trial: Trial) -> Trial:
        many = differ.get(trial.arm, 0)
        samples = [
            s.model_copy(
                update={
                    "output_sha256": f"{s.prompt_id}-{trial.arm if i < many else 'same'}",
                    "first_divergence_hint": 17 if i < many else None,
                }
            )
            for i, s in enumerate(trial.samples)
        ]
        return trial.model_copy(update={"samples": tuple(samples)})

    return change


FAST = {"standing": 0.045, "no-spec": 0.060, "tailored": 0.0265}


def test_divergence_is_measured_by_how_much_equal_servers_differ() -> None:
    world = World(plan_of(), FAST, aa=True, change=answering({"tailored": 12, "standing#a": 1, "no-spec": 1}))
    found = {one.arm: one for one in divergences(world.plan, valid_trials(world.plan, world.trials(3))[0])}
    assert {name: (one.differing, one.compared) for name, one in found.items()} == {
        "standing (A/A)": (3, 6 * PROMPTS),
        "no-spec": (3, 3 * PROMPTS),
        "tailored": (36, 3 * PROMPTS),
    }
    assert found["tailored"].beyond_noise
    assert not found["no-spec"].beyond_noise
    assert sentence(found["tailored"]) == (
        "36 of 72 answers differ, first at token 17 (median); more than equal servers differ here"
    )


def test_answers_without_token_ids_are_not_compared() -> None:
    world = World(plan_of(), FAST, aa=True)
    assert divergences(world.plan, world.trials(2)) == ()


RECORDED = OperatingPoint(
    name="recorded", concurrency=1, arrivals_s=tuple(2.0 * i for i in range(PROMPTS)), primary=True
)


def open_loop(slack_s: float) -> World:
    """Requests two seconds apart; the trial lasts until the last is answered, and `slack_s` longer."""

    def change(trial: Trial) -> Trial:
        return trial.model_copy(
            update={"wall_s": 2.0 * PROMPTS + slack_s, "peak_concurrency": 2 if trial.arm != "tailored" else 1}
        )

    return World(plan_of(points=(RECORDED,)), FAST, change=change)


def test_in_an_open_loop_waiting_is_no_stall_and_a_short_queue_no_loss() -> None:
    decision = open_loop(3.0).decide(3)
    assert not [note for note in decision.notes if "set aside" in note]
    [pair] = [p for p in decision.pairs if p.candidate == "tailored"]
    capacity = next(g for g in pair.guards if g.name == "capacity")
    assert capacity.passed
    assert "open loop: not judged" in capacity.sentence


def test_a_client_that_slept_is_still_found_in_an_open_loop() -> None:
    notes = [note for note in open_loop(400.0).decide(3).notes if "set aside" in note]
    assert notes
    assert all("the client stalled" in note for note in notes)


def test_a_running_server_can_win_at_tier_draft_only() -> None:
    running = CANDIDATE.model_copy(update={"spec_config": None, "endpoint": "http://127.0.0.1:1"})
    decision = World(plan_of(STANDING, running), FAST).decide(4)
    assert (decision.outcome, decision.tier) == ("WIN", "draft")
    assert any("tailored is a server that was running already" in reason for reason in decision.tier_reasons)


def test_a_flag_on_trial_needs_no_draft_to_win() -> None:
    """Without speculation there is no acceptance length that could contradict a gain."""
    flag = Arm(name="tailored", role="candidate", flags=("--max-num-batched-tokens", "8192"))
    decision = World(plan_of(OFF, flag, baseline="off"), {"off": 0.045, "tailored": 0.03}).decide(3)
    assert decision.outcome == "WIN"
    assert {g.name for p in decision.pairs for g in p.guards} >= {"p99_tpot", "ttft"}
    assert "forgetting" not in {g.name for p in decision.pairs for g in p.guards}, "nothing was trained"


@pytest.mark.parametrize(
    ("arm", "says", "draft"),
    [
        (CANDIDATE, True, True),
        (OFF, False, False),
        (Arm(name="n", role="other", spec_config={"method": "ngram"}), True, False),
        (Arm(name="e", role="other", endpoint="http://x"), None, True),
        (Arm(name="c", role="other", command=("vllm", "serve", "m")), False, False),
        (Arm(name="c", role="other", command=("vllm", "serve", "m", "-sc", '{"method": "ngram"}')), True, False),
        (Arm(name="c", role="other", command=("s", '--speculative-config={"method": "eagle3"}')), True, True),
        (Arm(name="c", role="other", command=("s", "--spec-method", "suffix")), True, False),
        (Arm(name="c", role="other", command=("s", "--speculative-config", "{broken")), True, True),
    ],
)
def test_what_an_arm_says_of_itself(arm: Arm, says: bool | None, draft: bool) -> None:
    assert says_speculation(arm) is says
    assert has_draft(arm) is draft
    assert speculation(arm) is None or says


def test_an_older_plan_keeps_its_hash() -> None:
    """New settings have defaults that the hash leaves out."""
    plan = plan_of()
    old = plan.model_dump(mode="json", by_alias=True)
    for name in ("resident", "sampling_seen"):
        old.pop(name)
    for arm in old["arms"]:
        arm.pop("env")
    for point in old["points"]:
        point.pop("arrivals_s")
    from draftsmith.contract.base import digest

    assert digest(ComparisonPlan.model_validate(old)) == digest(plan)
