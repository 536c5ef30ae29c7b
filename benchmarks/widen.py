"""Widen a small Llama into one that costs what a large one costs and says what the small one says.

    python benchmarks/widen.py SOURCE DEST --shape 8b
    python benchmarks/widen.py SOURCE DEST --hidden 4096 --inner 14336 --heads 64 --kv-heads 8 --layers 32 --check 300

Every weight keeps its values in the upper left of a larger one; what is added is multiplied by zero on its way back to the residual
stream. So a step takes as long as that of a model of the new shape, while tokens, hidden states (padded with zeros) and the
acceptance of drafts stay those of the small model. The new values are random: zeros would flatter power, clocks and compression.

    residual   new channels stay zero: embeddings are padded, o_proj and down_proj write zeros there. RMSNorm sees the same sum of
               squares over more channels: its weight is multiplied by sqrt(old / new), its eps by old / new
    attention  the head size stays. Key head j keeps its query heads at the front of its larger group; new heads reach zero columns
               of o_proj
    MLP        new rows of gate and up are random, their columns of down zero
    depth      added layers have zero o_proj and down_proj and pass the stream through. Neighbours of such a layer have equal hidden
               states, which the probe of a capture cannot tell apart: add layers for cost alone

SOURCE: a folder with config.json and safetensors of a Llama, Mistral, Qwen2 or Qwen3 (biases, q and k norms, tied or own head).
DEST gets the same files with larger weights, one shard a layer. `--check N` compares the next token of both at N positions of a
fixed text with transformers, on a GPU if there is one, and fails below 98 % equal.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
SCALED = ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling")
LEAST_EQUAL = 0.98
CHECK_TEXT = (
    "The ferry leaves at nine and takes forty minutes. Each of the three classes has twenty-four pupils, and every teacher "
    "brings two helpers. A ticket costs 6.50 for a child and 11 for an adult. How much does the whole trip cost? "
    '{"name": "Ada", "rooms": 2, "from": "2025-03-04", "to": "2025-03-09", "breakfast": true} '
)


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama: channels of the residual stream, of the MLP, heads of queries, heads of keys, layers."""

    hidden: int
    inner: int
    heads: int
    kv_heads: int
    layers: int


SHAPES = {  # hidden size, MLP and depth of published models; the head size is the small model's, so there are more heads
    "1b": Shape(2048, 8192, 32, 8, 30),
    "8b": Shape(4096, 14336, 64, 8, 30),
    "14b": Shape(5120, 17408, 80, 8, 40),
    "32b": Shape(5120, 25600, 80, 8, 64),
}


