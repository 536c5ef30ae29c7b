"""config.json of a packaged draft: known keys only, nothing that runs, nothing of the machine it was made on.

What the engine and the trainer would read differently when absent is written out. A key that is not known here and
says something is refused rather than dropped or passed on: it may change what the weights mean.
"""

from __future__ import annotations

from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.trainers.draft_folder import AUX, DFLASH_AUX, Draft
from draftsmith.trainers.lint_files import CODE_KEYS

LAYER_KEYS = frozenset(
    """attention_bias attention_dropout bos_token_id eos_token_id pad_token_id head_dim hidden_act hidden_size
    initializer_range intermediate_size layer_types max_position_embeddings max_window_layers mlp_bias model_type
    num_attention_heads num_aux_hidden_states num_hidden_layers num_key_value_heads pretraining_tp rms_norm_eps
    rope_parameters rope_scaling rope_theta sliding_window tie_word_embeddings use_cache use_sliding_window vocab_size
    dtype torch_dtype partial_rotary_factor""".split()  # noqa: SIM905 - a list to read and compare
)
DRAFT_KEYS = frozenset(
    f"""architectures block_size draft_vocab_size dtype torch_dtype {AUX} {DFLASH_AUX} embed_requires_grad fc_norm
    mask_token_id norm_before_fc norm_before_residual norm_output sample_from_anchor sliding_window_non_causal
    target_hidden_size tie_word_embeddings transformers_version""".split()
)
SPECULATORS_KEYS = DRAFT_KEYS | {
    "speculators_config",
    "speculators_model_type",
    "speculators_version",
    "transformer_layer_config",
}
PLAIN_KEYS = DRAFT_KEYS | LAYER_KEYS | {"dflash_config", "eagle_config", "target_model_type", "pad_token_id"}


def clean_config(draft: Draft, *, verifier_name: str, layer_ids: tuple[int, ...]) -> dict[str, Any]:
    """The configuration to serve `draft` with. `verifier_name` is a name, not a path; `layer_ids` in engine notation.

    Raises InputError for a key that is not known and not empty.
    """
    if draft.form == "plain":
        config = _known(draft.config, PLAIN_KEYS, "config.json")
        if draft.method != "dflash":
            config[AUX] = list(layer_ids)
            if isinstance(config.get("eagle_config"), dict):
                config["eagle_config"] = {k: v for k, v in config["eagle_config"].items() if k != AUX}
            _count_layers(config, config, layer_ids)
        return config
    config = _known(draft.config, SPECULATORS_KEYS, "config.json")
    layer = _known(draft.layer, LAYER_KEYS, "transformer_layer_config")
    config["transformer_layer_config"] = layer
    config[DFLASH_AUX if draft.method == "dflash" else AUX] = list(layer_ids)
    if draft.method == "dflash":
        # The engine makes one causality of it, for all layers. Full attention is trained in both directions, so false
        # would serve another model than was trained; of a sliding draft the trainer's default is false.
        config["sliding_window_non_causal"] = not slides(layer) or config.get("sliding_window_non_causal") is True
    else:
        config.setdefault("norm_before_residual", False)  # absent: false to the trainer, true to the engine
        _count_layers(layer, layer, layer_ids)
    config["speculators_config"] = _serving(draft, verifier_name)
    return config


def slides(layer: dict[str, Any]) -> bool:
    """Whether any layer of the draft attends in a sliding window."""
    return "sliding_attention" in (layer.get("layer_types") or [])


def _known(config: dict[str, Any], known: frozenset[str], where: str) -> dict[str, Any]:
    strange = sorted(
        key for key, value in config.items() if key not in known and key not in CODE_KEYS and value not in _EMPTY
    )
    if strange:
        raise InputError(
            f"{where} has keys that are not known here: {', '.join(strange)}",
            "check what they change; a newer Draftsmith may know them",
        )
    return {key: value for key, value in config.items() if key in known}


_EMPTY: tuple[Any, ...] = (None, False, "", [], {})


def _count_layers(config: dict[str, Any], layer: dict[str, Any], layer_ids: tuple[int, ...]) -> None:
    """vLLM's Llama-type draft takes its input to be of three layers unless told otherwise."""
    if len(layer_ids) != 3 and layer.get("model_type", "llama") == "llama":
        config["num_aux_hidden_states"] = len(layer_ids)


def _serving(draft: Draft, verifier_name: str) -> dict[str, Any]:
    """speculators_config, rebuilt from the few values that mean something to the engine.

    The engine asks that verifier.name_or_path be there and reads it only when the draft's own folder is given as the
    model to serve. A path of the training machine has no business in it.
    """
    section = draft.config.get("speculators_config")
    section = section if isinstance(section, dict) else {}
    verifier = section.get("verifier")
    architectures = verifier.get("architectures") if isinstance(verifier, dict) else None
    methods = section.get("proposal_methods")
    first = methods[0] if isinstance(methods, list) and methods and isinstance(methods[0], dict) else {}
    tokens = first.get("speculative_tokens")
    return {
        "algorithm": draft.method,
        "default_proposal_method": "greedy",
        "proposal_methods": [
            {
                "proposal_type": "greedy",
                "speculative_tokens": tokens if type(tokens) is int and tokens > 0 else 3,
                "accept_tolerance": 0.0,
                "verifier_accept_k": 1,
            }
        ],
        "verifier": {
            "name_or_path": verifier_name,
            "architectures": [str(name) for name in architectures] if isinstance(architectures, list) else [],
        },
    }
