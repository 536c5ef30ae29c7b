"""Which precision a target may have: hidden states are captured from BF16 (or 16-bit) and from FP8 base models.

A draft learns the states it is shown. Those of an int4 or NVFP4 serving copy are off by the copy's rounding, and
capture engines often run such a copy in another precision than serving does: a draft trained on them loses acceptance
for no visible reason. Train on the base model; the draft serves with its quantised copies too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.trainers.weights import Tensor, read_object

PACKED_SUFFIXES = (".qweight", ".weight_packed", ".weight_scale_2", ".absmax", ".qzeros")
FP8_METHODS = frozenset({"fp8", "fbgemm_fp8", "finegrained_fp8"})
# Released in this form; there is no BF16 original to train on.
NATIVE = {"mxfp4": frozenset({"GptOssForCausalLM"})}


def training_precision(path: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str | None:
    """None for an unquantised target, "fp8" (or "mxfp4") for one that is released so.

    Raises InputError for a quantised serving copy.
    """
    declared = config.get("quantization_config") or _nested(config)
    if declared is not None and not isinstance(declared, dict):
        raise InputError("quantization_config in config.json is no object", "download config.json again")
    exported = path / "hf_quant_config.json"
    if exported.is_file():
        inner = read_object(exported).get("quantization")
        algorithm = inner.get("quant_algo") if isinstance(inner, dict) else inner
        if algorithm is not None:
            if not _eight_bit(str(algorithm)):
                raise _refused(path, f"hf_quant_config.json says {algorithm}")
            return "fp8"
        # null: only the KV cache is quantised, the weights are those of the base model
    if declared:
        return _declared(path, config, declared)
    packed = next((name for name in tensors if name.endswith(PACKED_SUFFIXES)), None)
    if packed:
        raise _refused(path, f"it has packed weights, such as {packed}")
    return None


def serving_precision(path: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str | None:
    """As `training_precision`; of a quantised serving copy, which trains nothing here, the word for it."""
    try:
        return training_precision(path, config, tensors)
    except InputError:
        quantisation = config.get("quantization_config") or _nested(config)
        words = (
            [quantisation.get("quant_algo"), quantisation.get("quant_method")] if isinstance(quantisation, dict) else []
        )
        return next((str(word).lower() for word in words if word), "quantised")


def _declared(path: Path, config: Mapping[str, Any], declared: Mapping[str, Any]) -> str | None:
    method = str(declared.get("quant_method") or "").lower()
    algorithm = declared.get("quant_algo")
    if method in FP8_METHODS:
        return "fp8"
    named = config.get("architectures")
    if method in NATIVE and isinstance(named, list) and NATIVE[method] & set(map(str, named)):
        return method
    if method in ("modelopt", ""):
        if algorithm is None and "quant_algo" in declared:
            return None  # only the KV cache is quantised
        if algorithm is not None and _eight_bit(str(algorithm)):
            return "fp8"
    if method == "compressed-tensors":
        if not declared.get("config_groups") and declared.get("kv_cache_scheme"):
            return None
        if _all_float8(declared):
            return "fp8"
    detail = str(algorithm or declared.get("format") or "")
    bits = declared.get("bits")
    words = " ".join(part for part in (method or "an unnamed method", detail, f"{bits} bit" if bits else "") if part)
    raise _refused(path, f"quantization_config says {words}")


def _eight_bit(algorithm: str) -> bool:
    """FP8 with scales of any grain (per tensor, per channel and token, per block); not FP8 for some weights only."""
    return algorithm.upper().startswith("FP8")


def _all_float8(declared: Mapping[str, Any]) -> bool:
    groups = declared.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        return False
    weights = [group.get("weights") if isinstance(group, dict) else None for group in groups.values()]
    return all(isinstance(w, dict) and w.get("type") == "float" and w.get("num_bits") == 8 for w in weights)


def _nested(config: Mapping[str, Any]) -> Any:
    text = config.get("text_config")
    return text.get("quantization_config") if isinstance(text, dict) else None


def _refused(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path.name} is a quantised serving copy ({reason}): its hidden states are rounded, and a draft trained on "
        "them loses acceptance",
        "train on the BF16 or FP8 base model it was made from; the draft then serves with the copy as well",
    )
