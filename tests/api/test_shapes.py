"""A profile of bench shapes is an input of `run`: prompts have its lengths, and what does not fit is said and not sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_target import write_target

from draftsmith.api.settings import override
from draftsmith.api.shapes import prompts_of_shapes
from draftsmith.api.traffic import profile as make_profile
from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError
from draftsmith.loop.base import Console
from draftsmith.traffic.tokens import load_counter
from draftsmith.trainers.target import read_target
from draftsmith.work.plan.forecast import cut_shapes


class Notes(Console):
    """A console that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_prompts_are_made_to_the_shapes_that_fit(tmp_path: Path) -> None:
    target = write_target(tmp_path / "tiny")
    given = tmp_path / "aa.json"
    make_profile(Config(), aa_shapes="800:40,1500:64,10000:1500", out=given)
    console, config = Notes(), Config()
    [made] = prompts_of_shapes([str(given)], config, read_target(target), tmp_path / "ws", console)
    rows = [json.loads(line) for line in Path(made).read_text().splitlines()]
    assert len(rows) == 400
    assert {row["max_tokens"] for row in rows} == {40, 64}, "10,000 tokens are not sent, and not claimed"
    assert "left out, over 2,048 tokens: 10,000:1,500" in console.said[0]
    counter = load_counter(target)
    for row in rows[:20]:
        wanted = 800 if row["max_tokens"] == 40 else 1500
        length = counter.count(counter.render(row["messages"]))
        assert 0.85 * wanted <= length <= 1.02 * wanted
    assert Path(made).stat().st_mode & 0o077 == 0
    assert prompts_of_shapes([str(given)], config, read_target(target), tmp_path / "ws", console) == [made]
    assert prompts_of_shapes(["access.jsonl"], config, read_target(target), tmp_path / "ws", console) == [
        "access.jsonl"
    ]


def test_shapes_that_all_are_too_long_are_refused(tmp_path: Path) -> None:
    target = write_target(tmp_path / "tiny")
    given = tmp_path / "aa.json"
    make_profile(Config(), aa_shapes="10000:1500", out=given)
    with pytest.raises(InputError, match="no bench shape fits 2,048 tokens"):
        prompts_of_shapes([str(given)], Config(), read_target(target), tmp_path / "ws", Notes())
    wider = override(Config(), ["engine.max_model_len=16384", "corpus.max_length=16384"])
    assert prompts_of_shapes([str(given)], wider, read_target(target), tmp_path / "ws", Notes())


def test_a_plan_prints_no_length_that_it_did_not_send(tmp_path: Path) -> None:
    from draftsmith.contract.profile import BenchShape

    shapes = (BenchShape(name="a", isl=1000, osl=1000, weight=1), BenchShape(name="b", isl=10_000, osl=1500, weight=1))
    [said] = cut_shapes(shapes, 64, 2048)
    assert (
        said == "shape 10000:1500 does not fit engine.max_model_len 2048: it was measured with prompts of 1983 tokens"
    )
