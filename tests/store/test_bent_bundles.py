"""Bundles that somebody bent, with a manifest that fits again: what `verify` finds."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_world import parts, plan, trial
from test_evidence import reseal

from draftsmith.cli.gate import verify
from draftsmith.contract.base import digest
from draftsmith.contract.errors import EvidenceError, NoVerdictError
from draftsmith.contract.measure import Thresholds, Trial
from draftsmith.store import chain
from draftsmith.store.evidence import recompute, verify_bundle, write_bundle

SHARED = Path(__file__).resolve().parents[3] / "shared"


def chained(folder: Path) -> Path:
    """A bundle whose trials are in a chain, as the job records them."""
    made = parts()
    trials = chain.linked(digest(made.plan), made.trials)
    assert made.plan is not None
    return write_bundle(folder, replace(made, trials=trials, decision=recompute(made.plan, trials, list(made.facts))))


def bent(bundle: Path, trials: list[Trial]) -> list[str]:
    """What verify says after these trials took the place of the true ones and everything was made to fit, links excepted."""
    made = parts()
    assert made.plan is not None
    decision = recompute(made.plan, trials, list(made.facts))
    lines = [json.dumps(t.model_dump(mode="json", by_alias=True)) + "\n" for t in trials]
    (bundle / "samples.jsonl").write_text("".join(lines))
    (bundle / "verdict.json").write_text(decision.model_dump_json(by_alias=True))
    reseal(bundle)
    report = verify_bundle(bundle)
    assert report.intact
    return report.sentences()


def read(bundle: Path) -> list[Trial]:
    return [Trial.model_validate_json(line) for line in (bundle / "samples.jsonl").read_text().splitlines()]


def test_trials_in_a_chain_verify(tmp_path: Path) -> None:
    report = verify_bundle(chained(tmp_path))
    assert (report.ok, report.tier, report.record, report.looser) == (True, "verdict", (), ())


@pytest.mark.parametrize("attack", ["dropped", "moved", "altered", "added"])
def test_a_trial_that_was_touched_breaks_the_chain(tmp_path: Path, attack: str) -> None:
    bundle = chained(tmp_path)
    trials = read(bundle)
    if attack == "dropped":
        del trials[4]
    elif attack == "moved":
        trials[4], trials[8] = trials[8], trials[4]
    elif attack == "altered":
        trials[4] = trials[4].model_copy(update={"started_unix_s": 1.0})
    else:
        trials.insert(4, trial(plan(), "tailored", 9, 0.02))
    assert any("the chain is broken" in text for text in bent(bundle, trials))


def test_a_whole_campaign_under_another_first_link_is_found(tmp_path: Path) -> None:
    bundle = chained(tmp_path)
    assert "does not follow the plan" in bent(bundle, read(bundle)[1:])[0]


def test_a_block_pasted_under_new_ids_is_a_copy(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, parts())
    trials = [t for t in read(bundle) if t.block == 0]
    pasted = [t.model_copy(update={"block": n, "trial_id": f"{n}/{t.trial_id}"}) for n in range(3) for t in trials]
    found = bent(bundle, pasted)
    assert len(found) == 2 * len(trials)
    assert all("one is a copy" in text for text in found)


def test_looser_thresholds_are_named_and_never_more_than_a_draft(tmp_path: Path) -> None:
    loose = plan(thresholds=Thresholds(min_gain=0, confidence=0.5, p99_tpot_margin=3))
    trials = [
        trial(loose, arm, block, tpot)
        for block in range(4)
        for arm, tpot in (("standing", 0.045), ("tailored", 0.0265))
    ]
    made = parts()
    decision = recompute(loose, trials, list(made.facts))
    report = verify_bundle(write_bundle(tmp_path, replace(made, plan=loose, trials=trials, decision=decision)))
    assert report.looser == (
        "min_gain 0 (default 0.03)", "confidence 0.5 (default 0.95)", "p99_tpot_margin 3 (default 0.1)",
    )  # fmt: skip
    assert report.tier == "draft"
    stricter = tuple(verify_bundle(chained(tmp_path / "other")).looser)
    assert stricter == ()


def test_a_published_bundle_with_loosened_thresholds(tmp_path: Path) -> None:
    found = SHARED / "cases" / "attack" / "02-gate-loosened-invisible" / "bundle"
    if not found.is_dir():
        pytest.skip("the shared cases are not beside this repository")
    bundle = shutil.copytree(found, tmp_path / "bundle", copy_function=shutil.copyfile)
    for folder in (bundle, *(p for p in bundle.rglob("*") if p.is_dir())):
        folder.chmod(0o700)
    reseal(bundle)
    report = verify_bundle(bundle)
    assert report.verdict_matches is True, report.sentences()
    assert report.stored is not None
    assert (report.stored.outcome, report.stored.tier, report.tier) == ("WIN", "verdict", "draft")
    assert {text.split()[0] for text in report.looser} >= {"min_gain", "confidence", "false_promotion"}


def test_a_pipe_in_place_of_a_file_does_not_hang(tmp_path: Path) -> None:
    bundle = chained(tmp_path)
    (bundle / "SOURCE.md").unlink()
    os.mkfifo(bundle / "SOURCE.md")
    assert verify_bundle(bundle).altered == ("SOURCE.md",)


@pytest.mark.parametrize("name", ["plan.json", "verdict.json", "facts.json", "samples.jsonl", "MANIFEST.json"])
def test_json_without_a_bottom_is_named(tmp_path: Path, name: str) -> None:
    bundle = chained(tmp_path)
    (bundle / name).write_text("[" * 200_000 + "]" * 200_000 + "\n")
    with pytest.raises(EvidenceError, match=name):
        verify_bundle(bundle)


def test_a_bundle_that_lost_its_verdict_proves_nothing_and_has_a_code_of_its_own(tmp_path: Path) -> None:
    bundle = chained(tmp_path)
    (bundle / "verdict.json").unlink()
    reseal(bundle)
    with pytest.raises(NoVerdictError) as proved:
        verify(bundle)
    assert proved.value.exit_code == 8


@pytest.mark.parametrize("name", ["report.html", "summary.md", "SOURCE.md"])
def test_what_no_sample_can_prove_is_said_to_be_unchecked(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = chained(tmp_path)
    (bundle / name).write_text("10x faster, promise")
    reseal(bundle)
    verify(bundle)
    assert name in capsys.readouterr().out.partition("not checked:")[2]
