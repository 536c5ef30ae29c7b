"""A draft's folder rewritten for another engine: the weights as they are, config.json in that engine's notation.

Both engines know the same weights by the same names and read `d2t` alike (target id less draft id). What differs is written
in config.json: vLLM takes speculators' nested form or a flat one and counts a layer's residual stream (k = after k layers);
SGLang takes a flat one alone and adds one to every id. What no config can say is refused with the reason.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from draftsmith.contract.errors import InputError
from draftsmith.kit.files import private_dir, write_json
from draftsmith.trainers.draft_config import LAYER_KEYS
from draftsmith.trainers.draft_folder import AUX, Draft, EngineName, read_draft
from draftsmith.trainers.lint_files import MANIFEST
from draftsmith.trainers.weights import INDEX, weight_files

ARCHITECTURE = "LlamaForCausalLMEagle3"
DFLASH_ARCHITECTURE = "DFlashDraftModel"
SWITCHES = ("norm_before_fc", "norm_output", "fc_norm", "norm_before_residual")
BESIDE = (INDEX, MANIFEST, "README.md")


def notation(folder: Path) -> EngineName:
    """Whose notation a draft's folder is in. Raises InputError for no draft."""
    vllm = read_draft(folder)
    if vllm.form == "speculators" or vllm.layer_ids_key == AUX:
        return "vllm"
    return "sglang"


def is_trainers_notation(folder: Path) -> bool:
    """Whether a trainer can start from a draft's folder as it stands. Raises InputError for no draft."""
    return notation(folder) == "vllm"


def convert_draft(folder: Path, out: Path, to: Literal["vllm", "sglang"]) -> Draft:
    """Write the draft in `folder` to the new folder `out` in the notation of `to`, and return it as that engine reads it.

    The manifest is kept: its layer ids have one convention for all engines. Raises InputError if `out` exists, for what is no
    draft, and for a draft that the engine cannot serve as it was trained.
    """
    if out.exists():
        raise InputError(f"{out} exists", "choose another folder, or remove that one")
    draft = read_draft(folder, notation(folder))
    config = for_sglang(draft) if to == "sglang" else for_vllm(draft)
    private_dir(out.parent)
    shop = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for file in (*weight_files(folder), *(folder / name for name in BESIDE)):
            if file.is_file():
                shutil.copyfile(file, shop / file.name)
        write_json(shop / "config.json", config)
        read = read_draft(shop, to)
        if read.layer_ids != draft.layer_ids:
            raise InputError(f"{folder} does not come through as it is", "report this draft's config.json")
        os.rename(shop, out)
    except BaseException:
        shutil.rmtree(shop, ignore_errors=True)
        raise
    return read_draft(out, to)


def for_sglang(draft: Draft) -> dict[str, Any]:
    """config.json as SGLang reads it. Raises InputError with the reason if it cannot serve the draft."""
    if problem := next(iter(obstacles(draft)), None):
        raise InputError(
            f"SGLang cannot serve this draft: {problem}", "serve it with vLLM, or train one that both can serve"
        )
    flat = {key: value for key, value in draft.layer.items() if key in LAYER_KEYS and value is not None}
    rope = draft.layer.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        flat["rope_theta"] = rope["rope_theta"]
    dtype = draft.config.get("dtype") or draft.config.get("torch_dtype") or draft.layer.get("dtype")
    flat |= {"torch_dtype": dtype} if dtype else {}
    ids = [k - 1 for k in draft.layer_ids or ()]
    if draft.method == "dflash":
        own = draft.config.get("dflash_config")
        fields = {
            "target_layer_ids": ids,
            "block_size": draft.option("block_size"),
            "mask_token_id": draft.option("mask_token_id"),
        }
        message = {
            **(own if isinstance(own, dict) else {}),
            **{key: value for key, value in fields.items() if value is not None},
        }
        return {
            **flat,
            "architectures": [DFLASH_ARCHITECTURE],
            "block_size": draft.option("block_size"),
            "dflash_config": message,
        }
    switches = {name: bool(draft.option(name)) for name in SWITCHES}
    config = {
        **flat,
        **switches,
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        "tie_word_embeddings": False,
        # Without a head of its own the draft takes the target's, and says so by a size that is null.
        "draft_vocab_size": draft.draft_vocab_size if draft.tensor("lm_head.weight") else None,
        "eagle_config": {"use_aux_hidden_state": True, "norm_before_fc": switches["norm_before_fc"]},
    }
    if draft.layer_ids is not None:
        config["num_aux_hidden_states"] = len(ids)
        config["eagle_config"][AUX] = ids
    if draft.target_hidden_size != draft.hidden_size:  # the key alone counts there, so a null must not be written
        config["target_hidden_size"] = draft.target_hidden_size
    return config


def for_vllm(draft: Draft) -> dict[str, Any]:
    """config.json of a flat draft as vLLM reads it; one in its notation stays as it is."""
    if draft.form == "speculators" or draft.method == "dflash":
        return dict(draft.config)
    eagle = draft.config.get("eagle_config")
    rest = {key: value for key, value in draft.config.items() if key != "eagle_config"}
    config = {
        **rest,
        **{name: bool(draft.option(name)) for name in SWITCHES},
        **({} if draft.layer_ids is None else {AUX: list(draft.layer_ids)}),
        "draft_vocab_size": draft.draft_vocab_size,
    }
    kept = {key: value for key, value in eagle.items() if key != AUX} if isinstance(eagle, dict) else {}
    return config | ({"eagle_config": kept} if kept else {})


def obstacles(draft: Draft) -> list[str]:
    """Why SGLang could not serve a draft as it was trained, in sentences; empty if it can."""
    reasons = []
    if draft.method == "peagle":
        reasons.append("it drafts all tokens at once (P-EAGLE), which SGLang does not know")
    if draft.layer_ids is None:
        # Without layers an EAGLE3 draft reads the same three in both engines: 2, half of them, all but three.
        reasons += ["its config.json names no layers"] if draft.method != "eagle3" else []
    elif min(draft.layer_ids) < 1:
        reasons.append("it reads the embedding (layer 0), which SGLang's notation cannot name")
    if draft.method == "dflash":
        if "d2t" in draft.tensors:
            reasons.append("it has a vocabulary of its own, and SGLang's DFlash uses the target's")
        elif draft.tensor("lm_head.weight") is not None:
            reasons.append("it has a head of its own, and SGLang's DFlash uses the target's")
        return reasons
    kind = draft.layer.get("model_type", "llama")
    if draft.method == "eagle3" and kind != "llama":
        reasons.append(f"its layer is of type {kind}, and SGLang's EAGLE3 class is a Llama's")
    if draft.tensor("lm_head.weight") is None and draft.draft_vocab_size != draft.vocab_size:
        reasons.append("it has a vocabulary of its own and no head for it")
    if draft.option("embed_requires_grad"):
        reasons.append("its embeddings were trained, and SGLang uses the target's")
    return reasons
