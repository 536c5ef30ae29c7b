"""The two ends of a target from its safetensors: embeddings, final norm and output head, without the layers between.

For targets that do not fit this machine's memory, that transformers does not know, or that it cannot run here (FP8 on a
CPU). The head is read a block of rows at a time where it is large, so memory stays bounded whatever the model's size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from draftsmith.trainers import weights as files
from draftsmith.trainers.draft_shape import NORM_EPS
from draftsmith.trainers.stand_in import NORM_FROM_ONE, find_ends
from draftsmith.trainers.target_config import read_config, text_config

ROWS = 8192  # of the head, in memory at once
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F8_E4M3": torch.float8_e4m3fn}
# Families whose final norm subtracts the mean; the others' divides by the root mean square alone.
CENTRED = frozenset(
    ["bloom", "cohere", "cohere2", "cohere2_moe", "falcon", "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "mpt", "nemotron", "opt",
     "phi", "phimoe", "stablelm", "starcoder2"]
)  # fmt: skip
SCALES = ("_scale_inv", "_scale")


class Ends:
    """Norm and head as the engine applies them after the last layer. Raises InputError if they cannot be found."""

    def __init__(self, target: Path) -> None:
        config = read_config(target)
        self.text: dict[str, Any] = {**config, **text_config(config)}
        self.num_layers, self.hidden_size = int(self.text["num_hidden_layers"]), int(self.text["hidden_size"])
        self.tensors = files.read_tensors(files.weight_files(target))
        ends = find_ends(self.tensors)
        self._embeddings, self._head = ends.embeddings, ends.head or ends.embeddings
        kinds = {str(config.get("model_type")), str(text_config(config).get("model_type"))}
        weight = self._read(ends.norm).float()
        self._norm = weight + 1 if kinds & (NORM_FROM_ONE | {"nemotron"}) else weight
        bias = self.tensors.get(ends.norm.name.removesuffix("weight") + "bias")
        self._bias = self._read(bias).float() if bias is not None else None
        self._centred = bool(kinds & CENTRED) or bias is not None
        self._eps = next((float(self.text[key]) for key in NORM_EPS if self.text.get(key) is not None), 1e-6)

    def normed(self, states: Tensor) -> Tensor:
        """States before the final norm [N, H] after it, float32."""
        values = states.float()
        if self._centred:
            values = values - values.mean(1, keepdim=True)
        values = values * torch.rsqrt(values.pow(2).mean(1, keepdim=True) + self._eps) * self._norm
        return values if self._bias is None else values + self._bias

    def logits(self, states: Tensor) -> Tensor:
        """[N, V] float32 from states before the final norm [N, H], scaled and capped as the target says."""
        normed, parts = self.normed(states), []
        for start in range(0, self._head.shape[0], ROWS):
            parts.append(normed @ self._read(self._head, start, ROWS).float().T)
        logits = torch.cat(parts, 1)
        logits = logits / float(self.text.get("logits_scaling") or 1) * float(self.text.get("logit_scale") or 1)
        cap = self.text.get("final_logit_softcapping")
        return torch.tanh(logits / cap) * cap if cap else logits

    def embedded(self, ids: tuple[int, ...]) -> Tensor:
        """Rows [T, H] of the embeddings, before any scaling, float32."""
        return torch.cat([self._read(self._embeddings, token, 1).float() for token in ids])

    def _read(self, tensor: files.Tensor, start: int = 0, rows: int | None = None) -> Tensor:
        """Rows of a tensor, dequantised where a scale stands beside it."""
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{files.shown(tensor.name)} is stored as {tensor.dtype}")
        width = tensor.size // tensor.shape[0]
        count = tensor.shape[0] - start if rows is None else min(rows, tensor.shape[0] - start)
        with tensor.file.open("rb") as source:
            source.seek(tensor.start + start * width)
            raw = bytearray(source.read(count * width))
        values = torch.frombuffer(raw, dtype=DTYPES[tensor.dtype]).reshape(count, *tensor.shape[1:])
        if tensor.dtype != "F8_E4M3":
            return values
        scale = next((s for end in SCALES if (s := self.tensors.get(tensor.name + end)) is not None), None)
        if scale is None:
            raise ValueError(f"{files.shown(tensor.name)} is in 8 bits and has no scale")
        return values.float() * _spread(self._read(scale).float(), tensor.shape, start, count)


def _spread(scale: Tensor, shape: tuple[int, ...], start: int, count: int) -> Tensor:
    """A scale for the whole, for rows, or for blocks, for each value of `count` rows from `start` on."""
    if scale.numel() == 1:
        return scale.reshape(1, 1)
    if scale.ndim == 1 or scale.shape[1] == 1:
        return scale.reshape(-1, 1)[start : start + count]
    down, across = -(-shape[0] // scale.shape[0]), -(-shape[1] // scale.shape[1])
    rows = scale[torch.arange(start, start + count) // down]
    return rows.repeat_interleave(across, 1)[:, : shape[1]]
