"""What a comparison is about, by hashes: held-out prompts that are training rows are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from draftsmith.corpus.prompts import Prompt
from draftsmith.work.compare import subjects as of
from draftsmith.work.compare.subjects import SALT, salted, subjects


class Row:
    def __init__(self, prompt: list[int]) -> None:
        import numpy as np

        self.input_ids, self.prompt_tokens = np.asarray([*prompt, 9, 9], dtype=np.int32), len(prompt)


def prompt(name: str, ids: list[int] | None) -> Prompt:
    return Prompt(prompt_id=name, content_class="all", prompt_token_ids=ids, max_tokens=8)


def test_prompts_that_were_trained_on_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of, "iter_rows", lambda *_: [Row([1, 2]), Row([3, 4, 5]), Row([7])])
    asked = [prompt("a", [1, 2]), prompt("b", [1, 2, 9]), prompt("c", [7])]
    found = subjects(tmp_path, asked, tmp_path, None)
    assert found["trained_on"] == 2
    assert found["target_sha256"] is None
    salt = (tmp_path / SALT).read_text()
    assert found["prompt_hashes"] == tuple(salted(p.prompt_token_ids, salt) for p in asked)
    assert (tmp_path / SALT).stat().st_mode & 0o077 == 0
    assert salt not in str(found)


def test_nobody_can_look_without_a_corpus_or_token_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of, "iter_rows", lambda *_: [Row([1])])
    assert subjects(tmp_path, [prompt("a", [1])], None, None)["trained_on"] is None
    assert subjects(tmp_path, [prompt("a", None)], tmp_path, None)["trained_on"] is None


def test_another_comparison_has_other_hashes_for_the_same_prompts(tmp_path: Path) -> None:
    asked = [prompt("a", [1, 2, 3])]
    assert (
        subjects(tmp_path, asked, None, None)["prompt_hashes"] != subjects(tmp_path, asked, None, None)["prompt_hashes"]
    )


def test_weights_are_told_by_their_bytes(tmp_path: Path) -> None:
    assert of.weights(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = of.weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert first not in (None, of.weights(tmp_path))
