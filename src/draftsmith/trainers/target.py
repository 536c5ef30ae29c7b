"""What a target is, read from its folder: config.json, tokenizer.json and safetensors headers. No weight is loaded.

A folder that could not be trained for is refused here, before an hour of capture, with the reason and what to do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from draftsmith.contract.base import digest
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import InputError
from draftsmith.engines.models import KnownModels, shipped
from draftsmith.kit.files import sha256_file
from draftsmith.trainers.model_size import MOST_LAYERS
from draftsmith.trainers.precision import serving_precision, training_precision
from draftsmith.trainers.stand_in import check_ends
from draftsmith.trainers.target_config import read_config, read_rope, text_config, walk
from draftsmith.trainers.weights import Tensor, read_object, read_tensors, sample_digest, weight_files

MTP_KEYS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", "num_mtp_layers")
DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F8_E4M3": "float8_e4m3fn"}
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
INNER_TOWER = re.compile(r"visual|vision|audio|image|encoder|projector|resampler|(^|\.)mtp\.|eagle|draft")
MOST_HEADS = 8  # prediction heads stored as further layers: more are another model's
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")


def read_target(
    path: Path, known: KnownModels | None = None, *, training: bool = True, capture: bool = True
) -> TargetFacts:
    """The facts of the model in folder `path`. `known`: the engine's registry; None = that of a known release.
    `training` False: it is only served, so that its precision and its hidden states do not matter.
    `capture` False: hidden states come from another engine, so that what this one hands out does not matter.

    Raises InputError when the folder is incomplete, of an architecture whose hidden states the engine does not hand
    out, needs code of its own, is a quantised serving copy, or has a tokenizer that is not its own.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no folder", "point target to the folder of the served model")
    config = read_config(path)
    text = text_config(config)
    tensors = read_tensors(_weights(path))
    quantization = training_precision(path, config, tensors) if training else serving_precision(path, config, tensors)
    architecture, warnings = supported(config, known or shipped(), path.name, training=training and capture)
    vocab_size = _count(text, config, "vocab_size")
    tokenizer_sha256 = _check_tokenizer(path, text, config, vocab_size)
    layers = _count(text, config, "num_hidden_layers")
    _check_layers(tensors, layers)
    if training:
        check_ends(tensors, _count(text, config, "hidden_size"), vocab_size)
    return TargetFacts(
        path=str(path.resolve()),
        architecture=architecture,
        model_type=str(text.get("model_type") or config.get("model_type") or "unknown"),
        num_layers=layers,
        hidden_size=_count(text, config, "hidden_size"),
        vocab_size=vocab_size,
        max_position_embeddings=_count(text, config, "max_position_embeddings"),
        dtype=_dtype(text, config, tensors),
        weight_bytes=sum(tensor.size for tensor in tensors.values()),
        quantization=quantization,
        has_mtp=any(isinstance(n := text.get(key, config.get(key)), int) and n > 0 for key in MTP_KEYS)
        or any(name.startswith(("mtp.", "model.mtp.")) for name in tensors),
        tied_embeddings=_tied(text, config, tensors),
        rope=read_rope(text),
        sha256=_identity(config, tokenizer_sha256, tensors),
        tokenizer_sha256=tokenizer_sha256,
        warnings=warnings,
    )


def supported(
    config: Mapping[str, Any], known: KnownModels, name: str = "the target", *, training: bool = True
) -> tuple[str, tuple[str, ...]]:
    """The architecture that the engine serves this config.json as, and what to say of it. Reads no file.

    Raises InputError for a model that the engine does not know, hands out no hidden states of, or could only load with
    the model's own code, which Draftsmith never runs.
    """
    named = config.get("architectures")
    names = [str(item) for item in named] if isinstance(named, list) else []
    shown, engine = ", ".join(names) or "(none named)", str(known)
    architecture = next((item for item in names if item in known.models), None)
    if architecture is None:
        alike = get_close_matches(names[0], known.models, 2, 0.75) if names else []
        like = f" (it knows {' and '.join(alike)})" if alike else ""
        raise InputError(
            f"architecture {shown} is not one that {engine} knows{like}",
            "name the architecture in config.json as the model was published, or set engine.python to an engine that serves it",
        )
    model = known.models[architecture]
    if training and not model.hidden_states:
        raise InputError(
            f"{engine} hands out no hidden states of {architecture}, and a draft is trained on them",
            "compare what needs no training: --method ngram, suffix or deepseek_mtp; a newer engine may hand them out: see engine.python",
        )
    if training and not model.last_state:
        raise InputError(
            f"{engine} on {known.device.upper()} hands out the states between the layers of {architecture}, not the one after "
            "the last layer, on which training rests",
            "capture with SpecForge and SGLang (`draftsmith scaffold`), or compare what needs no training: --method deepseek_mtp, ngram or suffix",
        )
    kind = config.get("model_type")
    own_code = any(key == "auto_map" for key, _ in walk(config))
    if isinstance(kind, str) and known.model_types and kind not in known.model_types:
        code = (
            "only its own code (auto_map), which Draftsmith never runs, can read it"
            if own_code
            else "nobody can read it"
        )
        raise InputError(
            f"{name} has model_type {kind}, which neither {engine} nor its transformers knows: {code}",
            "use a newer engine (engine.python) that knows it by itself",
        )
    if own_code:
        return architecture, (
            f"{name} brings code of its own (auto_map); it is not run: {engine} knows {architecture} by itself",
        )
    return architecture, ()


