"""draft/: a folder that the engine loads, and the manifest beside it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from draftsmith.contract.base import Frozen


class TargetFacts(Frozen):
    """What the loop needs to know of a target, derived from its config.json."""

    path: str
    architecture: str
    model_type: str
    num_layers: int
    hidden_size: int
    vocab_size: int
    max_position_embeddings: int
    dtype: str
    weight_bytes: int
    quantization: str | None = None
    has_mtp: bool = False
    tied_embeddings: bool = False
    rope: dict[str, Any] = Field(default_factory=dict, description="rope_theta, rope_type and scaling, one flat form")
    sha256: str = Field(description="over config.json, tokenizer.json, the weight headers and a sample of every tensor")
    tokenizer_sha256: str
    warnings: tuple[str, ...] = Field((), description="what to know of it, a sentence each")


class DraftManifest(Frozen):
    """draft-manifest.json. Layer ids are the engine's: id k = residual stream after k layers, sorted, unique."""

    schema_: Literal["draftsmith_draft_v1"] = Field("draftsmith_draft_v1", alias="schema")
    method: Literal["eagle3", "dflash", "peagle"]
    layer_ids: tuple[int, ...]
    layer_convention: Literal["after_k_layers"] = "after_k_layers"
    hidden_size: int
    target_vocab_size: int
    draft_vocab_size: int
    vocab_map_sha256: str
    has_own_embeddings: bool
    has_own_lm_head: bool
    target_sha256: str
    tokenizer_sha256: str
    corpus_sha256: str | None = None
    warm_start_from: str | None = None
    trainer: str
    versions: dict[str, str] = Field(default_factory=dict)
    epoch: int | None = None
    validation_acceptance: tuple[float, ...] = Field((), description="per position, teacher-forced, on validation rows")
    weights_sha256: str = ""
    trained_tokens: int | None = None

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}


class Finding(Frozen):
    """One check of a draft folder. `next_step` is set if there is something to do."""

    check: str
    level: Literal["error", "warn", "ok"]
    sentence: str
    next_step: str = ""


class LintReport(Frozen):
    """All findings on one draft folder, in the order of the checks."""

    folder: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check found an error. Warnings do not fail a draft."""
        return not any(finding.level == "error" for finding in self.findings)

    def at(self, level: Literal["error", "warn", "ok"]) -> tuple[Finding, ...]:
        """The findings of one level."""
        return tuple(finding for finding in self.findings if finding.level == level)
