"""samples.jsonl names neither a client's request id nor a hash of an answer that can be tried."""

from __future__ import annotations

import hashlib
from pathlib import Path

from draftsmith.contract.base import canonical
from draftsmith.contract.measure import Arm, ComparisonPlan, OperatingPoint, RequestSample, Trial
from draftsmith.work.compare.ledger import Ledger

YES = hashlib.sha256(canonical([9642]).encode()).hexdigest()[:16]


def plan() -> ComparisonPlan:
    return ComparisonPlan(
        arms=(Arm(name="a", role="standing"), Arm(name="b", role="candidate")),
        baseline="a",
        points=(OperatingPoint(name="c1", concurrency=1, primary=True),),
        prompts_sha256="0" * 64,
        n_prompts=1,
    )


def trial(plan_sha256: str, arm: str) -> Trial:
    asked = RequestSample(prompt_id="jane@example.com-17", content_class="chat", output_sha256=YES)
    return Trial(
        plan_sha256=plan_sha256, trial_id=f"c1/0/{arm}", block=0, order=0, arm=arm, point="c1", node="n",
        engine_start_id="s", started_unix_s=0.0, wall_s=1.0, peak_concurrency=1, samples=(asked,),
    )  # fmt: skip


def test_ids_and_answers_are_keyed_the_same_in_one_comparison_and_otherwise_in_another(tmp_path: Path) -> None:
    names = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        ledger = Ledger(folder)
        sha = ledger.freeze(plan()).model_dump_json()[:64]
        ledger.record(trial(sha, "a"))
        again = Ledger(folder)  # a later start of the same comparison
        again.trials = ledger.trials
        again.record(trial(sha, "b"))
        text = (folder / "samples.jsonl").read_text()
        assert "jane" not in text
        assert YES not in text
        first, second = (one.samples[0] for one in again.trials)
        assert (first.prompt_id, first.output_sha256) == (second.prompt_id, second.output_sha256)
        names.append((first.prompt_id, first.output_sha256))
        assert (folder / "veil.key").stat().st_mode & 0o077 == 0
    assert names[0][0] != names[1][0]
    assert names[0][1] != names[1][1]


def test_a_comparison_that_was_begun_without_a_key_goes_on_without_one(tmp_path: Path) -> None:
    begun = Ledger(tmp_path)
    begun.freeze(plan())
    (tmp_path / "veil.key").unlink()
    later = Ledger(tmp_path)
    later.record(trial("x", "a"))
    assert later.trials[0].samples[0].prompt_id == "jane@example.com-17"
