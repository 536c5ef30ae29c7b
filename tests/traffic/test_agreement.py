"""Text and token ids of one answer are recognised as such, whatever parsers and templates did in between."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.errors import InputError
from draftsmith.profiling.profile import build_profile
from draftsmith.traffic.agreement import agrees
from draftsmith.traffic.tokens import load_counter

from .conftest import request

CALL = '{"name":"find_boat","arguments":{"to":"Tir\u00ee, pier 2","at":7,"now":true}}'
ARGUMENTS = json.dumps({"to": "Tir\u00ee, pier 2", "at": 7, "now": True})
# What a model wrote -> what the server's parsers make of it, as the recorder joins it.
WRITTEN: dict[str, tuple[str, str]] = {
    "plain": ("At 21:40.", "At 21:40."),
    "thinking": ("<think>\nThe winter table.\n</think>\n\nAt 21:40.", "\nThe winter table.\n\n\nAt 21:40."),
    "thinking opened by the template": ("The winter table.</think>At 21:40.", "The winter table.\nAt 21:40."),
    "hermes": (f"<tool_call>\n{{'name': 'find_boat', 'arguments': {ARGUMENTS}}}\n</tool_call>", CALL),
    "llama 3": (f'<|python_tag|>{{"name": "find_boat", "parameters": {ARGUMENTS}}}', CALL),
    "pythonic": ("[find_boat(to='Tir\u00ee, pier 2', at=7, now=True)]", CALL),
    "xml": (
        "<tool_call>\n<function=find_boat>\n<parameter=to>\nTir\u00ee, pier 2\n</parameter>\n<parameter=at>\n7\n</parameter>\n"
        "<parameter=now>\ntrue\n</parameter>\n</function>\n</tool_call>",
        CALL,
    ),
    "harmony": (
        "<|channel|>analysis<|message|>The winter table.<|end|><|start|>assistant<|channel|>commentary to=functions.find_boat "
        f"<|constrain|>json<|message|>{ARGUMENTS}<|call|>",
        f"The winter table.\n{CALL}",
    ),
    "deepseek": (
        f"Let me look.<|tool_calls_begin|><|tool_call_begin|>function<|tool_sep|>find_boat\n```json\n{ARGUMENTS}\n```<|tool_call_end|>",
        f"Let me look.\n{CALL}",
    ),
    "a stop string that was cut": ("At 21:40.\nUser: thanks", "At 21:40."),
    "a character that was cut": ("At 21:40 \u4e2d\u6587", "At 21:40 \ufffd\u6587"),
}


def decoder(text: str) -> Any:
    return lambda ids, leave_out: text


@pytest.mark.parametrize("name", WRITTEN)
def test_what_parsers_do_to_an_answer_is_no_disagreement(name: str) -> None:
    wrote, logged = WRITTEN[name]
    assert agrees(logged, None, [1], decoder(wrote)) is True


@pytest.mark.parametrize("name", WRITTEN)
def test_the_text_of_another_answer_is_one(name: str) -> None:
    _, logged = WRITTEN[name]
    assert agrees(logged, None, [1], decoder("Passengers are asked to keep clear of the doors.")) is False


def test_parts_that_a_log_keeps_apart_are_compared_apart() -> None:
    parts = {"reasoning": "Winter.", "text": "At six.", "calls": [{"name": "find_boat", "arguments": '{"to":"Coll"}'}]}
    wrote = "<think>Winter.</think>At six.<tool_call><function=find_boat><parameter=to>Coll</parameter></function></tool_call>"
    assert agrees("x", parts, [1], decoder(wrote)) is True
    assert agrees("x", parts, [1], decoder("<think>Winter.</think>")) is False


def test_without_text_or_ids_there_is_nothing_to_say() -> None:
    assert agrees(None, None, [1], decoder("At six.")) is None
    assert agrees("At six.", None, None, decoder("At six.")) is None
    assert agrees("...", None, [1], decoder("At six.")) is None


def test_one_record_with_foreign_ids_is_counted_and_costs_no_profile(write: Any, tokenizer: Path) -> None:
    counter = load_counter(tokenizer)

    def row(number: int, ids: Sequence[int] | None = None) -> dict[str, Any]:
        made = request(number)
        return {**made, "prompt_token_ids": [1, 2], "output_token_ids": list(ids or counter.encode(made["completion"]))}

    found = build_profile([str(write("a.jsonl", [row(0), row(1, [9_999_999]), row(2)]))], tokenizer=tokenizer)
    assert found.n_requests == 3
    assert [(one.reason, one.lines) for one in found.skipped] == [
        ("token ids outside the tokenizer's vocabulary (kept without them)", ("a.jsonl:2",))
    ]
    with pytest.raises(InputError, match="token id 9999999"):
        build_profile([str(write("b.jsonl", [row(n, [9_999_999]) for n in range(3)]))], tokenizer=tokenizer)
