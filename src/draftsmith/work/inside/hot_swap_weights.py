"""The weights of a draft for a hot swap: read once, checked before anything is touched, named as the live model names them.

Needs torch and safetensors, no engine. Raises RefusedDraftError, with a sentence, for what must not be loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

WEIGHTS = "model.safetensors"
# Parts that the live model keeps as one tensor: name in the file -> (name in the model, place in it).
FUSED = {
    "q_proj": ("qkv_proj", 0), "k_proj": ("qkv_proj", 1), "v_proj": ("qkv_proj", 2),
    "gate_proj": ("gate_up_proj", 0), "up_proj": ("gate_up_proj", 1),
}  # fmt: skip
# What may differ between two drafts of one shape: who wrote them, with which versions.
FREE_KEYS = frozenset({"speculators_version", "transformers_version", "dtype", "torch_dtype", "_name_or_path"})
SHARED = ("embed_tokens.weight", "lm_head.weight")

Tensors = dict[str, torch.Tensor]
Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]


class RefusedDraftError(ValueError):
    """This draft must not replace the one that serves."""


def read(folder: Path, root: Path, sha256: str) -> tuple[dict[str, Any], Tensors]:
    """config.json and tensors of a draft under `root`. The bytes that are parsed are those that were hashed."""
    if not folder.resolve().is_relative_to(root.resolve()):
        raise RefusedDraftError("drafts are read under the configured folder only")
    try:
        data = (folder / WEIGHTS).read_bytes()
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tensors = load(data)
    except Exception as error:  # a missing file, a truncated one, JSON that is none
        raise RefusedDraftError(f"the draft cannot be read ({type(error).__name__})") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise RefusedDraftError(f"the digest of {WEIGHTS} is {digest[:12]}, and {sha256[:12]} was announced")
    return config, tensors


def shapes(tensors: Tensors) -> Shapes:
    """Shape and type of every tensor."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def check(
    config: Mapping[str, Any],
    tensors: Tensors,
    serving: Mapping[str, Any],
    expected: Shapes,
    shared: Tensors,
    vocab: int,
) -> None:
    """Raise RefusedDraftError unless the draft can take the place of the one that serves.

    `serving`, `expected`: config and shapes of that one; `shared`: weights that are the target's own, which a draft with
    other ones would overwrite; `vocab`: size of the target's vocabulary.
    """
    keys = (config.keys() | serving.keys()) - FREE_KEYS
    if changed := sorted(key for key in keys if config.get(key) != serving.get(key)):
        raise RefusedDraftError(f"config.json differs from the serving draft's in {', '.join(changed)}")
    shapes_read = shapes(tensors)
    if wrong := sorted(
        name for name in shapes_read.keys() | expected.keys() if shapes_read.get(name) != expected.get(name)
    ):
        raise RefusedDraftError(
            f"tensors differ from the serving draft's in name, shape or type: {', '.join(wrong[:4])}"
        )
    if bad := sorted(n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())):
        raise RefusedDraftError(f"values that are no numbers in {', '.join(bad[:4])}")
    _check_map(tensors, vocab)
    for name, weight in shared.items():
        if name in tensors and not torch.equal(tensors[name].to(weight.dtype), weight.cpu()):
            raise RefusedDraftError(f"{name} is shared with the target, and the draft brings another one")


def _check_map(tensors: Tensors, vocab: int) -> None:
    if "d2t" not in tensors:
        return
    targets = torch.arange(len(tensors["d2t"])) + tensors["d2t"]
    if int(targets.min()) < 0 or int(targets.max()) >= vocab or len(targets.unique()) != len(targets):
        raise RefusedDraftError("d2t is no one-to-one map into the target's vocabulary")
    if "t2d" in tensors and not torch.equal(tensors["t2d"].nonzero().flatten(), targets.sort().values):
        raise RefusedDraftError("d2t and t2d disagree")


def fused(tensors: Tensors) -> Tensors:
    """Names and layout of the live model on one rank. `t2d` is left out: the engine reads it nowhere."""
    whole: Tensors = {}
    parts: dict[str, dict[int, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name == "t2d":
            continue
        if name == "d2t":
            whole["draft_id_to_target_id"] = tensor
            continue
        full = name.replace("midlayer.", "layers.0.")
        full = full if full.startswith("lm_head") else f"model.{full}"
        part = next((part_name for part_name in FUSED if f".{part_name}." in full), None)
        if part is None:
            whole[full] = tensor
        else:
            into, place = FUSED[part]
            parts.setdefault(full.replace(part, into), {})[place] = tensor
    return whole | {name: torch.cat([pieces[at] for at in sorted(pieces)]) for name, pieces in parts.items()}


def digest(tensors: Tensors) -> str:
    """sha256 over names, types, shapes and bytes. A zero has no sign: one that is read back through a layer has lost it."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        tensor = tensor + 0 if tensor.is_floating_point() else tensor
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def live(model: torch.nn.Module) -> Tensors:
    """The tensors that a live draft computes with.

    On a CPU a linear layer's weight lies packed in a kernel's own layout: the identity matrix is sent through the layer,
    and what comes out is the weight, exactly.
    """
    with torch.inference_mode():
        return {
            f"{place}.{key}" if place else key: _plain(place, module, key, value).detach().contiguous()
            for place, module in model.named_modules()
            for key, value in module.named_parameters(recurse=False)
        }


def _plain(place: str, module: torch.nn.Module, key: str, value: torch.Tensor) -> torch.Tensor:
    """A parameter as it stands in a file."""
    kernel = getattr(module, "cpu_linear", None)
    if kernel is None or key != "weight" or (value.dim() == 2 and "lm_head" not in place):
        return value
    size = getattr(module, "input_size_per_partition", None) or getattr(module, "input_size", None)
    width = value.shape[1] if value.dim() == 2 else int(size or 0)
    plain: torch.Tensor = kernel(torch.eye(width, dtype=value.dtype), value, None).t()
    return plain


def as_live(wanted: Tensors, have: Tensors) -> Tensors:
    """`wanted` in the types of the live model, and as long: a vocabulary may be padded at the end."""
    tensors: Tensors = {}
    for name, tensor in wanted.items():
        live_one = have[name].cpu()
        tensor = tensor.to(live_one.dtype)
        tensors[name] = torch.cat([tensor, live_one[len(tensor) :]]) if len(tensor) < len(live_one) else tensor
    return tensors


def difference(wanted: Tensors, have: Tensors) -> str | None:
    """Why the live tensors are not those of a file, in words; None if they are. Vocabulary may be padded at the end."""
    if missing := sorted(wanted.keys() - have.keys()):
        return f"not in the live model: {', '.join(missing[:4])}"
    unequal = sorted(n for n in wanted if not torch.equal(wanted[n].to(have[n].dtype), have[n][: len(wanted[n])].cpu()))
    return f"the live model has other values in {', '.join(unequal[:4])}" if unequal else None
