"""The frontier of a workspace: what to try next, what it should bring and cost, and what was tried without success, with its evidence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from draftsmith.contract.base import Frozen

LeverState = Literal["open", "refuted", "settled"]
LEVER_STATE: dict[LeverState, str] = {
    "open": "worth trying",
    "refuted": "tried, or measured, and it lost",
    "settled": "newer evidence no longer speaks for it",
}


class Evidence(Frozen):
    """What a lever rests on: a run, cell or comparison, and the bundle that proves it, where one is written."""

    run_id: str
    manifest_sha256: str | None = None
    at_unix_s: float


class Lever(Frozen):
    """`gain` is the expected TPOT ratio (1.05 = 5 % faster); None where the lever buys knowledge, not speed.

    `urgent` levers come first: while they are open, other numbers may not mean what they say.
    """

    key: str
    title: str
    why: str
    expected: str
    gate: str
    gain: float | None = None
    urgent: bool = False


class FrontierLever(Lever):
    """A lever as it is kept. `cost_s`: what it takes, by the times of the run that speaks for it; None if nothing like it was timed.
    `tried`: the settings that it would change, as they stood. `because`: why it was refuted or settled, by `refuted_by`.
    """

    cost_s: float | None = None
    state: LeverState = "open"
    evidence: Evidence
    tried: dict[str, str] = Field(default_factory=dict)
    because: str | None = None
    refuted_by: Evidence | None = None

    @property
    def value_per_hour(self) -> float:
        """Expected gain an hour of work: what levers are ranked by. A lever that was never timed counts as an hour."""
        return ((self.gain or 1.0) - 1.0) / ((self.cost_s or 3600.0) / 3600.0)


class Frontier(Frozen):
    """frontier.json. `wall`: how near the best arm is to what memory traffic allows, where that is known."""

    schema_: Literal["draftsmith_frontier_v1"] = Field("draftsmith_frontier_v1", alias="schema")
    levers: tuple[FrontierLever, ...] = ()
    wall: str | None = None

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}

    @property
    def open(self) -> tuple[FrontierLever, ...]:
        """What is worth trying: urgent levers first, then by value an hour."""
        result = [lever for lever in self.levers if lever.state == "open"]
        return tuple(sorted(result, key=lambda lever: (not lever.urgent, -lever.value_per_hour, lever.key)))

    def in_state(self, state: LeverState) -> tuple[FrontierLever, ...]:
        """Levers in a state, the newest first."""
        return tuple(reversed([lever for lever in self.levers if lever.state == state]))
