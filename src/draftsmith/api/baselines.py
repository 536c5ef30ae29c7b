"""A campaign beside an earlier one: what moved beyond noise."""

from __future__ import annotations

from pathlib import Path

from draftsmith.api.lake import bundle_in
from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import EvidenceError, InputError, NoVerdictError
from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Trial
from draftsmith.kit.files import read_json, read_lines
from draftsmith.store.bundle_check import verify_bundle
from draftsmith.verdict.moved import Campaign, Move, moves, unlike


class BaselineDiff(Frozen):
    """`worse`: a sentence for each figure that got worse. `unlike`: what else differs, so that a move may have another cause."""

    before: str
    after: str
    moves: tuple[Move, ...]
    worse: tuple[str, ...]
    unlike: tuple[str, ...]

    def text(self) -> str:
        """For the terminal."""
        lines = [move.sentence() for move in self.moves]
        return "\n".join([*lines, *(f"differs  {text}" for text in self.unlike)])


def baseline_diff(before: str | Path, after: str | Path) -> BaselineDiff:
    """Set one bundle against another: both are verified first.

    Raises EvidenceError if one does not verify, NoVerdictError if one has no verdict, InputError if they share no figure.
    """
    old, new = _campaign(Path(before)), _campaign(Path(after))
    result = moves(old, new)
    if not result:
        raise InputError(
            "the two share no arm at the same operating point, so nothing can be set against each other",
            "give the arms the same names in both comparisons",
        )
    return BaselineDiff(
        before=bundle_in(Path(before)).name,
        after=bundle_in(Path(after)).name,
        moves=tuple(result),
        worse=tuple(move.sentence() for move in result if move.direction == "worse"),
        unlike=tuple(unlike(old, new)),
    )


def _campaign(path: Path) -> Campaign:
    bundle = bundle_in(path)
    report = verify_bundle(bundle)
    if not report.ok:
        raise EvidenceError(f"{bundle.name} does not verify: {'; '.join(report.sentences())}", "fetch it again")
    if report.stored is None:
        raise NoVerdictError(f"{bundle.name} has no verdict", "name the bundle of a run that was compared")
    return Campaign(
        plan=ComparisonPlan.model_validate(read_json(bundle / "plan.json")),
        decision=report.stored,
        trials=tuple(Trial.model_validate_json(line) for line in read_lines(bundle / "samples.jsonl")),
        facts=tuple((arm, EngineFacts.model_validate(fact)) for arm, fact in read_json(bundle / "facts.json")),
    )
