"""A stand-in for the target, for trainers: what of it a draft's training reads, in the plainest form.

speculators reads a target's configuration through transformers, and of its weights the embeddings, the final norm and
the output head. A target whose class transformers does not know, or whose norm is counted from one, could not be trained
for, or wrongly. So the trainer is shown a folder with these three tensors and a plain Llama configuration of the same
sizes. Hidden states come from the engine; nothing else of the target is asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from draftsmith.contract.errors import InputError
from draftsmith.kit.files import private_dir, write_json
from draftsmith.trainers.draft_shape import draft_shape
from draftsmith.trainers.target_config import read_config, text_config
from draftsmith.trainers.weights import Tensor, read_tensors, shown, weight_files

EMBEDDINGS, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
ENDINGS = {
    EMBEDDINGS: ("embed_tokens.weight", "tok_embeddings.weight", "embeddings.weight", "word_embeddings.weight", "wte.weight", "embed.weight", "embed_in.weight"),
    HEAD: ("lm_head.weight", "output.weight", "embed_out.weight", "unembed.weight", "head.weight"),
    NORM: ("model.norm.weight", "norm_f.weight", "norm.weight", "final_layernorm.weight", "ln_f.weight", "final_norm.weight"),
}  # fmt: skip
INSIDE = (".layers.", ".blocks.", ".h.", "visual", "vision", "audio", "mtp", "encoder", "projector", "eagle")
# Families whose final norm multiplies by 1 + weight: read from their classes in transformers.
NORM_FROM_ONE = frozenset(
    ["gemma", "gemma2", "gemma3", "gemma3_text", "minimax_m3", "minimax_m3_vl", "muse_glimmer", "qwen3_5", "qwen3_5_text",
     "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_next", "qwen4_exp", "recurrent_gemma", "step3p7", "vaultgemma"]
)  # fmt: skip
COPYABLE = ("BF16", "F16", "F32")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
CHUNK = 1 << 24


@dataclass(frozen=True)
class Ends:
    """The tensors at the target's two ends. `head` is None where the embeddings serve as the head."""

    embeddings: Tensor
    norm: Tensor
    head: Tensor | None


def find_ends(tensors: Mapping[str, Tensor]) -> Ends:
    """By their names, as the families spell them. Raises InputError if embeddings or final norm cannot be found."""
    embeddings, norm = _find(tensors, EMBEDDINGS), _find(tensors, NORM)
    if embeddings is None or norm is None:
        missing = "embeddings" if embeddings is None else "final norm"
        raise InputError(
            f"the weights hold no tensor that is known as the {missing}",
            "download the target again: shards may be missing",
        )
    return Ends(embeddings, norm, _find(tensors, HEAD))


def check_ends(tensors: Mapping[str, Tensor], hidden_size: int, vocab_size: int) -> None:
    """Raise InputError if training could not read the target's two ends: said before hours of capture, not after."""
    ends = find_ends(tensors)
    for tensor, shape in (
        (ends.embeddings, (vocab_size, hidden_size)),
        (ends.head, (vocab_size, hidden_size)),
        (ends.norm, (hidden_size,)),
    ):
        if tensor is None:
            continue
        _require_plain(tensor)
        padded = len(tensor.shape) == len(shape) and tensor.shape[0] >= shape[0]
        if not padded or tensor.shape[-1] != shape[-1]:
            raise InputError(
                f"{shown(tensor.name)} is {list(tensor.shape)} and config.json says {list(shape)}",
                "config.json and weights are of two models: download the target again",
            )


def _require_plain(tensor: Tensor) -> None:
    if tensor.dtype not in COPYABLE:
        raise InputError(
            f"{shown(tensor.name)} is stored as {tensor.dtype}; a draft is trained on embeddings and a head of 16 bits",
            "use the BF16 model that the target was made from",
        )


def _find(tensors: Mapping[str, Tensor], wanted: str) -> Tensor | None:
    """The shortest name with a known ending that is not inside a layer, a tower for pictures or sounds, or an MTP head."""
    for ending in (wanted, *ENDINGS[wanted]):
        named = [n for n in tensors if (n == ending or n.endswith("." + ending)) and not _inside(n)]
        if named:
            return tensors[min(named, key=len)]
    return None


def _inside(name: str) -> bool:
    return any(part in f".{name}" for part in INSIDE)


def write_stand_in(target: Path, out: Path) -> Path:
    """Write config.json and model.safetensors of the stand-in into `out`, which is private. Returns `out`.

    Costs two copies of the vocabulary's tensors on disk. Raises InputError for tensors that are missing or packed.
    """
    config = read_config(target)
    text = text_config(config)
    ends = find_ends(read_tensors(weight_files(target)))
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    shape = draft_shape(config)
    layers = text.get("num_hidden_layers", config.get("num_hidden_layers"))
    value: dict[str, Any] = shape.layer_config() | {
        "architectures": config.get("architectures") or [],
        "num_hidden_layers": layers,
        "layer_types": ["full_attention"] * int(layers or 0),
        "tie_word_embeddings": tied or ends.head is None,
        "dtype": "bfloat16",
    }
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if (token := text.get(name, config.get(name))) is not None:
            value[name] = token
    named = [(EMBEDDINGS, ends.embeddings), (NORM, ends.norm)]
    named += [(HEAD, ends.head)] if ends.head is not None else []
    kinds = {str(text.get("model_type")), str(config.get("model_type"))}
    private_dir(out)
    write_json(out / "config.json", value)
    for name in TOKENIZER_FILES:
        if (target / name).is_file():
            shutil.copyfile(target / name, out / name)
    _write(out / "model.safetensors", named, plus_one={NORM} if kinds & NORM_FROM_ONE else set())
    return out


def _write(path: Path, named: Iterable[tuple[str, Tensor]], plus_one: set[str]) -> None:
    """Copy tensors byte by byte under new names; of those in `plus_one` each value plus one, as float32."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts: list[tuple[Tensor, bytes | None]] = []
    place = 0
    for name, tensor in named:
        _require_plain(tensor)
        raw = (_values(tensor) + 1).astype("<f4").tobytes() if name in plus_one else None
        size = len(raw) if raw is not None else tensor.size
        kind = "F32" if raw is not None else tensor.dtype
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [place, place + size]}
        parts.append((tensor, raw))
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = path.with_suffix(".part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for tensor, raw in parts:
            if raw is not None:
                out.write(raw)
                continue
            with tensor.file.open("rb") as source:
                source.seek(tensor.start)
                left = tensor.size
                while left:
                    block = source.read(min(CHUNK, left))
                    if not block:
                        raise InputError(f"{tensor.file.name} is cut off", "download the target again")
                    out.write(block)
                    left -= len(block)
    shutil.move(part, path)


def _values(tensor: Tensor) -> np.ndarray:
    """Values of a 16- or 32-bit float tensor as float32."""
    with tensor.file.open("rb") as source:
        source.seek(tensor.start)
        raw = source.read(tensor.size)
    if tensor.dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").reshape(tensor.shape)
    return np.frombuffer(raw, "<f2" if tensor.dtype == "F16" else "<f4").astype("<f4").reshape(tensor.shape)
