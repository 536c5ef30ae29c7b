"""The evidence of one operating point, laid out once for all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from draftsmith.contract.measure import Arm, ComparisonPlan, OperatingPoint, Trial
from draftsmith.verdict.estimate import Cell, cells
from draftsmith.verdict.guards import Sides
from draftsmith.verdict.measures import BlockPair, measure_of, pair_block
from draftsmith.verdict.rule import Rule
from draftsmith.verdict.validate import base_arm

CANDIDATE_SHARE = 0.75

Table = dict[str, dict[int, Cell]]


@dataclass(frozen=True)
class Bench:
    """Valid trials of one point: own and general traffic by arm and block, and the baseline's second pass by block."""

    plan: ComparisonPlan
    point: OperatingPoint
    own: Table
    general: Table
    twins: dict[int, Cell]

    @classmethod
    def of(cls, plan: ComparisonPlan, point: OperatingPoint, trials: Sequence[Trial]) -> Bench:
        """Lay out the valid trials of one point."""
        twins: dict[int, list[Trial]] = {}
        for name, rows in cells(trials, point.name, "aa").items():
            if base_arm(name) == plan.baseline:
                for block, cell in rows.items():
                    twins.setdefault(block, []).extend(cell)
        return cls(
            plan,
            point,
            cells(trials, point.name, "own"),
            cells(trials, point.name, "general"),
            {block: tuple(value) for block, value in twins.items()},
        )

    def rule(self, arm: Arm) -> Rule:
        """The preset rule for one arm: its share of the error, over arms and deciding points."""
        share = error_share(self.plan, arm) / max(1, len(deciding(self.plan)))
        return Rule.of(self.plan.thresholds, share=share, restarts=self.plan.restarts and arm.endpoint is None)

    def pairs(self, slow: str, fast: str) -> list[BlockPair]:
        """One log ratio per block in which both arms, and the twin where it is the baseline's, answered the same prompts."""
        measure, base, cand = measure_of(self.plan), self.own.get(slow, {}), self.own.get(fast, {})
        twins = self.twins if slow == self.plan.baseline else {}
        blocks = (pair_block(b, base[b], twins.get(b), cand[b], measure) for b in sorted(base.keys() & cand.keys()))
        return [pair for pair in blocks if pair is not None]

    def sides(self, table: Table, arm: str, blocks: set[int], rule: Rule, share: float) -> Sides:
        """Both arms' cells over those of `blocks` that both have. On own traffic the baseline is both its passes."""
        base, cand = table.get(self.plan.baseline, {}), table.get(arm, {})
        use = sorted(base.keys() & cand.keys() & blocks)
        twins = self.twins if table is self.own else {}
        return Sides(
            {b: (*base[b], *twins.get(b, ())) for b in use},
            {b: cand[b] for b in use},
            rule,
            share,
            closed_loop=not self.point.open_loop,
        )

    def shared(self, arm: str) -> set[int]:
        """Blocks in which both the baseline and an arm have valid trials, with or without a ratio."""
        return self.own.get(self.plan.baseline, {}).keys() & self.own.get(arm, {}).keys()


def deciding(plan: ComparisonPlan) -> tuple[str, ...]:
    """The points that decide together; empty where the primary one decides alone."""
    return plan.deciding if len(plan.deciding) > 1 else ()


def promotable(plan: ComparisonPlan) -> tuple[Arm, ...]:
    """The arms on trial: all but the baseline and a second arm of role `standing`."""
    return tuple(arm for arm in plan.arms if arm.name != plan.baseline and arm.role != "standing")


def error_share(plan: ComparisonPlan, arm: Arm) -> float:
    """This arm's part of the allowed error: weighted Bonferroni, three quarters to the candidates.

    The other quarter belongs to the reference arms (no speculation, n-gram...), which may win as well. With only one
    kind of arm, that kind has it all.
    """
    arms = promotable(plan)
    same = sum(1 for other in arms if (other.role == "candidate") == (arm.role == "candidate"))
    if same == len(arms):
        return 1.0 / same
    return (CANDIDATE_SHARE if arm.role == "candidate" else 1 - CANDIDATE_SHARE) / same
