"""The comparison as a job: a typed plan in, a typed result out."""

from __future__ import annotations

from draftsmith.contract.jobs import ComparePlan, CompareResult
from draftsmith.contract.measure import ComparisonPlan
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import read_json
from draftsmith.report.parts import ReportParts
from draftsmith.verdict.schedule import propose, schedule_sentence
from draftsmith.work.compare.campaign import Campaign
from draftsmith.work.job import Job


def body(job: Job[ComparePlan]) -> CompareResult:
    """Run the campaign of the plan."""
    campaign = Campaign(job)
    plan, decision = campaign.run()
    return _result(campaign, plan, decision)


def _result(campaign: Campaign, plan: ComparisonPlan, decision: Decision) -> CompareResult:
    ledger = campaign.ledger
    winner = next((arm for arm in campaign.arms if arm.name == decision.winner), None)
    report = ReportParts(plan=plan, decision=decision)
    pair = report.pair(report.leading.name if report.leading else None, decision.primary_point)
    return CompareResult(
        plan=str(ledger.plan_file),
        samples=str(ledger.samples_file),
        facts=str(ledger.facts_file),
        verdict=str(ledger.verdict_file),
        winner_config=winner.spec_config if winner else None,
        winner_sha256=winner.draft_sha256 if winner else None,
        served=campaign.fleet.served,
        outcome=decision.outcome,
        tier=decision.tier,
        reason=decision.reason,
        winner=decision.winner,
        speedup=pair.speedup if pair else None,
        acceptance_length={a.arm: a.acceptance_length for a in decision.arms if a.acceptance_length},
        median_tpot_ms={f"{a.arm}@{a.point}": a.median_tpot_s * 1000 for a in decision.arms if a.median_tpot_s},
        schedule=propose(plan, decision),
        schedule_sentence=schedule_sentence(plan, decision),
        forecast=read_json(ledger.forecast_file)["sentence"] if ledger.forecast_file.exists() else None,
        repeated_visits=campaign.repeats.repeated,
    )