def _weights(path: Path) -> tuple[Path, ...]:
    files = weight_files(path)
    if files:
        return files
    present = sorted(entry.name for entry in path.iterdir() if entry.suffix in (*PICKLES, ".gguf"))
    if any(name.endswith(".gguf") for name in present):
        raise InputError(
            f"{path} holds GGUF weights, a quantised serving copy: hidden states cannot be captured from it",
            "use the BF16 model it was made from",
        )
    if present:
        raise InputError(
            f"{path} has no safetensors but {present[0]}: pickle files can run code when they are read, so never are",
            "download the safetensors version, or convert it in an environment you trust",
        )
    raise InputError(f"{path} has no *.safetensors", "point target to the folder that holds the weights")


def _count(text: Mapping[str, Any], config: Mapping[str, Any], key: str) -> int:
    value = text.get(key, config.get(key))
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise InputError(f"config.json does not say {key}", "point target to a complete Hugging Face style folder")
    if key == "num_hidden_layers" and value > MOST_LAYERS:
        raise InputError(f"config.json says {value:,} layers: no model has so many", "download config.json again")
    return value


def _check_layers(tensors: Mapping[str, Tensor], layers: int) -> None:
    """Raise InputError if the weights hold the layers 0 to n - 1 of the language model and config.json names another number.

    More are allowed where prediction heads (MTP) are stored behind the last layer. Folders that hold single layers say nothing.
    """
    result = {int(at[1]) for name in tensors if (at := LAYER.search(name)) and not INNER_TOWER.search(name)}
    count = len(result)
    if count < 2 or result != set(range(count)) or layers <= count <= layers + MOST_HEADS:
        return
    if count < layers:
        raise InputError(
            f"the weights hold {count} layers and config.json says {layers}: shards are missing, or it belongs to another model",
            "download the target again",
        )
    raise InputError(
        f"the weights hold {count} layers and config.json says {layers}: it belongs to another model",
        "put the model's own config.json beside its weights",
    )


def _check_tokenizer(path: Path, text: Mapping[str, Any], config: Mapping[str, Any], vocab_size: int) -> str:
    """sha256 of tokenizer.json, after a look at whether it can be this model's own."""
    file = path / "tokenizer.json"
    if not file.is_file():
        raise InputError(
            f"{path} has no tokenizer.json",
            "save it there with AutoTokenizer.from_pretrained(...).save_pretrained(...)",
        )
    highest = _highest_id(file)
    if highest >= vocab_size:
        raise InputError(
            f"the tokenizer has ids up to {highest} and the model ends at {vocab_size - 1}: it belongs to another model",
            "put the served model's own tokenizer.json beside its weights",
        )
    ends = text.get("eos_token_id", config.get("eos_token_id"))
    for end in ends if isinstance(ends, list) else [ends]:
        if isinstance(end, int) and end > highest:
            raise InputError(
                f"the model ends answers with token {end} and the tokenizer stops at {highest}: it belongs to another",
                "put the served model's own tokenizer.json beside its weights",
            )
    return sha256_file(file)


def _highest_id(file: Path) -> int:
    tokenizer = read_object(file)
    model = tokenizer.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    added = tokenizer.get("added_tokens")
    try:
        ids = list(vocab.values()) if isinstance(vocab, dict) else list(range(len(vocab or [])))
        ids += [token["id"] for token in added or []]
        highest = max(int(token_id) for token_id in ids)
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{file} holds no vocabulary", "put the served model's own tokenizer.json there") from error
    return highest


def _dtype(text: Mapping[str, Any], config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    for source in (text, config):
        for key in ("dtype", "torch_dtype"):
            if isinstance(source.get(key), str):
                return str(source[key]).removeprefix("torch.")
    sizes: Counter[str] = Counter()
    for tensor in tensors.values():
        sizes[tensor.dtype] += tensor.size
    return DTYPES.get(most[0][0], most[0][0].lower()) if (most := sizes.most_common(1)) else "bfloat16"


def _tied(text: Mapping[str, Any], config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """By the weights themselves: an own output head that is not there must be the embeddings."""
    if any(name.endswith("lm_head.weight") for name in tensors):
        return bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    return True


def _identity(config: Mapping[str, Any], tokenizer_sha256: str, tensors: Mapping[str, Tensor]) -> str:
    """Covers a sample of every tensor, so that a fine-tune of the same shape is another target, at the cost of a seek."""
    layout = [[name, t.dtype, list(t.shape), sample_digest(t)] for name, t in sorted(tensors.items())]
    return digest({"config": dict(config), "tokenizer": tokenizer_sha256, "weights": layout})
