"""From a profile without text to prompts that the target can answer."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from corpus_service import WORDS, write_tokenizer
from typer.testing import CliRunner

from draftsmith.cli.app import app
from draftsmith.client.log import read_requests
from draftsmith.contract.errors import InputError
from draftsmith.profiling.profile import build_profile

SETS = {"code": "```python\nprint(1)\n```", "chat": "I think so, and how are you today?"}


def write_set(folder: Path, name: str, count: int, words: int, seed: int) -> Path:
    draw = random.Random(seed)
    path = folder / f"{name}.jsonl"
    rows = (
        {"messages": [{"role": "user", "content": " ".join(draw.choices(WORDS, k=words))}], "completion": SETS[name]}
        for _ in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """Three of four requests are code; of them the profile has lengths and classes alone."""
    rows = [{"prompt_tokens": 80, "completion_tokens": 25, "content_class": "code"}] * 75
    rows += [{"prompt_tokens": 80, "completion_tokens": 35, "content_class": "chat"}] * 25
    counts = tmp_path / "counts.jsonl"
    counts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "workload-profile.json"
    path.write_text(build_profile([str(counts)]).model_dump_json())
    return path


def call(*arguments: str) -> object:
    return CliRunner().invoke(app, ["mix", *arguments], catch_exceptions=False).output


def test_prompts_are_drawn_in_the_traffics_proportion(profile: Path, tmp_path: Path) -> None:
    target = write_tokenizer(tmp_path / "target")
    code, chat = write_set(tmp_path, "code", 300, 12, 1), write_set(tmp_path, "chat", 200, 12, 2)
    out, prompts = tmp_path / "mix.json", tmp_path / "prompts.jsonl"
    given = [str(profile), "--public", f"code={code}", "--public", f"chat={chat}", "--out", str(out)]
    given += ["--tokenizer", str(target), "--prompts", str(prompts), "--rows", "200"]
    said = str(call(*given))
    assert "200 prompts drawn" in said
    plan = json.loads(out.read_text())
    assert plan["weights"]["code"] == pytest.approx(0.75, abs=0.02)
    assert plan["drawn"] == pytest.approx({"chat": 50, "code": 150}, abs=4)
    drawn = list(read_requests(prompts, None, None))
    assert Counter(request.route for request in drawn) == plan["drawn"]
    assert {request.max_tokens for request in drawn} == {35}, "as long as the traffic's own answers"
    assert len({request.id for request in drawn}) == 200
    before = prompts.read_bytes()
    call(*given)
    assert prompts.read_bytes() == before, "the same seed draws the same"
    call(*given, "--seed", "1")
    assert prompts.read_bytes() != before


def test_what_cannot_be_planned_is_said(profile: Path, tmp_path: Path) -> None:
    code = write_set(tmp_path, "code", 5, 12, 1)
    with pytest.raises(InputError, match="no tokenizer was given"):
        call(str(profile), "--public", f"code={code}", "--out", str(tmp_path / "mix.json"))
    with pytest.raises(InputError, match="not NAME=SOURCE"):
        call(str(profile), "--public", str(code))
    target = write_tokenizer(tmp_path / "target")
    with pytest.raises(InputError, match="hold 5"):
        call(str(profile), "--public", f"code={code}", "--tokenizer", str(target), "--prompts", str(tmp_path / "p"))
