"""A file that says what must be signed before a configuration is promoted, and by whom.

# promotion.toml
keys = ["release.pub", "second.pub"]   # public keys (PEM, Ed25519), relative to this file
signatures = 1                         # how many of them must have signed
campaigns = 3                          # maximum number of campaigns begun with these arms; absent: no limit
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import ConfigError, DraftsmithError
from draftsmith.contract.verdict import Decision
from draftsmith.store.attestation import signed_statement, signers


class PromotionPolicy(Frozen):
    """What the file says, `keys` as paths that exist."""

    keys: tuple[str, ...] = Field(min_length=1)
    signatures: int = Field(1, ge=1)
    campaigns: int | None = Field(None, ge=1)


def read_policy(path: Path) -> PromotionPolicy:
    """Raises ConfigError for a file that is missing, not TOML, or asks for more signatures than it names keys."""
    try:
        policy = PromotionPolicy.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ConfigError(
            f"serving.promotion_policy: {path.name} is no policy ({type(error).__name__})",
            'write a TOML file with keys = ["release.pub"], paths of public keys beside it',
        ) from None
    keys = tuple(str(path.parent / key) for key in policy.keys)
    if policy.signatures > len(set(keys)):
        raise ConfigError(
            f"serving.promotion_policy asks for {policy.signatures} signatures and names {len(set(keys))} keys",
            "name more keys, or ask for fewer signatures",
        )
    return policy.model_copy(update={"keys": keys})


def unsigned(
    policy: PromotionPolicy, envelope: Path | None, decision: Decision, draft_sha256: str | None
) -> str | None:
    """Why a verdict may not be promoted under the policy; None if it may.

    Signatures are over the bundle; what is compared is what the promotion rests on: plan, samples, outcome, winner and its draft.
    """
    if envelope is None or not envelope.is_file():
        return "its verdict is not signed, and the promotion policy asks for it"
    try:
        signed = len(signers(envelope, [Path(key) for key in policy.keys]))
        if signed < policy.signatures:
            return (
                f"{signed} of the {policy.signatures} keys that the promotion policy asks for have signed its verdict"
            )
        return _other(signed_statement(envelope), decision, draft_sha256)
    except DraftsmithError as error:
        return f"its signature cannot be checked: {error.message}"


def _other(statement: Mapping[str, Any], decision: Decision, draft_sha256: str | None) -> str | None:
    """What the signed statement says otherwise than the decision."""
    predicate: dict[str, Any] = statement.get("predicate") or {}
    # Not the tier: it follows from plan and samples, and a signature names looser thresholds, which the operator may allow.
    fields = ("outcome", "winner", "plan_sha256", "samples_sha256")
    differs = [name for name in fields if predicate.get(name) != getattr(decision, name)]
    drafts = {
        s.get("digest", {}).get("sha256")
        for s in statement.get("subject", ())
        if str(s.get("name")).startswith("draft")
    }
    if draft_sha256 is not None and draft_sha256 not in drafts:
        differs.append("the draft's weights")
    return f"what was signed is another verdict than this one ({', '.join(differs)})" if differs else None
