"""What a release of SpecForge knows: chat templates by name, and the flags of its capture script.

`python tests/trainers/renew_specforge_lists.py CHECKOUT` writes specforge_lists.json from a checkout, without running it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from draftsmith.contract.errors import DraftsmithError, InputError
from draftsmith.trainers.weights import read_object

# Marks of a target's own template -> SpecForge's name, the first that is there. Families that share marks are distinguished by model_type.
BY_TYPE = {
    "deepseek_v3": "deepseek-v3", "deepseek_v32": "deepseek-v32", "deepseek_v2": "deepseek-v2", "glm_moe_dsa": "glm-5.2", "gpt_oss": "gpt-oss",
    "kimi_k2": "kimi-k2-instruct", "kimi_k3": "kimi-k3-thinking", "llama4": "llama4", "llama4_text": "llama4", "phi3": "phi3",
    "gemma3": "gemma", "gemma3_text": "gemma", "qwen3_next": "qwen3-next-thinking", "lfm2": "lfm", "lfm2_moe": "lfm",
    "longcat_flash": "longcat",
}  # fmt: skip
QWEN3 = ("qwen3", "qwen3_moe", "qwen3_vl", "qwen3_vl_moe", "qwen3_vl_text", "qwen3_vl_moe_text")
BY_MARK = (("<|start_header_id|>", "llama3"), ("<|im_start|>", "qwen"), ("<start_of_turn>", "gemma"))
THINKS = "<think>"


@lru_cache(maxsize=1)
def lists() -> dict[str, Any]:
    """`release`, `templates`, `capture_flags` and `capture_switches` (flags without a value)."""
    lists: dict[str, Any] = orjson.loads(Path(__file__).with_name("specforge_lists.json").read_bytes())
    return lists


def require_template(name: str, known: Iterable[str] | None = None) -> str:
    """`name`, if SpecForge has it. Raises InputError with the names that it has."""
    names = sorted(known or lists()["templates"])
    if name not in names:
        raise InputError(
            f"SpecForge {lists()['release']} has no chat template {name!r}; it has {', '.join(names)}",
            "choose one of these, or register it in your SpecForge (specforge/data/template.py) and say --own-template",
        )
    return name


def template_of(target: Path, config: Mapping[str, Any], model_type: str) -> str:
    """SpecForge's name of the template that the target's own looks like. Raises InputError where none does."""
    kinds = (model_type, str(config.get("model_type")))
    own = _own_template(target)
    if any(kind in QWEN3 for kind in kinds):
        return "qwen3-thinking" if THINKS in own else "qwen3-instruct"
    if any(kind.startswith("qwen3_5") for kind in kinds):
        return "qwen3.5"
    named = next((BY_TYPE[kind] for kind in kinds if kind in BY_TYPE), None)
    named = named or next((name for mark, name in BY_MARK if mark in own), None)
    if named is None:
        raise InputError(
            f"which of SpecForge's chat templates is {target.name}'s cannot be told",
            f"name it: --chat-template NAME, one of {', '.join(sorted(lists()['templates']))}",
        )
    return named


def _own_template(target: Path) -> str:
    file = target / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    try:
        template = read_object(target / "tokenizer_config.json").get("chat_template")
    except DraftsmithError:
        return ""
    return str(template or "")
