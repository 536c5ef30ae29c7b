"""A draft folder as the engine will read it: the two formats in one shape.

speculators: `speculators_config`, the layer under `transformer_layer_config`.
plain: what SpecForge and the EAGLE3 and DFlash authors publish; the layer's keys at the top, architecture
`LlamaForCausalLMEagle3` or `DFlash...`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from draftsmith.contract.errors import InputError
from draftsmith.trainers.target_config import read_config
from draftsmith.trainers.weights import Tensor, read_tensors, shown, stray_files, weight_files

Method = Literal["eagle3", "dflash", "peagle"]
EngineName = Literal["vllm", "sglang"]
MOST_TENSORS = 20_000  # experts of a draft that is a mixture, with their scales, included
AUX, DFLASH_AUX = "eagle_aux_hidden_state_layer_ids", "aux_hidden_state_layer_ids"


@dataclass(frozen=True)
class Draft:
    """One draft folder. Sizes are counts; `layer_ids` are in engine notation, in the order written, None if absent."""

    folder: Path
    form: Literal["speculators", "plain"]
    method: Method
    config: dict[str, Any]
    layer: dict[str, Any]
    layer_ids: tuple[int, ...] | None
    layer_ids_key: str
    hidden_size: int
    target_hidden_size: int
    vocab_size: int
    draft_vocab_size: int
    tensors: dict[str, Tensor]

    def option(self, key: str, default: Any = None) -> Any:
        """A switch of the draft, wherever this format keeps it."""
        for holder in (self.config, self.config.get("eagle_config"), self.config.get("dflash_config"), self.layer):
            if isinstance(holder, dict) and holder.get(key) is not None:
                return holder[key]
        return default

    def tensor(self, name: str) -> Tensor | None:
        """A tensor by the name that the engine knows it by."""
        return self.tensors.get(name)


def read_draft(folder: Path, engine: EngineName = "vllm") -> Draft:
    """Read config.json and the safetensors headers, as `engine` would. Raises InputError for what no engine could load."""
    config = read_config(folder)
    nested = config.get("transformer_layer_config")
    speculators = "speculators_model_type" in config or "speculators_config" in config
    if speculators and not isinstance(nested, dict):
        raise InputError("config.json has no transformer_layer_config", "export the draft again")
    layer = cast(dict[str, Any], nested) if speculators else config
    method = _method(config)
    files = weight_files(folder)
    if not files:
        raise InputError(f"{folder} has no *.safetensors", "package the draft's checkpoint again")
    if stray := stray_files(folder):
        raise InputError(
            f"{', '.join(shown(path.name) for path in stray)} lies beside the weights: the engine may load it as well, or instead",
            "keep the weights alone in the folder: package the draft's checkpoint again",
        )
    tensors = read_tensors(files)
    if len(tensors) > MOST_TENSORS:
        raise InputError(f"{len(tensors):,} tensors: a draft has a few", "point to the folder of a draft")
    hidden = _size(layer, "hidden_size")
    vocab = _size(layer, "vocab_size")
    key, ids = _layer_ids(config, method, engine)
    return Draft(
        folder=folder,
        form="speculators" if speculators else "plain",
        method=method,
        config=config,
        layer=layer,
        layer_ids=ids,
        layer_ids_key=key,
        hidden_size=hidden,
        target_hidden_size=_size(config, "target_hidden_size", hidden),
        vocab_size=vocab,
        draft_vocab_size=_size(config, "draft_vocab_size", vocab),
        tensors={name.replace("midlayer.", "layers.0."): t for name, t in tensors.items()},
    )


def _method(config: dict[str, Any]) -> Method:
    named = config.get("speculators_model_type")
    if named in ("eagle3", "dflash", "peagle"):
        return cast(Method, named)
    architectures = " ".join(str(name) for name in config.get("architectures") or [])
    if named is None:
        for word, method in (("dflash", "dflash"), ("peagle", "peagle"), ("eagle3", "eagle3")):
            if word in architectures.lower():
                return cast(Method, method)
        if isinstance(config.get("dflash_config"), dict):
            return "dflash"
    raise InputError(
        f"config.json describes no EAGLE3, P-EAGLE or DFlash draft (it says {named or architectures or 'nothing'})",
        "point to the folder of a draft",
    )


def _layer_ids(config: dict[str, Any], method: Method, engine: EngineName) -> tuple[str, tuple[int, ...] | None]:
    """(where they are written, ids in engine notation). The engine's order of search; SGLang adds one to every id."""
    dflash = config.get("dflash_config")
    eagle = config.get("eagle_config")
    candidates: list[tuple[str, Any, bool]] = [(AUX, config.get(AUX), False)]
    if method == "dflash":
        candidates.append((DFLASH_AUX, config.get(DFLASH_AUX), False))
        if isinstance(dflash, dict):
            candidates.append(("dflash_config.target_layer_ids", dflash.get("target_layer_ids"), True))
    if isinstance(eagle, dict):
        candidates.append((f"eagle_config.{AUX}", eagle.get(AUX), False))
    if engine == "sglang":
        candidates = [(key, value, True) for key, value, _ in reversed(candidates)]
    for key, value, outputs in candidates:
        if value:
            if not isinstance(value, list) or not all(type(item) is int for item in value):
                raise InputError(f"{key} in config.json is no list of layer ids", "write it again as integers")
            return key, tuple(item + 1 for item in value) if outputs else tuple(value)
    return "", None


def _size(config: dict[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if type(value) is not int or value <= 0:
        raise InputError(f"config.json does not say {key}", "export the draft again")
    return value
