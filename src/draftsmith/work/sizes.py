"""Bytes that a decode step reads, from the files: for the speed of light."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import ComparisonPlan
from draftsmith.kit.files import read_json
from draftsmith.store.scrub import from_names
from draftsmith.trainers.draft_folder import read_draft
from draftsmith.trainers.target_config import read_config, text_config

NOT_READ = frozenset({"embed_tokens.weight", "d2t", "t2d"})  # a step looks up a row of the first; maps are small
CACHE_BYTES = 2  # the cache is kept in 16 bits unless the engine is told otherwise


def kv_bytes_per_token(target: Path) -> float:
    """Key and value of one token over all layers; 0 where config.json does not say enough."""
    config = text_config(read_config(target))
    heads = config.get("num_attention_heads")
    if not heads or not config.get("num_hidden_layers"):
        return 0.0
    dim = config.get("head_dim") or config["hidden_size"] // heads
    return float(2 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * dim * CACHE_BYTES)


def pass_bytes(draft: Path) -> int:
    """What one pass of a draft reads: its weights without embeddings and maps."""
    return sum(tensor.size for name, tensor in read_draft(draft).tensors.items() if name not in NOT_READ)


def draft_bytes(plan: dict[str, Any], target: Path, trained: Path | None) -> dict[str, int]:
    """Bytes of one pass by arm. Drafts are looked up where the job ran; one that is gone is left out."""
    names = {**plan["names"], "{target}": str(target)}
    frozen = plan["results"].get("compare", {}).get("outputs", {}).get("plan")
    if not frozen or not Path(frozen).exists():
        return {}
    found = {}
    for arm in ComparisonPlan.model_validate(read_json(Path(frozen))).arms:
        model = str((arm.spec_config or {}).get("model", ""))
        model = str(from_names(model, names))
        folder = trained if arm.role == "candidate" and trained else Path(model)
        if model and folder.is_dir():
            try:
                found[arm.name] = pass_bytes(folder)
            except (InputError, OSError):
                continue
    return found
