"""Checks of config.json: layers, sizes, switches and rotary embedding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftsmith.contract.draft import Finding
from draftsmith.trainers.draft_folder import AUX, Draft
from draftsmith.trainers.draft_shape import draft_rope
from draftsmith.trainers.findings import Case, error, ok, warn
from draftsmith.trainers.layers import MIN_LAYERS, default_layers, to_specforge
from draftsmith.trainers.target_config import read_rope

ROPE_TOLERANCE = 1e-6


def check_layers(case: Case) -> Iterator[Finding]:
    """The layers it reads: there, in order, in range, and in the engine's notation."""
    draft, depth = case.draft, case.target.num_layers
    ids = draft.layer_ids
    if ids is None:
        yield _absent(draft)
        return
    shown = list(ids)
    findings = []
    if tuple(sorted(set(ids))) != ids:
        findings.append(
            error(
                "layers",
                f"layer ids {shown} are not sorted and unique; the engine sorts them, so the draft would read its "
                "features in another order than it was trained on",
                f"train with sorted ids and write {sorted(set(ids))}",
            )
        )
    if min(ids) < 0 or max(ids) > depth:
        findings.append(
            error("layers", f"layer ids {shown} go beyond the target's {depth} layers", f"use ids from 0 to {depth}")
        )
    if draft.layer_ids_key == f"eagle_config.{AUX}" and case.engine == "vllm":
        findings.append(
            error(
                "layers",
                "the layer ids stand inside eagle_config, where some runners of the engine do not look",
                f"write them at the top of config.json as {AUX}",
            )
        )
    if case.manifest and case.manifest.layer_ids != ids:
        findings.append(
            error(
                "layers",
                f"config.json says layers {shown}, the manifest {list(case.manifest.layer_ids)}",
                "package the checkpoint again",
            )
        )
    shifted = _off_by_one(ids, depth)
    if shifted:
        findings.append(shifted)
    yield from findings or [ok("layers", f"reads the residual stream after {shown} of {depth} layers")]
    if draft.method != "dflash" and not case.manifest and depth >= MIN_LAYERS and not shifted:
        usual = default_layers(depth)
        if ids != usual:
            yield warn(
                "layers",
                f"layers {shown} are not the usual {list(usual)}, and no manifest says that they are meant",
                "compare with the layers it was trained on",
            )


def _absent(draft: Draft) -> Finding:
    if draft.form == "plain" and draft.method == "eagle3":
        return warn(
            "layers",
            "config.json names no layers, so the engine takes its default (2, L//2, L-3)",
            f"write {AUX} at the top of config.json",
        )
    return error(
        "layers",
        "config.json names no layers to read: the server starts healthy and acceptance is near zero",
        f"write {AUX if draft.method != 'dflash' else 'the layer ids'} as the draft was trained",
    )


def _off_by_one(ids: tuple[int, ...], depth: int) -> Finding | None:
    if depth < MIN_LAYERS:
        return None
    usual = default_layers(depth)
    if ids == to_specforge(usual):
        return error(
            "layers",
            f"layer ids {list(ids)} are the default layers in SpecForge's notation (output of layer k); the engine "
            "reads them one layer too early",
            f"write {list(usual)} (input of layer k)",
        )
    if ids == tuple(layer + 1 for layer in usual):
        return error(
            "layers",
            f"layer ids {list(ids)} are the default layers moved up by one: one was added twice",
            f"write {list(usual)} (input of layer k)",
        )
    return None


def check_sizes(case: Case) -> Iterator[Finding]:
    """Vocabulary and hidden sizes equal the target's."""
    draft, target = case.draft, case.target
    findings = []
    if draft.vocab_size != target.vocab_size:
        findings.append(
            error(
                "sizes",
                f"the draft knows a vocabulary of {draft.vocab_size} tokens, the target has {target.vocab_size}",
                "use a draft trained for this target",
            )
        )
    if draft.target_hidden_size != target.hidden_size:
        findings.append(
            error(
                "sizes",
                f"the draft reads hidden states of width {draft.target_hidden_size}, the target's are "
                f"{target.hidden_size} wide",
                "use a draft trained for this target",
            )
        )
    if draft.draft_vocab_size > draft.vocab_size:
        findings.append(
            error(
                "sizes",
                f"draft_vocab_size {draft.draft_vocab_size} is larger than the vocabulary ({draft.vocab_size})",
                "export the draft again",
            )
        )
    count = _engine_layer_count(draft)
    if draft.layer_ids is not None and count is not None and count != len(draft.layer_ids):
        findings.append(
            error(
                "sizes",
                f"the engine will expect features of {count} layers, and {len(draft.layer_ids)} are named",
                f"write num_aux_hidden_states = {len(draft.layer_ids)} beside hidden_size",
            )
        )
    yield from findings or [
        ok("sizes", f"hidden size {draft.hidden_size}, vocabulary {draft.draft_vocab_size} of {draft.vocab_size}")
    ]


def _engine_layer_count(draft: Draft) -> int | None:
    """How many layers vLLM's Llama-type EAGLE3 sizes its input for; its other drafts count the ids."""
    if draft.method == "dflash" or draft.layer.get("model_type", "llama") != "llama":
        return None
    count = draft.layer.get("num_aux_hidden_states")
    return int(count) if count is not None else 3


