"""Classes are told by what the answer is made of; words of the request decide only where there is no answer."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftsmith.contract.access import AccessRecord
from draftsmith.traffic.classes import CLASSES, classify, copy_rate
from draftsmith.traffic.languages import language

PASSAGE = "The harbour was built in 1871 by engineers from the north. It was widened twice. " * 12


def record(user: str, said: str | None, system: str = "", **params: Any) -> AccessRecord:
    messages = [{"role": "system", "content": system}] if system else []
    return AccessRecord(id="1", messages=[*messages, {"role": "user", "content": user}], completion=said, params=params)


@pytest.mark.parametrize(
    ("name", "user", "said"),
    [
        ("json", "Book a table for two.", '{"people": 2, "time": null}'),
        ("tools", "Weather?", '{"name": "weather", "arguments": {"city": "Rome"}}'),
        ("code", "Add two numbers.", "```python\ndef add(a, b):\n    return a + b\n```"),
        ("code", "Add two numbers.", "def add(a, b):\n    total = a + b\n    return total"),
        ("sql", "Who has most wins?", "SELECT name FROM t ORDER BY wins DESC LIMIT 1;"),
        ("sql", "Who has most wins?", "Here it is:\n```sql\nSELECT 1 FROM t\n```"),
        ("shell", "Large files here", "find . -size +10M | sort"),
        ("math", "Three boxes of 4 pens?", "3 * 4 = 12 pens, and 12 - 2 = 10 remain.\nAnswer: 10"),
        ("translate", "The house is green and it is big.", "La maison est verte et elle est grande pour nous."),
        ("rewrite", "Fix: the man he go to town yesterday with dogs", "the man went to town yesterday with dogs"),
        ("summarise", f"Summarise this.\n\n{PASSAGE}", "A harbour of 1871, later widened."),
        ("rag", f"Passage: {PASSAGE}\n\nQuestion: when was it built?", "It was built in 1871."),
        ("chat", "I feel sad today.", "I am sorry to hear that. Do you want to talk about it?"),
        ("chat", "Answer in JSON only with keys a", "I would rather not."),
        ("code", "Write a python function that adds.", None),
        ("chat", "Hello there", None),
    ],
)
def test_a_class_is_told_by_its_evidence(name: str, user: str, said: str | None) -> None:
    assert classify(record(user, said)) == name


def test_without_text_there_is_nothing_to_tell() -> None:
    assert classify(AccessRecord(id="1")) == "other"


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=100))
def test_every_text_has_a_class(user: str, said: str, system: str) -> None:
    assert classify(record(user, said, system)) in CLASSES


def test_the_copy_rate_tells_a_copy_from_prose() -> None:
    assert copy_rate(PASSAGE[30:300], PASSAGE) == 1.0
    assert copy_rate("entirely other words that stand nowhere in it", PASSAGE) == 0.0


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "What is the name of the man who was with you?"),
        ("fr", "Le chat est sur la table et il ne veut pas des pommes"),
        ("de", "Der Hund ist nicht auf dem Tisch und wir sind mit ihm"),
        ("ja", "これは日本語の文章です"),
        ("zh", "这是一个中文句子"),
        ("ru", "Это русский текст"),
        ("unknown", "12 34 56"),
    ],
)
def test_languages_are_guessed_by_script_and_common_words(code: str, text: str) -> None:
    assert language(text) == code


def test_fences_without_an_end_cost_no_more_than_their_length() -> None:
    began = time.process_time()
    assert classify(record("Write it.", "```py " * 20_000)) == "code"
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("said", "name"), [("```sql\nSELECT 1\n```", "sql"), ("x ```\n{\"a\": 1}\n``` y", "json"), ("```Bash x\nls -l", "shell")]
)  # fmt: skip
def test_what_a_fence_says_is_in_it(said: str, name: str) -> None:
    assert classify(record("Write it.", said)) == name