def main() -> int:
    """Widen as the command line says. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("dest", type=Path)
    parser.add_argument("--shape", choices=SHAPES, help="sizes of a published model; single options win")
    for name in ("hidden", "inner", "heads", "kv-heads", "layers"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--seed", type=int, default=0, help="of the random values that change nothing")
    parser.add_argument("--check", type=int, default=0, metavar="N", help="compare the next token at N positions")
    options = parser.parse_args()
    config = json.loads((options.source / "config.json").read_text())
    start = SHAPES[options.shape] if options.shape else shape_of(config)
    chosen = {name: getattr(options, name) or getattr(start, name) for name in Shape.__dataclass_fields__}
    widen(options.source, options.dest, Shape(**chosen), seed=options.seed)
    size = sum(path.stat().st_size for path in options.dest.glob("*.safetensors"))
    line: dict[str, Any] = {"shape": chosen, "gib": round(size / 2**30, 2)}
    if options.check:
        line["next_token_equal"] = equal_tokens(options.source, options.dest, options.check)
    print(json.dumps(line))
    return int(options.check > 0 and line["next_token_equal"] < LEAST_EQUAL * options.check)


def shape_of(config: dict[str, Any]) -> Shape:
    """The sizes that a config.json names."""
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    return Shape(config["hidden_size"], config["intermediate_size"], heads, kv_heads, config["num_hidden_layers"])


def widen(source: Path, dest: Path, shape: Shape, *, seed: int = 0) -> Path:
    """Write the widened model to `dest`, config.json last. Raises ValueError where the function cannot be preserved."""
    config = json.loads((source / "config.json").read_text())
    old = shape_of(config)
    _require(config, old, shape)
    dest.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_file() and path.name != "config.json" and ".safetensors" not in path.name:
            shutil.copy(path, dest / path.name)
    tensors = _Tensors(source)
    random = torch.Generator().manual_seed(seed)
    head_dim = config.get("head_dim") or old.hidden // old.heads
    wide = _Wide(old, shape, head_dim, random)
    index: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(_shards(tensors, old, shape)):
        name = f"model-{number:05}.safetensors"
        widened = {new: wide.tensor(new, tensors.get(kept), passes) for new, kept, passes in shard}
        save_file(widened, dest / name, metadata={"format": "pt"})
        index |= dict.fromkeys(widened, name)
        total += sum(tensor.nbytes for tensor in widened.values())
    text = {"metadata": {"total_size": total}, "weight_map": index}
    (dest / "model.safetensors.index.json").write_text(json.dumps(text, indent=1))
    sizes = {
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "num_hidden_layers": shape.layers,
        "head_dim": head_dim,
        "rms_norm_eps": config["rms_norm_eps"] * old.hidden / shape.hidden,
    }
    if "layer_types" in config:
        sizes["layer_types"] = [config["layer_types"][min(n, old.layers - 1)] for n in range(shape.layers)]
    (dest / "config.json").write_text(json.dumps(config | sizes, indent=2) + "\n")
    return dest


def _require(config: dict[str, Any], old: Shape, new: Shape) -> None:
    """Raise ValueError where what is asked for would be another function."""
    family = config.get("architectures", ["none"])[0]
    if family not in FAMILIES:
        raise ValueError(f"{family} is none of {', '.join(FAMILIES)}")
    if scaled := [name for name in SCALED if config.get(name, 1) != 1]:
        raise ValueError(f"{', '.join(scaled)}: scaled residuals are not covered")
    if config.get("quantization_config"):
        raise ValueError("quantised weights cannot be widened: start from the 16-bit model")
    if small := [name for name in Shape.__dataclass_fields__ if getattr(new, name) < getattr(old, name)]:
        raise ValueError(f"{', '.join(small)}: smaller than the source's")
    if new.heads % new.kv_heads or new.heads // new.kv_heads < old.heads // old.kv_heads:
        raise ValueError(
            f"{new.heads} query heads on {new.kv_heads} key heads: each key head needs a whole number of them, and at least "
            f"the source's {old.heads // old.kv_heads}"
        )
    if new.hidden % new.heads:
        raise ValueError(
            f"hidden size {new.hidden} is no multiple of {new.heads} query heads, which transformers asks for"
        )


class _Tensors:
    """The source's tensors by name, read when asked for."""

    def __init__(self, folder: Path) -> None:
        self._files = {}
        for path in sorted(folder.glob("*.safetensors")):
            opened = safe_open(path, framework="pt")
            self._files.update(dict.fromkeys(opened.keys(), opened))
        if not self._files:
            raise ValueError(f"{folder} holds no safetensors")

    def names(self) -> list[str]:
        return sorted(self._files)

    def get(self, name: str) -> torch.Tensor:
        return self._files[name].get_tensor(name)


def _shards(tensors: _Tensors, old: Shape, new: Shape) -> Iterator[list[tuple[str, str, bool]]]:
    """Tensors that go into one file: (new name, name in the source, whether its layer only passes the stream through).

    Added layers stand behind the last one, and are made from it: what precedes them keeps its number.
    """
    names = tensors.names()
    yield [(name, name, False) for name in names if not name.startswith("model.layers.")]
    for layer in range(new.layers):
        kept = min(layer, old.layers - 1)
        prefix = f"model.layers.{kept}."
        yield [
            (f"model.layers.{layer}.{name.removeprefix(prefix)}", name, layer != kept)
            for name in names
            if name.startswith(prefix)
        ]


