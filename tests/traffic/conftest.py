"""A small real tokenizer, and a small log to profile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = (
    "The quick brown fox jumps over the lazy dog. Please answer the question from the passage. "
    "def add(a, b):\n    return a + b\n\nSELECT name FROM users WHERE id = 1; How many apples are there? 1 2 3 4 5 "
)
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a byte-level tokenizer of 400 tokens and a chat template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([TEXT] * 20, trainer)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return folder


Write = Callable[[str, list[Any]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of JSON lines; strings go in as they are."""

    def make(name: str, rows: list[Any]) -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join((row if isinstance(row, str) else json.dumps(row)).encode() + b"\n" for row in rows))
        return path

    return make


def request(number: int, said: str = "The fox jumps over the dog.", **extra: Any) -> dict[str, Any]:
    """One line of a native access log."""
    return {
        "schema": "draftsmith_access_v1",
        "id": f"r{number}",
        "messages": [{"role": "user", "content": f"Who jumps over the lazy dog, number {number}?"}],
        "completion": said,
        "timing": {"start_unix_s": 1.7e9 + number, "latency_s": 2.0},
        **extra,
    }
