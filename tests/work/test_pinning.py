"""What a comparison fixes before it measures: arrivals of the log, sampling for the record, prompts for choices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError
from draftsmith.contract.jobs import ComparePlan
from draftsmith.contract.measure import OperatingPoint, RequestSample, Trial
from draftsmith.corpus.prompts import Prompt, PromptSet, write_prompts
from draftsmith.work.compare.commands import check_command, render, split_command
from draftsmith.work.compare.pinning import pin_prompts, sampling_seen, set_aside, typical_window
from draftsmith.work.compare.trial import with_divergence
from draftsmith.work.job import Job

MAIL = "anna.kovacs@example.org"


def test_the_window_is_the_typical_one_and_keeps_the_gaps() -> None:
    quiet, busy = [100.0 * i for i in range(10)], [2000 + 0.5 * i for i in range(30)]
    assert typical_window([*quiet, *busy], 4) == [0.0, 0.5, 1.0, 1.5]
    assert typical_window([*quiet, *busy], 4, speed=2) == [0.0, 0.25, 0.5, 0.75]


@given(st.lists(st.floats(1, 1e9), min_size=5, max_size=40, unique=True), st.integers(2, 5))
def test_a_window_begins_at_zero_and_never_goes_back(times: list[float], count: int) -> None:
    window = typical_window(times, count)
    assert window[0] == 0
    assert window == sorted(window)
    assert len(window) == count


@pytest.mark.parametrize("times", [[], [5.0, 6.0], [7.0] * 9, [0.0] * 9])
def test_a_log_without_arrivals_is_refused(times: list[float]) -> None:
    with pytest.raises(InputError, match="recorded arrivals need 4 requests"):
        typical_window(times, 4)


def prompt(number: int, **params: object) -> Prompt:
    return Prompt(prompt_id=f"p{number}", content_class="a", params=params, max_tokens=8)


def test_sampling_goes_into_the_record_as_numbers_and_never_as_text() -> None:
    rows = [prompt(0, temperature=0.7, user="jane@example.org", stop="secret"), prompt(1, temperature=0.7), prompt(2)]
    point = OperatingPoint(name="c1", concurrency=1, sampling={"top_p": 0.9})
    assert sampling_seen(rows, point) == {"temperature": {"0.7": 2}, "top_p": {"0.9": 3}}


def test_prompts_for_choices_never_decide_and_are_at_most_a_third() -> None:
    rows = [prompt(n) for n in range(9)]
    deciding, aside = set_aside(rows, 8)
    assert (len(deciding), len(aside)) == (6, 3)
    assert not {p.prompt_id for p in deciding} & {p.prompt_id for p in aside}
    assert set_aside(rows[:2], 8) == (tuple(rows[:2]), ())


def test_a_command_is_read_like_a_shell_would() -> None:
    env, words = split_command("A=1 B='x y' vllm serve m --flag '{\"k\": 1}'")
    assert env == {"A": "1", "B": "x y"}
    assert words == ("vllm", "serve", "m", "--flag", '{"k": 1}')
    for broken in ("vllm serve 'm", "A=1"):
        with pytest.raises(InputError):
            split_command(broken)


def test_host_and_port_are_added_or_filled_in() -> None:
    assert render(["serve", "m"], "127.0.0.1", 81) == ("serve", "m", "--host", "127.0.0.1", "--port", "81")
    assert render(["serve", "--at={host}:{port}"], "::1", 81) == ("serve", "--at=::1:81")
    check_command("a", ["sh", "--port={port}"])


def trial(arm: str, traffic: str, *prompts: str) -> Trial:
    return Trial(
        plan_sha256="x", trial_id=f"{arm}{traffic}", block=0, order=0, arm=arm, point="c1", traffic=traffic, node="n",
        engine_start_id=arm, started_unix_s=1.0, wall_s=1.0, peak_concurrency=1,
        samples=tuple(RequestSample(prompt_id=p) for p in prompts),
    )  # fmt: skip


def test_each_answer_says_where_it_leaves_the_baselines() -> None:
    told = with_divergence(
        [
            (trial("new", "own", "p", "q", "r", "s"), {"p": [1, 2, 9], "q": [1], "r": [5]}),
            (trial("base", "own", "p", "q", "r", "s"), {"p": [1, 2, 3], "q": [1, 2], "r": [5], "s": [1]}),
            (trial("base", "general", "p"), {"p": [7]}),
        ],
        "base",
    )
    hints = [[s.first_divergence_hint for s in one.samples] for one in told]
    assert hints == [[2, 1, None, None], [None] * 4, [None]]


def test_general_traffic_is_redacted_where_traffic_is(tmp_path: Path) -> None:
    pytest.importorskip("datafog_core")
    pytest.importorskip("detect_secrets")
    log = tmp_path / "general.jsonl"
    line = {
        "schema": "draftsmith_access_v1",
        "id": "g1",
        "messages": [{"role": "user", "content": f"Write to {MAIL}."}],
    }
    log.write_text(json.dumps(line) + "\n")
    own = write_prompts(tmp_path / "own.jsonl", PromptSet(prompts=(prompt(0),), sha256=""))
    config = Config.model_validate({"corpus": {"redact": True}, "compare": {"general_log": str(log)}})
    plan = ComparePlan(
        config=config, target="", registry="", arms=(), baseline="", points=(), prompts={"own": str(own)}
    )
    found = pin_prompts(Job(tmp_path / "job", plan))["general"].prompts
    assert [p.messages for p in found] == [[{"role": "user", "content": "Write to [EMAIL]."}]]
    assert MAIL.encode() not in b"".join(path.read_bytes() for path in (tmp_path / "job").iterdir())
