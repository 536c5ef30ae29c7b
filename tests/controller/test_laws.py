"""Each law of the controller, a row at least: what is remembered and seen, and the one act that follows."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moments import AUTO, CHAMPION, DRAFT, NEXT, NOW, RUN, WON, live, memory, moment, rollout, traffic

from draftsmith.contract import control as c
from draftsmith.contract.policy import Policy
from draftsmith.controller.decide import LAWS, cooldown_s, decide
from draftsmith.controller.memory import act_of

DRIFTED = traffic(moved=3, drift="content classes moved")
FELL = live(acceptance_length=1.9, fell="acceptance fell")
BELOW = {"below": "acceptance length is 1.30", "below_s": 300.0, "below_requests": 200, "acceptance_length": 1.3}
ENDED = {"alive": False, "run_id": "r2", "why": "said the gate"}
PROPOSE = Policy(mode="propose")
HOUR = time.gmtime(NOW).tm_hour
PLAIN = memory(champion=CHAMPION.model_copy(update={"config": None}))
BACK = c.Fallback(since_unix_s=NOW - 7200, why="it did not pay", hold_s=1800)


def drifting(**changed: Any) -> c.Moment:
    return moment(traffic=DRIFTED, live=FELL, **changed)


# name, memory, policy, moment, kind of the act, and words of its reason
ROWS: list[tuple[str, c.Memory, Policy, c.Moment, str, str]] = [
    ("nothing", memory(), AUTO, moment(), "wait watching", "no drift"),
    # interrupted
    ("an intent is carried out again", memory(open={"kind": "promote", "run_id": "r2", "why": "x"}), AUTO, moment(), "promote", "x"),
    ("also while paused", memory(open={"kind": "take_back", "run_id": "r2", "why": "x"}, paused="p"), AUTO, moment(), "take_back", "x"),
    ("an act of another version", memory(open={"kind": "teleport"}), AUTO, moment(), "wait stuck", "another version"),
    # clock
    ("a clock that went back a day", memory(last_unix_s=NOW + 86400), AUTO, drifting(), "wait blind", "behind the journal"),
    ("a clock that jumped a day ahead", memory(), AUTO, drifting(jumped_s=86400), "wait blind", "+86400"),
    ("a clock that was corrected by a second", memory(), AUTO, moment(jumped_s=1.0), "wait watching", ""),
    # what serves
    ("an engine that went away", memory(), AUTO, drifting(amiss="an engine went away", can_shift=True), "repair", "went away"),
    ("also while paused", memory(paused="asleep"), AUTO, moment(amiss="the proxy is not there", can_shift=True), "repair", "proxy"),
    ("a new side that went away", memory(rollout=rollout()), AUTO, moment(amiss="an engine went away", can_shift=True), "take_back", "went away"),
    ("with pauses", memory(failures=9, retry_unix_s=NOW + 30, why="no memory"), AUTO, moment(amiss="an engine went away"), "wait stuck", "9 failures"),
    ("but for ever", memory(failures=9, retry_unix_s=NOW - 30), AUTO, moment(amiss="an engine went away"), "repair", ""),
    # pause, failures
    ("a pause", memory(paused="an operator sleeps"), AUTO, drifting(), "wait paused", "sleeps"),
    ("a failure is waited with", memory(failures=1, retry_unix_s=NOW + 30, why="no disk"), AUTO, drifting(), "wait stuck", "again"),
    ("a failure is tried again", memory(failures=1, retry_unix_s=NOW - 1), AUTO, drifting(), "start_run", ""),
    ("three failures wait for a person", memory(failures=3, why="no disk"), AUTO, drifting(), "wait stuck", "resume"),
    # standing
    ("the first look", memory(champion=None), AUTO, moment(), "adopt", "found standing: eagle3 K=3"),
    ("an operator promoted by hand", memory(), AUTO, moment(standing=NEXT), "adopt", "other hands"),
    ("and in the middle of a run", memory(run=RUN), AUTO, moment(standing=None), "adopt", "no speculation"),
    ("what stands cannot be read", memory(), AUTO, drifting(standing_known=False, standing=None), "wait blind", "standing"),
    # reasons to train
    ("drift", memory(), AUTO, drifting(), "start_run", "acceptance fell"),
    ("drift alone", memory(), AUTO, moment(traffic=DRIFTED, live=live(acceptance_length=2.0)), "start_run", "3 windows"),
    ("two windows are no drift", memory(), AUTO, moment(traffic=traffic(moved=2)), "wait watching", ""),
    ("drift that costs nothing", memory(), AUTO, moment(traffic=DRIFTED), "wait watching", "does not pay"),
    ("drift on a server that idles", memory(), AUTO, moment(traffic=DRIFTED, live=live(acceptance_length=2.0, busy_share=0.001)), "wait watching", "does not pay"),
    ("drift whose worth cannot be seen", memory(), AUTO, moment(traffic=DRIFTED, live=None), "start_run", "cannot be told"),
    ("acceptance fell", memory(), AUTO, moment(live=FELL), "start_run", "32% of decode time"),
    ("another target", memory(), AUTO, moment(target_sha256="u"), "start_run", "weights"),
    ("another engine", memory(), AUTO, moment(engine="vllm 2"), "start_run", "vllm 2 now and was vllm 1"),
    ("a target that could not be read", memory(), AUTO, moment(target_sha256=None), "wait watching", ""),
    ("age", memory(champion=CHAMPION.model_copy(update={"since_unix_s": NOW - 40 * 86400})), AUTO, moment(live=live(acceptance_length=2.5)), "start_run", "40 days"),
    ("a first draft", PLAIN, AUTO, moment(standing=None), "start_run", "no draft serves yet"),
    ("on request", memory(requested="an operator asked"), AUTO, moment(), "start_run", "asked"),
    # obstacles
    ("no traffic to be seen", memory(), AUTO, moment(traffic=None, live=FELL), "wait blind", "traffic could not be read"),
    ("few new requests", memory(), AUTO, moment(traffic=traffic(new=10), live=FELL), "wait watching", "only 10 of 300"),
    ("the same traffic", memory(tried=("1000:9",)), AUTO, drifting(), "wait watching", "tried already"),
    ("the same traffic, on request", memory(tried=("1000:9",), requested="please"), AUTO, moment(), "wait watching", "tried already"),
    ("a run of other hands", memory(), AUTO, drifting(other_run="theirs"), "wait running", "theirs"),
    ("a quiet hour", memory(), AUTO.model_copy(update={"quiet_hours": (HOUR, (HOUR + 1) % 24)}), drifting(), "wait cooling", "quiet"),
    ("no quiet hour", memory(), AUTO.model_copy(update={"quiet_hours": ((HOUR + 1) % 24, (HOUR + 2) % 24)}), drifting(), "start_run", ""),
    ("quiet over midnight", memory(), AUTO.model_copy(update={"quiet_hours": (HOUR, (HOUR + 23) % 24)}), drifting(), "wait cooling", "quiet"),
    ("a request passes a quiet hour", memory(requested="please"), AUTO.model_copy(update={"quiet_hours": (HOUR, (HOUR + 1) % 24)}), drifting(), "start_run", ""),
    ("cooling", memory(last_end_unix_s=NOW - 3600), AUTO, drifting(), "wait cooling", "5.0 hours to go"),
    ("cooled", memory(last_end_unix_s=NOW - 7 * 3600), AUTO, drifting(), "start_run", ""),
    ("cooling longer after a loss", memory(last_end_unix_s=NOW - 7 * 3600, in_vain=1), AUTO, drifting(), "wait cooling", "promoted nothing"),
    ("a request passes the pause", memory(last_end_unix_s=NOW - 60, requested="please"), AUTO, drifting(), "start_run", ""),
    ("the day's runs", memory(runs=(NOW - 9000, NOW - 8000), last_end_unix_s=NOW - 80000), AUTO, drifting(), "wait cooling", "2 runs"),
    ("a request does not pass the day's runs", memory(runs=(NOW - 9000, NOW - 8000), requested="please"), AUTO, drifting(), "wait cooling", "2 runs"),
    ("runs of yesterday count no more", memory(runs=(NOW - 90000, NOW - 88000)), AUTO, drifting(), "start_run", ""),
    ("the day's hours", memory(gpu_hours=((NOW - 9000, 23.5),)), AUTO, drifting(), "wait cooling", "23.5 of 24.0 GPU hours"),
    ("a full disk", memory(), AUTO, drifting(free_gib=1.0), "wait stuck", "1.0 GiB"),
    ("a disk that could not be looked at", memory(), AUTO, drifting(free_gib=None), "wait blind", "disk"),
    # propose
    ("a run is proposed", memory(), PROPOSE, drifting(), "propose", "acceptance fell"),
    ("a winner is proposed", memory(run=RUN.model_copy(update={"concluded": WON})), PROPOSE, moment(), "propose", "20 %"),
    ("a yes", memory(run=RUN.model_copy(update={"concluded": WON}), approved=("promote r2",)), PROPOSE, moment(), "promote", "20 %"),
    ("a yes to another run", memory(run=RUN.model_copy(update={"concluded": WON}), approved=("promote r1",)), PROPOSE, moment(), "propose", ""),
    ("a no", memory(run=RUN.model_copy(update={"concluded": WON}), declined=("promote r2",)), PROPOSE, moment(), "conclude", "declined"),
    # the run in hand
    ("a run at work", memory(run=RUN), AUTO, moment(run=c.RunSeen(alive=True, phase="train")), "wait running", "train"),
    ("a run that could not be seen", memory(run=RUN), AUTO, moment(run=c.RunSeen(alive=None)), "wait blind", "could not be seen"),
    ("a run nobody looked at", memory(run=RUN), AUTO, moment(run=None), "wait blind", "could not be seen"),
    ("a run that was lost goes on", memory(run=RUN), AUTO, moment(run=c.RunSeen(alive=False)), "start_run", "goes on"),
    ("a run that failed goes on", memory(run=RUN), AUTO, moment(run=c.RunSeen(outcome="failed", **ENDED)), "start_run", "said the gate"),
    ("not for ever", memory(run=RUN.model_copy(update={"attempt": 2, "failed": 2})), AUTO, moment(run=c.RunSeen(outcome="failed", **ENDED)), "conclude", "said"),
    ("a run that ended with its controller is no failure", memory(life=7, run=RUN.model_copy(update={"attempt": 9, "failed": 2})), AUTO, moment(run=c.RunSeen(alive=False)), "start_run", "ended with its controller"),
    ("a loss", memory(run=RUN), AUTO, moment(run=c.RunSeen(outcome="LOSS", tier="verdict", **ENDED)), "conclude", "said"),
    ("a win", memory(run=RUN), AUTO, moment(run=c.RunSeen(outcome="WIN", tier="verdict", config=NEXT, **ENDED)), "conclude", "said"),
    ("a winner, unmanaged", memory(run=RUN.model_copy(update={"concluded": WON})), AUTO, moment(), "promote", "20 %"),
    ("a winner, managed", memory(run=RUN.model_copy(update={"concluded": WON})), AUTO, moment(can_shift=True), "shift", "20 %"),
    ("a winner in a busy hour", memory(run=RUN.model_copy(update={"concluded": WON}), changes=(NOW - 9,) * 4), AUTO, moment(can_shift=True), "wait cooling", "too often"),
    # shares
    ("on to the next share", memory(rollout=rollout(25)), AUTO, moment(beside=live()), "shift", "guards held"),
    ("to the end", memory(rollout=rollout(100)), AUTO, moment(beside=live()), "promote", "all guards held"),
    ("not before its time", memory(rollout=rollout(since_unix_s=NOW - 5)), AUTO, moment(beside=live()), "wait promoting", "25 %"),
    ("not on few requests", memory(rollout=rollout()), AUTO, moment(live=live(requests=30), beside=live()), "wait promoting", "30 requests"),
    ("not without a look at the other side", memory(rollout=rollout()), AUTO, moment(beside=None), "wait promoting", ""),
    ("not on so few of the other side", memory(rollout=rollout()), AUTO, moment(beside=live(requests=3)), "wait promoting", ""),
    ("few requests are not enough whatever the policy says", memory(rollout=rollout()), AUTO.model_copy(update={"share_requests": 1}), moment(live=live(requests=9), beside=live()), "wait promoting", ""),
    ("not on figures that are missing", memory(rollout=rollout()), AUTO, moment(live=None, beside=live()), "wait blind", "stays at 25 %"),
    ("slower than beside it", memory(rollout=rollout()), AUTO, moment(live=live(tpot_s=0.03), beside=live()), "take_back", "30.0 ms, against 20.0 ms"),
    ("a little slower is within the margin", memory(rollout=rollout()), AUTO, moment(live=live(tpot_s=0.021), beside=live()), "shift", ""),
    ("a longer wait for the first token", memory(rollout=rollout()), AUTO, moment(live=live(ttft_s=0.4), beside=live()), "take_back", "first token"),
    ("errors", memory(rollout=rollout()), AUTO, moment(live=live(requests=90, failed=10), beside=live()), "take_back", "10.0% of requests failed"),
    ("errors on both sides", memory(rollout=rollout()), AUTO, moment(live=live(failed=40), beside=live(failed=40)), "shift", ""),
    ("below its own break-even", memory(rollout=rollout(), run=RUN.model_copy(update={"concluded": WON})), AUTO, moment(live=live(acceptance_length=1.5), beside=live()), "take_back", "pays from 1.70 on"),
    ("three requests trip nothing", memory(rollout=rollout()), AUTO, moment(live=live(requests=2, failed=3, tpot_s=1.0), beside=live()), "wait promoting", ""),
    ("a broken guard wakes nobody up", memory(rollout=rollout(), paused="asleep"), AUTO, moment(live=live(tpot_s=0.03), beside=live()), "take_back", ""),
    ("a share waits through a pause", memory(rollout=rollout(), paused="asleep"), AUTO, moment(beside=live()), "wait paused", ""),
    ("an operator switched meanwhile", memory(rollout=rollout()), AUTO, moment(standing=None, beside=live()), "take_back", "other hands"),
    # fallback
    ("it does not pay", memory(), AUTO, moment(live=live(**BELOW), can_shift=True), "fall_back", "300 s and 200 requests"),
    ("not long enough", memory(), AUTO, moment(live=live(**{**BELOW, "below_s": 60.0}), can_shift=True), "wait watching", ""),
    ("not on few requests", memory(), AUTO, moment(live=live(**{**BELOW, "below_requests": 5}), can_shift=True), "wait watching", ""),
    ("not on missing metrics", memory(), AUTO, moment(live=None, can_shift=True), "wait watching", ""),
    ("not twice", memory(fallback=BACK.model_copy(update={"since_unix_s": NOW - 60}), last_end_unix_s=NOW), AUTO, moment(live=live(**BELOW), can_shift=True), "wait cooling", ""),
    ("not where it is switched off", memory(), AUTO.model_copy(update={"fallback": False}), moment(live=live(**BELOW), can_shift=True), "wait watching", ""),
    ("not more often than agreed", memory(changes=(NOW - 10,) * 4), AUTO, moment(live=live(**BELOW), can_shift=True), "wait stuck", "4 changes"),
    ("changes of the hour before count no more", memory(changes=(NOW - 4000,) * 4), AUTO, moment(live=live(**BELOW), can_shift=True), "fall_back", ""),
    ("where nothing can be switched it says so", memory(), AUTO, moment(live=live(**BELOW)), "wait stuck", "cannot be switched from here"),
    ("a fallback is proposed", memory(), PROPOSE, moment(live=live(**BELOW), can_shift=True), "propose", ""),
    ("back on a small share, after the hold", memory(fallback=BACK), AUTO, moment(can_shift=True), "restore", "120 minutes"),
    ("no faster than beside it", memory(fallback=BACK, rollout=rollout(5, run_id=None, config=DRAFT, restoring=True)), AUTO, moment(live=live(tpot_s=0.0201), beside=live()), "take_back", "time per output token"),
    ("faster than beside it", memory(fallback=BACK, rollout=rollout(5, run_id=None, config=DRAFT, restoring=True)), AUTO, moment(live=live(tpot_s=0.015), beside=live()), "restore", "guards held"),
    ("all the way", memory(fallback=BACK, rollout=rollout(100, run_id=None, config=DRAFT, restoring=True)), AUTO, moment(live=live(tpot_s=0.015), beside=live()), "settle", "pays"),
    ("a fallback asks for a run", memory(fallback=c.Fallback(since_unix_s=NOW - 60, why="it did not pay", hold_s=1800)), AUTO, moment(), "start_run", "277.7 hours"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("_name", "remembered", "policy", "seen", "wanted", "words"), ROWS, ids=[row[0] for row in ROWS]
)
def test_law(_name: str, remembered: c.Memory, policy: Policy, seen: c.Moment, wanted: str, words: str) -> None:
    act = decide(remembered, policy, seen)
    found = f"wait {act.state}" if isinstance(act, c.Wait) else act.kind
    assert found == wanted, act
    assert words in act.why


def test_a_law_of_every_kind_and_an_act_of_every_kind_has_a_row() -> None:
    spoke: set[str] = set()
    for _, remembered, policy, seen, _, _ in ROWS:
        for law in LAWS:
            if law(remembered, policy, seen) is not None:
                spoke.add(law.__name__)
                break
    assert spoke == {law.__name__ for law in LAWS}
    kinds = {wanted.split()[0] for *_, wanted, _ in ROWS}
    assert kinds | {"hot_swap"} == {
        "wait", "start_run", "conclude", "propose", "shift", "take_back", "promote", "fall_back", "restore", "settle",
        "adopt", "repair", "hot_swap",
    }  # fmt: skip


def test_a_proposal_waits_for_its_answer() -> None:
    asked = decide(memory(), PROPOSE, drifting())
    assert isinstance(asked, c.Propose)
    waiting = memory(proposal=asked)
    act = decide(waiting, PROPOSE, drifting())
    assert isinstance(act, c.Wait)
    assert act.state == "waiting"
    assert decide(memory(approved=(asked.key,)), PROPOSE, drifting()).kind == "start_run"
    no = decide(memory(declined=(asked.key,)), PROPOSE, drifting())
    assert isinstance(no, c.Wait)
    assert "said no" in no.why


def test_the_pause_after_a_loss_grows_and_has_an_end() -> None:
    pauses = [cooldown_s(memory(in_vain=n), AUTO) for n in range(60)]
    assert pauses[:3] == [21600.0, 43200.0, 86400.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == AUTO.cooldown_most_s


def test_every_state_has_a_sentence() -> None:
    from typing import get_args

    assert set(c.STATE_SENTENCE) == set(get_args(c.ControllerState))


seen_or_not = st.sampled_from(
    [None, live(), live(**BELOW), FELL, live(requests=0, acceptance_length=None, tpot_s=None)]
)


@settings(max_examples=300, deadline=None)
@given(
    live=seen_or_not, beside=seen_or_not, run=st.sampled_from([None, c.RunSeen(alive=None), c.RunSeen(alive=True), c.RunSeen(alive=False, outcome="LOSS")]),
    traffic=st.sampled_from([None, traffic(), DRIFTED]), known=st.booleans(), can_shift=st.booleans(),
    hand=st.sampled_from([None, RUN, RUN.model_copy(update={"concluded": WON})]),
    rolling=st.sampled_from([None, rollout(5), rollout(100), rollout(5, restoring=True)]), back=st.sampled_from([None, BACK]),
    free=st.sampled_from([None, 0.0, 100.0]), mode=st.sampled_from([AUTO, PROPOSE]),
)  # fmt: skip
def test_what_is_not_seen_changes_nothing_that_serves(
    live: Any,
    beside: Any,
    run: Any,
    traffic: Any,
    known: bool,
    can_shift: bool,
    hand: Any,
    rolling: Any,
    back: Any,
    free: Any,
    mode: Policy,
) -> None:
    """Whatever else holds: without live figures no share grows, nothing falls back, and no share is taken back for them."""
    seen = moment(
        live=live, beside=beside, run=run, traffic=traffic, standing_known=known, can_shift=can_shift, free_gib=free
    )  # fmt: skip
    act = decide(memory(run=hand, rollout=rolling, fallback=back), mode, seen)
    assert act_of(act.model_dump(mode="json")) == act
    if live is None:
        assert act.kind not in ("fall_back", "take_back", "settle")
        if rolling is not None:
            assert act.kind == "wait"
    if mode is PROPOSE and rolling is None:
        assert act.kind not in ("start_run", "shift", "promote", "fall_back")
