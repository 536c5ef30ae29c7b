"""What a target is, read from its folder: config.json, tokenizer.json and safetensors headers. No weight is loaded.

A folder that could not be trained for is refused here, before an hour of capture, with the reason and what to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from draftsmith.contract.base import digest
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import InputError
from draftsmith.kit.files import sha256_file
from draftsmith.trainers.precision import training_precision
from draftsmith.trainers.weights import Tensor, read_object, read_tensors, sample_digest, weight_files

# Targets whose auxiliary hidden states vLLM 0.32 hands out (its SupportsEagle3 classes) and whose text decoder
# speculators can read. Not there, for example: Gemma 2 and 3, Mixtral, Qwen2-MoE, Phi-2, Falcon.
TEXT_ARCHITECTURES = frozenset(
    [
        "ApertusForCausalLM",
        "Cohere2MoeForCausalLM",
        "DeepseekV2ForCausalLM",
        "DeepseekV3ForCausalLM",
        "Ernie4_5ForCausalLM",
        "Gemma4ForCausalLM",
        "GptOssForCausalLM",
        "GraniteForCausalLM",
        "InternLM3ForCausalLM",
        "LlamaForCausalLM",
        "Llama4ForCausalLM",
        "MiMoForCausalLM",
        "MiniCPMForCausalLM",
        "MiniMaxM2ForCausalLM",
        "Ministral3ForCausalLM",
        "MistralForCausalLM",
        "NemotronHForCausalLM",
        "Phi3ForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "Qwen3NextForCausalLM",
        "Qwen3_5ForCausalLM",
        "Qwen3_5MoeForCausalLM",
    ]
)
MULTIMODAL_ARCHITECTURES = frozenset(
    [
        "Gemma4ForConditionalGeneration",
        "Llama4ForConditionalGeneration",
        "LlavaForConditionalGeneration",
        "Mistral3ForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
    ]
)
ARCHITECTURES = TEXT_ARCHITECTURES | MULTIMODAL_ARCHITECTURES

MTP_KEYS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", "num_mtp_layers")
DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F8_E4M3": "float8_e4m3fn"}
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")


def read_target(path: Path) -> TargetFacts:
    """The facts of the model in folder `path`.

    Raises InputError when the folder is incomplete, of an unsupported architecture, needs code of its own, is a
    quantised serving copy, or has a tokenizer that is not its own.
    """
    if not path.is_dir():
        raise InputError(f"{path} is no folder", "point target to the folder of the served model")
    config = read_config(path)
    text = text_config(config)
    architecture = _architecture(config)
    if any(key == "auto_map" for key, _ in walk(config)):
        raise InputError(
            f"{path.name} asks for code of its own (auto_map in config.json), which Draftsmith never runs",
            "use a model that the engine knows by itself, or remove auto_map if it does know this one",
        )
    tensors = read_tensors(_weights(path))
    quantization = training_precision(path, config, tensors)
    vocab_size = _count(text, config, "vocab_size")
    tokenizer_sha256 = _check_tokenizer(path, text, config, vocab_size)
    return TargetFacts(
        path=str(path.resolve()),
        architecture=architecture,
        model_type=str(text.get("model_type") or config.get("model_type") or "unknown"),
        num_layers=_count(text, config, "num_hidden_layers"),
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
    )


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a folder. Raises InputError if it is missing or no JSON object."""
    if not (path / "config.json").is_file():
        raise InputError(f"{path} has no config.json", "point to a complete Hugging Face style folder")
    return read_object(path / "config.json")


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part that describes the language model: of a multimodal configuration its text_config, else the whole."""
    for key in ("text_config", "llm_config", "thinker_config"):
        nested = config.get(key)
        if isinstance(nested, dict):
            return text_config(nested)
    return dict(config)


def read_rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary embedding in one flat form: rope_theta, rope_type and what scaling adds. Older and newer spellings."""
    parameters = config.get("rope_parameters")
    if isinstance(parameters, dict) and isinstance(parameters.get("full_attention"), dict):
        parameters = parameters["full_attention"]  # one set for each kind of layer
    parameters = dict(parameters) if isinstance(parameters, dict) else {}
    scaling = config.get("rope_scaling")
    rope = {**(scaling if isinstance(scaling, dict) else {}), **parameters}
    kind = rope.pop("type", None)
    rope.setdefault("rope_type", kind or "default")
    if "rope_theta" not in rope and config.get("rope_theta") is not None:
        rope["rope_theta"] = config["rope_theta"]
    return {key: value for key, value in sorted(rope.items()) if value is not None}


def walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of everything nested in a JSON value, itself first."""
    yield key, value
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from walk(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    names = [str(name) for name in named] if isinstance(named, list) else []
    for name in names:
        if name in ARCHITECTURES:
            return name
    raise InputError(
        f"architecture {', '.join(names) or '(none named)'} is not one the engine hands hidden states out of",
        "use one of: " + ", ".join(sorted(TEXT_ARCHITECTURES)) + "; or serve with ngram, suffix or MTP",
    )


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
    return value


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
