"""Why a number may only be called a draft."""

from __future__ import annotations

from typing import Any

import pytest
from campaign import C1, CANDIDATE, NGRAM, NO_SPEC, STANDING, World, plan_of

from draftsmith.contract.measure import Arm, EngineFacts, Trial
from draftsmith.verdict.decide import decide
from draftsmith.verdict.modes import MODE_FIELDS, mode_mismatch

FAST = {"standing": 0.045, "no-spec": 0.060, "tailored": 0.0265}


def only_reason(world: World, blocks: int = 3, **overrides: Any) -> str:
    decision = world.decide(blocks, **overrides)
    assert decision.tier == "draft"
    assert len(decision.tier_reasons) == 1, decision.tier_reasons
    return decision.tier_reasons[0]


def test_nothing_against_it_is_a_verdict() -> None:
    decision = World(plan_of(), FAST).decide(3)
    assert (decision.tier, decision.tier_reasons) == ("verdict", ())


def test_fewer_than_three_trials_stay_a_draft_even_if_the_plan_asks_for_two() -> None:
    decision = World(plan_of(min_blocks=2), FAST, block_noise=0.001).decide(2)
    assert decision.tier == "draft"
    assert "fewer than 3 valid trials of standing: 2" in decision.tier_reasons


def test_another_node() -> None:
    world = World(plan_of(), FAST, node=lambda arm, block: "node-b" if arm == "tailored" else "node-a")
    assert only_reason(world) == "measured on more than one node: node-a, node-b"


def test_unmatched_modes() -> None:
    reason = only_reason(World(plan_of(), FAST), tailored={"graph_mode": "PIECEWISE"})
    assert reason == "unmatched modes: graph_mode differs: not said on standing, PIECEWISE on tailored"


def test_a_start_of_which_the_engine_said_nothing() -> None:
    world = World(plan_of(), FAST)
    trials = world.trials(3)
    facts = [(arm, fact) for arm, fact in world.facts(trials) if fact.start_id != "tailored@1"]
    decision = decide(world.plan, trials, facts, samples_sha256="x")
    assert decision.tier_reasons == ("no engine facts for a server start of tailored",)


def test_arms_of_the_same_flags_must_say_the_same_of_their_settings() -> None:
    quiet = {"tensor_parallel_size": "1"}
    same = World(plan_of(), FAST).decide(
        3, **{name: {"settings": quiet} for name in ("standing", "tailored", "no_spec")}
    )
    assert (same.tier, same.tier_reasons) == ("verdict", ())
    other = {**quiet, "max_num_batched_tokens": "8192"}
    reason = only_reason(World(plan_of(), FAST), standing={"settings": quiet}, tailored={"settings": other})
    assert reason == "settings differ: max_num_batched_tokens is not said on standing, 8192 on tailored"
    on_trial = CANDIDATE.model_copy(update={"flags": ("--max-num-batched-tokens", "8192")})
    world = World(plan_of(STANDING, NO_SPEC, on_trial), FAST)
    assert world.decide(3, standing={"settings": quiet}, tailored={"settings": other}).tier == "verdict"


def test_an_eager_arm_by_its_log() -> None:
    decision = World(plan_of(), FAST).decide(3, tailored={"enforce_eager": True})
    assert decision.tier == "draft"
    assert "tailored runs in eager mode" in decision.tier_reasons


@pytest.mark.parametrize("where", [{"flags": ("--enforce-eager",)}, {"command": ("serve", "--enforce-eager=true")}])
def test_an_eager_baseline_by_its_flags_is_a_strawman(where: dict[str, Any]) -> None:
    plan = plan_of(STANDING.model_copy(update=where), NO_SPEC, CANDIDATE)
    assert only_reason(World(plan, FAST)) == "standing runs in eager mode"


def test_a_faster_arm_that_is_only_a_draft_does_not_push_out_a_verdict() -> None:
    plan = plan_of(STANDING, NO_SPEC, CANDIDATE, NGRAM.model_copy(update={"flags": ("--enforce-eager",)}))
    decision = World(plan, {**FAST, "ngram": 0.020}, acceptance=3.5).decide(3)
    assert (decision.outcome, decision.tier, decision.winner) == ("WIN", "verdict", "tailored")
    assert any(note.startswith("ngram looks faster still but is a WIN at tier draft only") for note in decision.notes)


@pytest.mark.parametrize(
    ("arms", "baseline", "words"),
    [
        ((Arm(name="old", role="other"), CANDIDATE), "old", "of role other"),
        ((STANDING, NO_SPEC, CANDIDATE), "no-spec", "not the standing configuration (standing)"),
    ],
)
def test_a_strawman_baseline(arms: tuple[Arm, ...], baseline: str, words: str) -> None:
    speeds = {**FAST, "old": 0.045}
    assert words in only_reason(World(plan_of(*arms, baseline=baseline), speeds))


def test_one_server_start_for_all_blocks_says_nothing_about_starts() -> None:
    world = World(plan_of(), FAST, restarts=False)
    assert "rest on 1 independent pair of server starts" in only_reason(world)


def test_a_declared_spread_between_starts_is_allowed_for() -> None:
    free = World(plan_of(), FAST, restarts=False).decide(3)
    world = World(plan_of(start_noise=0.05), FAST, restarts=False)
    decision = world.decide(3)
    assert (decision.outcome, decision.tier) == ("WIN", "verdict")
    low = {p.candidate: p.speedup.low for p in decision.pairs if p.speedup}
    unaware = {p.candidate: p.speedup.low for p in free.pairs if p.speedup}
    assert low["tailored"] < 0.9 * unaware["tailored"]


def test_a_small_gain_on_one_start_cannot_be_told_from_the_start() -> None:
    slightly = {**FAST, "tailored": 0.045 / 1.05}
    decision = World(plan_of(start_noise=0.05), slightly, restarts=False).decide(8)
    assert decision.winner is None


def test_an_arm_nobody_promotes_does_not_spoil_a_win() -> None:
    decision = World(plan_of(), FAST).decide(3, no_spec={"runner": "V1"})
    assert (decision.outcome, decision.tier) == ("WIN", "verdict")


def test_mode_fields_are_those_of_the_mode_key() -> None:
    told = {field: f"value of {field}" for field in MODE_FIELDS}
    fact = EngineFacts.model_construct(start_id="s", **told)
    assert fact.mode_key == tuple(told.values())


def test_two_starts_of_one_arm_may_differ_too() -> None:
    facts = {"standing": [EngineFacts(start_id="1", runner="V1"), EngineFacts(start_id="2", runner="V2")], "b": []}
    sentences = mode_mismatch(facts)
    assert sentences == ["the engine's log gave no facts on arm b", "runner differs: V1 and V2 on standing"]
    assert mode_mismatch({"a": [EngineFacts(start_id="1")], "b": [EngineFacts(start_id="2")]}) == []


def test_trials_at_another_point_do_not_count() -> None:
    other = C1.model_copy(update={"name": "c9", "primary": False})
    world = World(plan_of(points=(C1, other)), FAST)

    def drop(trial: Trial) -> bool:
        return trial.point == "c1" and trial.block > 1

    trials = [trial for trial in world.trials(4) if not drop(trial)]
    decision = decide(world.plan, trials, world.facts(trials), samples_sha256="x")
    assert decision.outcome == "INCONCLUSIVE"
    assert "fewer than 3 valid trials of tailored: 2" in decision.tier_reasons