class _Wide:
    """How each kind of tensor grows."""

    def __init__(self, old: Shape, new: Shape, head_dim: int, random: torch.Generator) -> None:
        self._old, self._new, self._head, self._random = old, new, head_dim, random
        self._norm = math.sqrt(old.hidden / new.hidden)

    def tensor(self, name: str, kept: torch.Tensor, passes: bool) -> torch.Tensor:
        """The tensor `name`, grown from `kept`; `passes`: of a layer that only passes the stream through."""
        old, new = self._old, self._new
        kind = name.removesuffix(".weight").removesuffix(".bias").rsplit(".", 1)[-1]
        bias = name.endswith(".bias")
        if kind in ("embed_tokens", "lm_head"):
            return self._columns(kept, new.hidden, zero=kind == "embed_tokens")
        if kind in ("q_norm", "k_norm"):
            return kept.clone()  # over one head, whose size stays
        if kind.endswith("norm"):
            return torch.cat([kept.float() * self._norm, torch.ones(new.hidden - old.hidden)]).to(kept.dtype)
        if kind in ("q_proj", "k_proj", "v_proj"):
            rows = self._rows_of_queries(kept) if kind == "q_proj" else self._rows(kept, new.kv_heads * self._head)
            return rows if bias else self._columns(rows, new.hidden)
        if kind in ("gate_proj", "up_proj"):
            rows = self._rows(kept, new.inner)
            return rows if bias else self._columns(rows, new.hidden)
        if kind in ("o_proj", "down_proj"):
            written = self._written(kept, kind, bias)
            return torch.zeros_like(written) if passes else written
        raise ValueError(f"{name}: a tensor of no known kind")

    def _noise(self, like: torch.Tensor, *size: int) -> torch.Tensor:
        return (torch.randn(*size, generator=self._random) * like.float().std()).to(like.dtype)

    def _rows(self, kept: torch.Tensor, rows: int) -> torch.Tensor:
        return torch.cat([kept, self._noise(kept, rows - kept.shape[0], *kept.shape[1:])])

    def _columns(self, kept: torch.Tensor, columns: int, *, zero: bool = False) -> torch.Tensor:
        size = (kept.shape[0], columns - kept.shape[1])
        return torch.cat([kept, kept.new_zeros(size) if zero else self._noise(kept, *size)], dim=1)

    def _rows_of_queries(self, kept: torch.Tensor) -> torch.Tensor:
        """[heads * head, ...] -> [new heads * head, ...]: old query heads stay with their key head, at the front of its group."""
        grown = self._noise(kept, self._new.heads * self._head, *kept.shape[1:])
        for old, place in self._query_places():
            grown[place : place + self._head] = kept[old : old + self._head]
        return grown

    def _query_places(self) -> Iterator[tuple[int, int]]:
        """(first row of an old query head, its first row among the new ones)."""
        group, wider = self._old.heads // self._old.kv_heads, self._new.heads // self._new.kv_heads
        for head in range(self._old.heads):
            yield head * self._head, (head // group * wider + head % group) * self._head

    def _written(self, kept: torch.Tensor, kind: str, bias: bool) -> torch.Tensor:
        """What writes to the residual stream: zeros in new channels, and zeros for what is new."""
        old, new = self._old, self._new
        if bias:
            return torch.cat([kept, kept.new_zeros(new.hidden - old.hidden)])
        grown = kept.new_zeros(new.hidden, new.heads * self._head if kind == "o_proj" else new.inner)
        if kind == "down_proj":
            grown[: old.hidden, : old.inner] = kept
            return grown
        for first, place in self._query_places():
            grown[: old.hidden, place : place + self._head] = kept[:, first : first + self._head]
        return grown


def equal_tokens(source: Path, dest: Path, positions: int) -> int:
    """At how many of so many positions both models name the same next token, by transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    ids = tokenizer(CHECK_TEXT * (positions // 60 + 1), return_tensors="pt").input_ids[:, :positions]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sentences = []
    for folder in (source, dest):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").to(device).eval()
        with torch.inference_mode():
            sentences.append(model(ids.to(device)).logits.argmax(-1).cpu())
        del model
    return int((sentences[0] == sentences[1]).sum())


if __name__ == "__main__":
    sys.exit(main())
