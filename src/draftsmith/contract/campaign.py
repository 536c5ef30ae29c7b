"""A campaign: arms measured at the shapes of a profile, a cell each, and the atlas that holds what came of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.verdict import ArmSummary, Outcome, PairResult, Tier

Focus = Literal["latency", "throughput"]


class CampaignCell(Frozen):
    """One shape of the profile to measure at: every arm, at each of `concurrency` requests in flight. Lengths in tokens."""

    name: str
    isl: int = Field(ge=2)
    osl: int = Field(ge=1)
    weight: float
    concurrency: tuple[int, ...] = Field(min_length=1)


class CampaignRecord(Frozen):
    """campaign.json: what is measured, settled once. `arms`: as the words of `draftsmith compare --arm`.

    `campaign` is the experiment's id, and the run's where it began from one. `prompts` is a private file with the texts that
    prompts of every length are made of.
    """

    schema_: Literal["draftsmith_campaign_v1"] = Field("draftsmith_campaign_v1", alias="schema")
    campaign: str
    focus: Focus
    cells: tuple[CampaignCell, ...]
    arms: tuple[str, ...]
    standing: str
    candidates: tuple[str, ...] | None = None
    profile_sha256: str | None = None
    prompts: str
    config: dict[str, Any]
    created_unix_s: float
    draftsmith_version: str

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}


CellState = Literal["open", "begun", "measured"]


class CellView(Frozen):
    """A cell as far as it came. `manifest_sha256` names its evidence bundle; `addresses`: where that was published.

    `rigor` says what was recorded beside the times (L1, L2, L3).
    """

    cell: CampaignCell
    state: CellState
    outcome: Outcome | None = None
    tier: Tier | None = None
    reason: str | None = None
    arms: tuple[ArmSummary, ...] = ()
    pairs: tuple[PairResult, ...] = ()
    context: str | None = None
    rigor: str | None = None
    manifest_sha256: str | None = None
    addresses: tuple[str, ...] = ()


class Atlas(Frozen):
    """atlas.json: all cells of a campaign. `tier` is the lowest of its verdicts; None while no cell is measured.

    `weighted_speedup`: by candidate, the geometric mean over the measured cells by their weight in the traffic, at the first
    concurrency; None where a cell of the campaign is not measured yet.
    """

    schema_: Literal["draftsmith_atlas_v1"] = Field("draftsmith_atlas_v1", alias="schema")
    campaign: str
    focus: Focus
    cells: tuple[CellView, ...]
    tier: Tier | None
    weighted_speedup: dict[str, float | None] = Field(default_factory=dict)

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}