def check_switches(case: Case) -> Iterator[Finding]:
    """Settings whose absence means one thing to the trainer and another to the engine."""
    draft = case.draft
    findings = []
    if draft.form == "speculators" and draft.method == "eagle3" and "norm_before_residual" not in draft.config:
        findings.append(
            error(
                "switches",
                "norm_before_residual is not written: the trainer takes that for false, the engine for true",
                "write norm_before_residual = false (the trainer's default), or as it was trained",
            )
        )
    sliding = "sliding_attention" in (draft.layer.get("layer_types") or [])
    unsaid = (
        draft.form == "speculators" and draft.method == "dflash" and "sliding_window_non_causal" not in draft.config
    )
    if sliding and unsaid:
        findings.append(
            error(
                "switches",
                "sliding_window_non_causal is not written: the trainer takes that for false, the engine for true",
                "write sliding_window_non_causal = false (the trainer's default), or as it was trained",
            )
        )
    findings += _block_causality(draft, sliding)
    if draft.method in ("dflash", "peagle"):
        mask = draft.option("mask_token_id", draft.option("pard_token"))
        if type(mask) is not int or not 0 <= mask < draft.vocab_size:
            findings.append(
                error("switches", "mask_token_id is missing or no token of the vocabulary", "export the draft again")
            )
    if draft.form == "plain" and draft.method == "eagle3" and draft.option("norm_output"):
        findings.append(
            warn(
                "switches",
                "norm_output is true: to SpecForge the output head reads normalised states, to the engine normalised "
                "states are fed back as well, which costs acceptance after the first position if it was not trained so",
                "remove norm_output from config.json if SpecForge trained the draft",
            )
        )
    yield from findings or [ok("switches", "every setting that trainer and engine read differently is written out")]
    window = draft.layer.get("sliding_window")
    served = case.served_tokens or case.target.max_position_embeddings
    if sliding and type(window) is int and window < served:
        yield warn(
            "switches",
            f"the draft sees {window} tokens back, contexts go to {served}",
            "expect lower acceptance beyond the window, or train with full attention",
        )


def _block_causality(draft: Draft, sliding: bool) -> list[Finding]:
    """The engine reads one causality for all layers of a DFlash draft; full attention is trained in both directions."""
    if draft.method != "dflash" or draft.form != "speculators":
        return []
    full = not sliding or "full_attention" in (draft.layer.get("layer_types") or [])
    if full and draft.config.get("sliding_window_non_causal") is False:
        return [
            error(
                "switches",
                "sliding_window_non_causal is false and the draft has layers of full attention: they were trained to see "
                "their whole block, the engine lets them see backwards only",
                "write sliding_window_non_causal = true"
                if not sliding
                else "train with full attention in every layer, or with a sliding window in every layer",
            )
        ]
    block = draft.option("block_size")
    if block is not None and (type(block) is not int or block < 2):
        return [error("switches", f"block_size is {block}: nothing would be proposed", "export the draft again")]
    return []


def check_rope(case: Case) -> Iterator[Finding]:
    """Position limits and rotary embedding against the target and what is served."""
    draft, target = case.draft, case.target
    findings = []
    limit = draft.layer.get("max_position_embeddings")
    if type(limit) is not int:
        findings.append(
            error("rope", "max_position_embeddings is not written", "copy it from the target's config.json")
        )
    elif case.served_tokens is not None and limit < case.served_tokens:
        findings.append(
            error(
                "rope",
                f"max_position_embeddings is {limit} and {case.served_tokens} tokens are served: wrong or crashing "
                "beyond it",
                "copy max_position_embeddings from the target, or serve shorter contexts",
            )
        )
    elif limit < target.max_position_embeddings:
        findings.append(
            warn(
                "rope",
                f"max_position_embeddings is {limit}, the target's is {target.max_position_embeddings}",
                "copy it from the target, or serve contexts within the draft's limit only",
            )
        )
    level = error if case.manifest else warn  # a draft made here copies the target's; a foreign one may have its own
    own_rope, target_rope = read_rope(draft.layer), target.rope
    for key in _rope_differences(own_rope, target_rope, draft) if target_rope else ():
        findings.append(
            level(
                "rope",
                f"{key} is {own_rope.get(key, 'not written')}, the target has {target_rope.get(key, 'none')}",
                "copy the rotary settings from the target's config.json as they were in training",
            )
        )
    yield from findings or [ok("rope", "rotary settings and position limit are the target's")]


def _rope_differences(own_rope: dict[str, Any], target_rope: dict[str, Any], draft: Draft) -> list[str]:
    """Keys that are neither the target's nor what a draft for such a target has; by the nearer of the two."""
    dim = int(draft.layer.get("head_dim") or 0)
    shaped = draft_rope(target_rope, dim, dim) if dim else target_rope
    unstretched = {key: value for key, value in own_rope.items() if key != "partial_rotary_factor" or value != 1.0}
    ways = [
        [key for key in sorted({*own_value, *other}) if not _same(own_value.get(key), other.get(key))]
        for own_value, other in ((own_rope, target_rope), (unstretched, shaped))
    ]
    return min(ways, key=len)


def _same(left: object, right: object) -> bool:
    if isinstance(left, int | float) and isinstance(right, int | float):
        return abs(left - right) <= ROPE_TOLERANCE * max(abs(left), abs(right))
    return left == right
