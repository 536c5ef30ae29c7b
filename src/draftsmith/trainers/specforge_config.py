"""Input of SpecForge: its draft configuration (JSON) and its run configuration (YAML). Pure.

Layers are given in the engine's notation and written in SpecForge's; see trainers.layers.
"""

from __future__ import annotations

import json
from typing import Any

from draftsmith.contract.draft import TargetFacts
from draftsmith.trainers.draft_folder import AUX
from draftsmith.trainers.draft_shape import draft_shape
from draftsmith.trainers.layers import to_specforge
from draftsmith.trainers.target_config import text_config

EAGLE3 = "LlamaForCausalLMEagle3"
RUN_ID = "draft"
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
LOG_EVERY = 5
WAIT_MIN = 120  # how long ranks wait for each other; rank 0 converts the states meanwhile
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def eagle3_config(target: dict[str, Any], draft_vocab: int, layer_ids: tuple[int, ...]) -> dict[str, Any]:
    """Draft configuration (JSON) of a one-layer EAGLE3 head for a target's config.json. Pure.

    `layer_ids` stand at the top, in the engine's notation, for the engine: SpecForge copies them into its exports and
    reads its own from the run configuration (or from eagle_config, which is left out: the engine would read it too).
    It says nothing of `norm_output`: true means "the head reads normalised states" to SpecForge, and "normalised
    states are fed back" to vLLM; absent, both normalise for the head alone. Raises InputError for a missing width.
    """
    text, shape = text_config(target), draft_shape(target)
    layer = shape.layer_config()
    rope = layer.pop("rope_parameters")
    layer.pop("layer_types")
    return {
        "architectures": [EAGLE3],
        **layer,
        **{key: text[key] for key in TOKENS if text.get(key) is not None},
        "draft_vocab_size": min(draft_vocab, shape.vocab_size),
        **_rope(rope),
        "use_cache": True,
        "torch_dtype": "bfloat16",
        AUX: list(layer_ids),
    }


def dflash_config(
    target: dict[str, Any], layer_ids: tuple[int, ...], *, layers: int, block_size: int, mask_token: int | None = None
) -> dict[str, Any]:
    """Draft configuration (JSON) of a DFlash draft. `layer_ids` in engine notation. Pure. Raises InputError."""
    text = text_config(target)
    base = eagle3_config(target, int(text.get("vocab_size") or 0), layer_ids)
    for key in ("draft_vocab_size", "mlp_bias", AUX):
        base.pop(key)
    dflash: dict[str, Any] = {"target_layer_ids": list(to_specforge(layer_ids))}
    if mask_token is not None:
        dflash["mask_token_id"] = mask_token
    return {
        **base,
        "architectures": ["DFlashDraftModel"],
        "model_type": "qwen3",
        "num_hidden_layers": layers,
        "num_target_layers": text["num_hidden_layers"],
        "layer_types": ["full_attention"] * layers,
        "sliding_window": None,
        "use_sliding_window": False,
        "block_size": block_size,
        "dflash_config": dflash,
    }


def run_config(
    *,
    target: str,
    draft_config: str,
    states: str,
    output: str,
    layer_ids: tuple[int, ...],
    max_length: int,
    batch_size: int,
    per_epoch: int,
    epochs: int,
    learning_rate: float,
    method: str = "eagle3",
    validation_states: str | None = None,
    vocabulary: str | None = None,
    head_key: str = HEAD,
    ttt_steps: int = 7,
    attention: str = "sdpa",
    seed: int = 0,
    run_id: str = RUN_ID,
    warm_start: str | None = None,
    log_every: int = LOG_EVERY,
    workers: int = 0,
    keep: int = 0,
) -> dict[str, Any]:
    """SpecForge's run configuration for training from stored states. Pure. `layer_ids` in engine notation.

    `per_epoch`: optimiser steps of one pass, after each of which it validates (where there are states to validate on)
    and saves; `keep` of those stay (0: all), and the best. Raises InputError for layers that SpecForge cannot name.
    """
    model: dict[str, Any] = {
        "target_model_path": target,
        "draft_model_config": draft_config,
        "embedding_key": EMBEDDINGS,
        "lm_head_key": head_key,
        "torch_dtype": "bfloat16",
    }
    if method == "eagle3":  # the other methods name their layers in the draft configuration
        model["aux_hidden_state_layer_ids"] = list(to_specforge(layer_ids))
    if vocabulary:
        model["vocab_mapping_path"] = vocabulary
    if warm_start:
        model["draft_checkpoint_path"] = warm_start
    data: dict[str, Any] = {
        "hidden_states_path": states,
        "max_length": max_length,
        "dataloader_num_workers": workers,
    }
    training: dict[str, Any] = {
        "strategy": method,
        "num_epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "attention_backend": attention,
        "fsdp_sharding": "NO_SHARD",  # the draft is small: every rank holds it whole
        "save_interval": per_epoch,
        "max_checkpoints": keep,
        "log_interval": log_every,
        "dist_timeout": WAIT_MIN,
        "seed": seed,
    }
    if method == "eagle3":
        training["ttt_length"] = ttt_steps
    if validation_states:
        data["eval_hidden_states_path"] = validation_states
        training["eval_interval"] = per_epoch
    return {
        "run_id": run_id,
        "output_dir": output,
        "model": model,
        "data": data,
        "training": training,
        "tracking": {"report_to": "none"},
    }


def yaml_text(config: dict[str, Any]) -> str:
    """A configuration as YAML: two levels, values as JSON, which YAML reads alike but for numbers such as 1e-05."""
    lines: list[str] = []
    for key, value in config.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {name}: {_scalar(item)}" for name, item in value.items())]
        else:
            lines.append(f"{key}: {_scalar(value)}")
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    text = json.dumps(value)
    if isinstance(value, float) and "e" in text and "." not in text:  # without a point YAML 1.1 takes it for text
        return text.replace("e", ".0e")
    return text


def default_draft_vocab(target: TargetFacts) -> int:
    """SpecForge's own default, 32,000 tokens, or all where the target has fewer."""
    return min(32_000, target.vocab_size)


def _rope(rope: dict[str, Any]) -> dict[str, Any]:
    """Rotary settings in the older spelling, which every version of transformers reads."""
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    scaled = scaling.get("rope_type") not in (None, "default") or "mrope_section" in scaling
    return {"rope_theta": rope["rope_theta"]} | ({"rope_scaling": scaling} if scaled else {})
