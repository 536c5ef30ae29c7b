"""Bends of a bundle as a stranger would make them: files are edited, and every hash that an attacker can make anew is made anew.

Each bend is found by `verify`, or lowers the tier, or needs a signature to be found: docs/evidence.md says which.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import second_edition
from second_edition import Left
from test_attestation import keys
from test_evidence import reseal

from draftsmith import api
from draftsmith.contract.base import digest
from draftsmith.contract.errors import EvidenceError
from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Trial
from draftsmith.store import campaigns, chain
from draftsmith.store.attestation import envelope_of
from draftsmith.store.evidence import VerifyReport, recompute, verify_bundle


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Left:
    return second_edition.campaign(tmp_path_factory.mktemp("campaign"))


@dataclass
class Forger:
    """The bundle's files as JSON, to be changed and written back with new hashes."""

    bundle: Path

    def __post_init__(self) -> None:
        self.plan = json.loads((self.bundle / "plan.json").read_text())
        self.trials = [json.loads(line) for line in (self.bundle / "samples.jsonl").read_text().splitlines()]
        self.facts = json.loads((self.bundle / "facts.json").read_text())
        self.journal = [json.loads(line) for line in (self.bundle / "campaigns.jsonl").read_text().splitlines()]

    def where(self, **wanted: Any) -> list[dict[str, Any]]:
        return [t for t in self.trials if all(t[name] == value for name, value in wanted.items())]

    def save(self, *, journal: bool = False) -> None:
        """Chain, verdict and manifest anew; with `journal` the campaign's own lines as well."""
        frozen = ComparisonPlan.model_validate(self.plan)
        for one in self.trials:
            one["plan_sha256"] = digest(frozen)
        trials = chain.linked(digest(frozen), [Trial.model_validate(one) for one in self.trials])
        facts = [(arm, EngineFacts.model_validate(fact)) for arm, fact in self.facts]
        decision = recompute(frozen, trials, facts)
        (self.bundle / "plan.json").write_text(frozen.model_dump_json(by_alias=True))
        (self.bundle / "samples.jsonl").write_text("".join(t.model_dump_json(by_alias=True) + "\n" for t in trials))
        (self.bundle / "facts.json").write_text(json.dumps(self.facts))
        (self.bundle / "verdict.json").write_text(decision.model_dump_json(by_alias=True))
        if journal:
            lines, last = [], campaigns.FIRST
            for line in self.journal:
                kept = campaigns.Campaign.model_validate(line).model_copy(update={"previous_sha256": last})
                if line == self.journal[-1] or line == self.journal[-2]:
                    kept = kept.model_copy(update={"plan_sha256": digest(frozen)})
                if kept.event == "ended":
                    told = {"outcome": decision.outcome, "samples_sha256": decision.samples_sha256}
                    kept = kept.model_copy(update=told)
                lines.append(kept)
                last = digest(kept)
            self.journal = [line.model_dump() for line in lines]
        self.write_journal()

    def write_journal(self) -> None:
        (self.bundle / "campaigns.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.journal))
        reseal(self.bundle)


def forged(made: Left, folder: Path) -> Forger:
    return Forger(shutil.copytree(made.bundle, folder / "0001"))


def scale(trials: list[dict[str, Any]], factor: float) -> None:
    for one in trials:
        for sample in one["samples"]:
            sample["latency_s"] = sample["ttft_s"] + (sample["latency_s"] - sample["ttft_s"]) * factor
        one["wall_s"] *= max(factor, 1)
        one["counters"]["server_tpot_sum_s"] *= factor


def faster(f: Forger) -> None:
    scale(f.where(arm="tailored", traffic="own"), 0.7)


def slower_baseline(f: Forger) -> None:
    scale(f.where(arm="standing", traffic="own"), 1.5)


def drop_blocks(f: Forger) -> None:
    """Blocks 1 and 3 are inconvenient; the rest are renumbered."""
    f.trials = [t for t in f.trials if t["block"] not in (1, 3)]
    renumbered = {old: new for new, old in enumerate(sorted({t["block"] for t in f.trials}))}
    for one in f.trials:
        one["block"] = renumbered[one["block"]]
        one["trial_id"] = f"c1/{one['block']}/{one['arm']}/{one['traffic']}/{one['visit']}"


def drop_twins(f: Forger) -> None:
    f.trials = [t for t in f.trials if t["traffic"] != "aa"]


def drop_one_twin(f: Forger) -> None:
    f.trials.remove(f.where(traffic="aa", block=2)[0])


def drop_middle(f: Forger) -> None:
    f.trials = [t for t in f.trials if t["block"] != 2]


def paste(f: Forger) -> None:
    """A good block again, under new names."""
    good = json.loads(json.dumps(f.where(block=5)))
    last = max(t["started_unix_s"] for t in f.trials)
    for number, one in enumerate(good):
        one |= {"block": 6, "trial_id": one["trial_id"].replace("c1/5", "c1/6"), "started_unix_s": last + 10 * number}
    f.trials += good


def extra(f: Forger) -> None:
    """A block that was never measured, with times of its own."""
    paste(f)
    for one in f.where(block=6):
        for n, sample in enumerate(one["samples"]):
            sample["latency_s"] += 0.0001 * (n + 1)
            sample["prompt_id"] = f"{sample['prompt_id']}x"


def backwards(f: Forger) -> None:
    latest = max(t["started_unix_s"] for t in f.trials)
    for one in f.trials:
        one["started_unix_s"] = latest + 86_400 * (6 - one["block"])


def before_the_plan(f: Forger) -> None:
    for one in f.trials:
        one["started_unix_s"] -= 3_600


def loosen(f: Forger) -> None:
    f.plan["thresholds"] |= {"confidence": 0.5, "min_gain": 0.0}


def tighten_seed(f: Forger) -> None:
    f.plan["seed"] = 77


def other_draft(f: Forger) -> None:
    f.plan["arms"][1]["draft_sha256"] = "f" * 64


def other_target(f: Forger) -> None:
    f.plan["target_sha256"] = "f" * 64


def swap_arms(f: Forger) -> None:
    """Baseline and candidate change names."""
    names = {"standing": "tailored", "tailored": "standing", "standing#b": "tailored#b"}
    for one in f.trials:
        one["arm"] = names[one["arm"]]


def unspoil(f: Forger) -> None:
    """A visit that was set aside counts again; here: one that counted is set aside."""
    f.where(arm="tailored", traffic="own", block=4)[0]["invalid"] = "spoiled and repeated: not true"


def slow_clock(f: Forger) -> None:
    for one in f.where(arm="standing"):
        one["hardware"]["gpu_sm_clock_mhz"] = 900.0


def warm_cache(f: Forger) -> None:
    for one in f.where(arm="tailored"):
        for sample in one["samples"]:
            sample["cached_tokens"] = sample["prompt_tokens"]


def other_answers(f: Forger) -> None:
    for one in f.where(arm="tailored", traffic="own"):
        for n, sample in enumerate(one["samples"]):
            sample |= {"output_sha256": f"{n:x}{one['block']:x}".rjust(16, "9"), "first_divergence_hint": 0}


def short_answers(f: Forger) -> None:
    other_answers(f)
    for one in f.where(arm="tailored", traffic="own"):
        for sample in one["samples"]:
            sample["latency_s"] = sample["ttft_s"] + (sample["latency_s"] - sample["ttft_s"]) / 4
            sample["output_tokens"] //= 4


def lossy(f: Forger) -> None:
    f.plan["arms"][1]["spec_config"]["rejection_sample_method"] = "fly"


def sglang(f: Forger) -> None:
    f.plan["arms"][1] |= {"engine": "sglang", "flags": ["--speculative-accept-threshold-single", "0.6"]}


def trained_rows(f: Forger) -> None:
    f.plan["trained_on"] = 12


def unread_target(f: Forger) -> None:
    f.plan["target_sha256"] = None


def eager(f: Forger) -> None:
    for arm, fact in f.facts:
        fact["enforce_eager"] = arm == "standing"


def silent(f: Forger) -> None:
    f.facts = f.facts[:-1]


def other_nodes(f: Forger) -> None:
    for one in f.where(arm="tailored"):
        one["node"] = "node-b"


Bend = Callable[[Forger], None]
OTHER_SAMPLES = "ended as"
OTHER_PLAN = "was begun, not once"
FOUND: tuple[tuple[Bend, str], ...] = (
    (faster, OTHER_SAMPLES),
    (slower_baseline, OTHER_SAMPLES),
    (drop_blocks, OTHER_SAMPLES),
    (drop_twins, "lacks"),
    (drop_one_twin, "lacks"),
    (drop_middle, "has no block 2"),
    (paste, "is a copy"),
    (extra, OTHER_SAMPLES),
    (backwards, "the order in time is not kept"),
    (before_the_plan, "after the first trial began"),
    (loosen, OTHER_PLAN),
    (tighten_seed, OTHER_PLAN),
    (other_draft, OTHER_PLAN),
    (other_target, OTHER_PLAN),
    (swap_arms, "lacks"),
    (unspoil, OTHER_SAMPLES),
)
TIER: tuple[tuple[Bend, str], ...] = (
    (slow_clock, "clock was not the same"),
    (warm_cache, "prefix cache was not the same"),
    (other_answers, "answers something else"),
    (short_answers, "fewer than 3 valid trials of tailored"),  # the counters do not fit any more
    (lossy, "lossy verification"),
    (sglang, "lossy verification"),
    (trained_rows, "rows that the draft was trained on"),
    (unread_target, "weights were not read"),
    (eager, "eager mode"),
    (silent, "no engine facts"),
    (other_nodes, "more than one node"),
)


def test_the_campaign_as_it_was(made: Left) -> None:
    report = verify_bundle(made.bundle)
    assert (report.ok, report.tier, report.stored and report.stored.outcome) == (True, "verdict", "WIN")
    assert report.campaigns == {"WIN": 1, "unfinished": 2}


@pytest.mark.parametrize(("bend", "said"), FOUND, ids=lambda value: getattr(value, "__name__", ""))
def test_a_bend_with_every_other_hash_made_anew_is_found(made: Left, tmp_path: Path, bend: Bend, said: str) -> None:
    forger = forged(made, tmp_path)
    bend(forger)
    forger.save()
    report = verify_bundle(forger.bundle)
    assert report.intact
    assert report.verdict_matches
    assert not report.ok
    assert any(said in sentence for sentence in report.sentences()), report.sentences()


@pytest.mark.parametrize(("bend", "said"), TIER, ids=lambda value: getattr(value, "__name__", ""))
def test_what_was_recorded_openly_costs_the_tier_even_with_a_new_journal(
    made: Left, tmp_path: Path, bend: Bend, said: str
) -> None:
    forger = forged(made, tmp_path)
    bend(forger)
    forger.save(journal=True)
    report = verify_bundle(forger.bundle)
    assert report.tier == "draft" or (report.stored and report.stored.outcome != "WIN")
    assert report.stored
    assert any(said in reason for reason in report.stored.tier_reasons), report.stored.tier_reasons


def lines_dropped(f: Forger) -> None:
    """The campaigns that came to nothing are taken out, and the chain of the journal is made anew."""
    f.journal = f.journal[2:]


def lines_swapped(f: Forger) -> None:
    f.journal[0], f.journal[1] = f.journal[1], f.journal[0]


def line_added(f: Forger) -> None:
    f.journal.insert(1, f.journal[0] | {"plan_sha256": "9" * 64})


def line_moved_in_time(f: Forger) -> None:
    f.journal[2]["unix_s"] -= 3_600


def outcome_rewritten(f: Forger) -> None:
    f.journal[-1]["outcome"] = "LOSS"


@pytest.mark.parametrize("bend", [lines_dropped, lines_swapped, line_added, line_moved_in_time, outcome_rewritten])
def test_a_journal_that_was_touched_is_found(made: Left, tmp_path: Path, bend: Bend) -> None:
    forger = forged(made, tmp_path)
    bend(forger)
    last = campaigns.FIRST
    for line in forger.journal:
        line["previous_sha256"] = last
        last = digest(campaigns.Campaign.model_validate(line))
    forger.write_journal()
    assert any("campaigns.jsonl" in sentence for sentence in verify_bundle(forger.bundle).sentences())


def test_a_journal_that_is_gone_is_missed(made: Left, tmp_path: Path) -> None:
    forger = forged(made, tmp_path)
    (forger.bundle / "campaigns.jsonl").unlink()
    reseal(forger.bundle)
    assert any("campaigns.jsonl is missing" in sentence for sentence in verify_bundle(forger.bundle).sentences())


def test_the_verdict_itself_rewritten_is_found(made: Left, tmp_path: Path) -> None:
    forger = forged(made, tmp_path)
    verdict = json.loads((forger.bundle / "verdict.json").read_text())
    for pair in verdict["pairs"]:
        pair["speedup"]["low"] = pair["speedup"]["value"] - 0.01
    (forger.bundle / "verdict.json").write_text(json.dumps(verdict))
    reseal(forger.bundle)
    assert verify_bundle(forger.bundle).differences == ("pairs differs",)


@pytest.mark.parametrize("bend", [faster, drop_blocks, loosen, extra])
def test_a_whole_new_history_needs_a_signature_to_be_found(made: Left, tmp_path: Path, bend: Bend) -> None:
    """Out of reach without a key: plan, chain, verdict, journal and manifest are all consistent."""
    forger = forged(made, tmp_path)
    pem, pub = keys(tmp_path)
    api.sign(forger.bundle, pem)
    bend(forger)
    forger.save(journal=True)
    report: VerifyReport = verify_bundle(forger.bundle)
    assert report.ok, report.sentences()
    assert envelope_of(forger.bundle).is_file()
    with pytest.raises(EvidenceError, match="another bundle or another verdict"):
        api.verify(forger.bundle, pub)


def test_a_summary_that_says_something_else_needs_a_signature_too(made: Left, tmp_path: Path) -> None:
    forger = forged(made, tmp_path)
    pem, pub = keys(tmp_path)
    api.sign(forger.bundle, pem)
    (forger.bundle / "summary.md").write_text("9x as fast\n")
    reseal(forger.bundle)
    assert verify_bundle(forger.bundle).ok
    with pytest.raises(EvidenceError):
        api.verify(forger.bundle, pub)
