"""Drift is judged against the traffic's own noise: more of the same is no drift, other traffic is, and it says what moved."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from draftsmith.cli.app import app
from draftsmith.contract.errors import InputError
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.profiling.drift import compare
from draftsmith.profiling.profile import build_profile

from .conftest import request
from .test_profile import log, prose


@pytest.fixture
def profiled(write: Any, tokenizer: Path) -> Any:
    def make(name: str, rows: list[dict[str, Any]]) -> WorkloadProfile:
        return build_profile([str(write(name, rows))], tokenizer=tokenizer)

    return make


def test_more_of_the_same_traffic_is_no_drift(profiled: Any) -> None:
    first = profiled("a.jsonl", log(300, seed=1))
    for seed in range(2, 6):
        report = compare(first, profiled(f"{seed}.jsonl", log(200, seed=seed)))
        assert report.drifted is False, report.sentence


def test_a_profile_does_not_drift_from_itself(profiled: Any) -> None:
    one = profiled("a.jsonl", log(200))
    report = compare(one, one)
    assert report.drifted is False
    assert {measure.distance for measure in report.measures} == {0.0}


def test_other_answers_are_drift_and_named(profiled: Any) -> None:
    rng = random.Random(5)
    queries = [request(n, f"SELECT name FROM users WHERE id = {rng.randrange(10**6)}") for n in range(200)]
    report = compare(profiled("a.jsonl", log(300)), profiled("b.jsonl", queries))
    assert report.drifted
    moved = {one.measure: one.sentence for one in report.measures if one.moved}
    assert "sql +100 points" in moved["content classes"]
    assert {"tokens", "token pairs", "output lengths"} <= set(moved)


def test_longer_answers_of_the_same_words_are_drift_of_lengths(profiled: Any) -> None:
    rng = random.Random(9)
    rows = log(300, seed=3)
    longer = [{**row, "completion": prose(rng, 300)} for row in log(300, seed=4)]
    report = compare(profiled("a.jsonl", rows), profiled("b.jsonl", longer))
    moved = {one.measure: one.sentence for one in report.measures if one.moved}
    assert "median" in moved["output lengths"]
    assert not {"input lengths", "tokens", "token pairs"} & set(moved)


def test_a_handful_of_requests_cannot_be_judged(profiled: Any) -> None:
    report = compare(profiled("a.jsonl", log(300)), profiled("b.jsonl", log(5)))
    assert report.drifted is None
    assert "too few records" in report.sentence


def test_the_command_says_what_moved_and_its_code_says_whether(profiled: Any, tmp_path: Path) -> None:
    rng = random.Random(5)
    queries = [request(n, f"SELECT name FROM users WHERE id = {rng.randrange(10**6)}") for n in range(400)]
    places = []
    for name, rows in (("then", log(600)), ("later", log(400, seed=2)), ("now", queries)):
        places.append(tmp_path / f"{name}.json")
        places[-1].write_text(profiled(f"{name}.jsonl", rows).model_dump_json(by_alias=True))
    then, later, now = map(str, places)
    same = CliRunner().invoke(app, ["drift", then, later])
    assert (same.exit_code, "no drift" in same.output) == (0, True)
    moved = CliRunner().invoke(app, ["drift", then, now])
    assert moved.exit_code == 1
    assert "content classes moved" in moved.output
    assert "sql +100 points" in moved.output


def test_bench_shapes_cannot_drift() -> None:
    shapes = build_profile([], aa_shapes="default")
    with pytest.raises(InputError, match="no traffic to compare"):
        compare(shapes, shapes)
