"""service-state.json: the memory of a served model. Readable by an older or a newer version: unknown keys are kept."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class HistoryEntry(BaseModel):
    """One passage through the loop, or a promotion or rollback."""

    model_config = ConfigDict(frozen=True, extra="allow")

    at_unix_s: float
    event: str
    run_id: str | None = None
    outcome: str | None = None
    draft: str | None = None
    config: dict[str, Any] | None = None


class ServiceState(BaseModel):
    """What is known of one served model, and what happened to it.

    `standing_config` is the engine's speculative config that serves now, None = off; `champion_draft` the folder of its
    draft, None = it needs none. `last_ab_verdict` is the outcome of the last comparison, whether it promoted or not.
    `history` is oldest first. A change replaces the file atomically.
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, serialize_by_alias=True)

    schema_: Literal["specdec_service_v1"] = Field("specdec_service_v1", alias="schema")
    experiment_id: str
    target: str
    served_deploy: str | None = None
    standing_config: dict[str, Any] | None = None
    champion_draft: str | None = None
    last_profile_sha256: str | None = None
    last_ab_verdict: str | None = None
    history: tuple[HistoryEntry, ...] = ()
