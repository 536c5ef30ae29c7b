"""The same stories of every engine: started, asked, counted, lost. The real one and the stand-ins behind one adapter.

The stand-in for vLLM is held to a recording of the real one, and the real one to the recording too: where a new release
says something else, `python tests/engines/record_engine.py` renews it. One server of each kind serves all stories; the
last story ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from engine_seats import FAKE, NGRAM, REAL, SGLANG, Served, seat
from recorded import HERE, MESSAGES, Recording, record, series_shapes, strange

from draftsmith.client.replay import Pacing, Reply, Request, Target, replay
from draftsmith.contract.errors import EngineLostError
from draftsmith.engines.catalog import ENGINES
from draftsmith.engines.vllm import log as vllm_log
from draftsmith.kit import processes

KINDS = [
    pytest.param(FAKE, id="vllm-stand-in"),
    pytest.param(SGLANG, id="sglang-stand-in"),
    pytest.param(REAL, id="vllm", marks=[pytest.mark.engine, pytest.mark.timeout(900)]),
]


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DRAFTSMITH_TARGET, or the demo target built once."""
    if given := os.environ.get("DRAFTSMITH_TARGET"):
        return Path(given)
    from draftsmith.work.inside.demo_target import build

    return build(tmp_path_factory.mktemp("target") / "smollm2")


@pytest.fixture(scope="module", params=KINDS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    kind = request.param
    real = request.getfixturevalue("target") if kind.real else None
    with seat(kind, tmp_path_factory.mktemp(kind.engine), real) as ready:
        yield ready


@pytest.fixture(scope="module")
def said(served: Served) -> Recording | None:
    """What this server says, where a recording of its engine is kept."""
    if served.kind.recorded is None:
        return None
    return record(served.server, speculates=True, hide=served.hide)


def ask(served: Served, **params: Any) -> Reply:
    """One chat through the load client."""
    target = Target(served.server.url, served.server.spec.served_name, extra=served.engine.asks(served.engine.facts(served.server).version))  # fmt: skip
    replies: list[Reply] = []
    replay([Request("r", MESSAGES, params=params, max_tokens=24)], target, Pacing(), replies.append)
    return replies[0]


def test_it_says_how_far_its_start_is(served: Served) -> None:
    assert served.stages[0] == "starting Python"
    assert served.stages[-1] == "ready"
    assert served.engine.healthy(served.server.url)
    served.engine.require_alive(served.server)


def test_it_says_what_it_is(served: Served) -> None:
    facts, who = served.engine.facts(served.server), served.engine.identify(served.server.url)
    assert facts.engine == served.kind.engine
    assert facts.pid in [process.pid for process in processes.members(served.server.process.record)]
    assert (facts.spec_method, facts.max_num_seqs, facts.max_model_len) == ("ngram", 8, 512)
    assert facts.num_speculative_tokens == NGRAM["num_speculative_tokens"]
    assert facts.kv_tokens
    assert None not in facts.mode_key or not served.kind.real
    assert (who.model, who.version) == (served.server.spec.served_name, facts.version)
    assert served.engine.identify(served.server.url) == who, "the same server, looked at twice"
    assert who.start_id == served.engine.reading(served.server.url).start_id


def test_an_answer_and_the_counters_say_the_same(served: Served) -> None:
    before = served.engine.counters(served.server.url)
    record = ask(served).record
    counted = served.engine.diff(before, served.engine.counters(served.server.url))
    assert record.error is None
    assert record.finish_reason in ("stop", "length")
    assert counted.generation_tokens == record.usage.completion_tokens
    assert counted.prompt_tokens == record.usage.prompt_tokens
    assert counted.requests == 1
    assert served.engine.speculates(served.engine.reading(served.server.url))
    assert counted.tokens_per_step is not None
    assert record.timing is not None
    assert 0 < (record.timing.ttft_s or 0) <= (record.timing.latency_s or 0)
    if record.output_token_ids is not None:
        assert len(record.output_token_ids) == record.usage.completion_tokens
    if served.kind.per_request:
        assert record.spec is not None
        assert (counted.drafts, counted.accepted_tokens) == (record.spec.drafts, record.spec.accepted_tokens)


def test_a_greedy_answer_is_the_same_again(served: Served) -> None:
    assert ask(served).record.completion == ask(served).record.completion


def test_its_events_and_answers_have_the_form_of_the_recorded_ones(served: Served, said: Recording | None) -> None:
    if said is None or served.kind.recorded is None:
        pytest.skip("no recording of this engine is kept here; test_sglang_fake.py reads the shared ones")
    kept = Recording.read(HERE / served.kind.recorded)
    for part in ("streams", "answers"):
        ours, theirs = getattr(said, part), getattr(kept, part)
        assert set(ours) == set(theirs)
        for name in theirs:
            assert strange(ours[name], theirs[name]) == set(), f"{part}: {name}"
            if served.kind.real:
                assert strange(theirs[name], ours[name]) == set(), f"{part}: {name} of a newer release: renew it"
    assert strange(said.models, kept.models) == set()
    assert strange(said.version, kept.version) == set()


def test_it_refuses_what_a_real_one_refuses(served: Served, said: Recording | None) -> None:
    if said is None or served.kind.recorded is None:
        pytest.skip("no recording of this engine is kept here")
    kept = Recording.read(HERE / served.kind.recorded)
    assert {name: found["status"] for name, found in said.refusals.items()} == {
        name: found["status"] for name, found in kept.refusals.items()
    }
    for name, found in said.refusals.items():
        assert strange(found["body"], kept.refusals[name]["body"]) == set(), name


def test_its_counters_are_series_of_a_real_one(served: Served, said: Recording | None) -> None:
    if said is None or served.kind.recorded is None:
        pytest.skip("no recording of this engine is kept here; test_sglang_fake.py reads the shared ones")
    kept = Recording.read(HERE / served.kind.recorded)
    assert series_shapes(said.metrics) <= series_shapes(kept.metrics)


def test_its_log_gives_the_facts_that_a_real_log_gives(served: Served, said: Recording | None) -> None:
    if said is None or served.kind.recorded is None:
        pytest.skip("no recording of this engine is kept here; test_sglang_fake.py reads the shared ones")
    kept = Recording.read(HERE / served.kind.recorded)
    ours, theirs = vllm_log.facts(said.log, "a"), vllm_log.facts(kept.log, "a")
    told = {name for name, value in theirs if value not in (None, (), {})}
    assert {name for name, value in ours if value not in (None, (), {})} <= told
    assert (ours.spec_method, ours.num_speculative_tokens) == (theirs.spec_method, theirs.num_speculative_tokens)
    assert (ours.version, ours.max_num_seqs, ours.max_model_len) == (theirs.version, theirs.max_num_seqs, theirs.max_model_len)  # fmt: skip
    marks = [mark for mark, _ in vllm_log.STAGES if mark in said.log]
    assert marks
    assert all(mark in kept.log for mark in marks)


def test_one_that_is_killed_is_named_and_nothing_of_it_stays(served: Served) -> None:
    """The last story: the server of the others is gone after it."""
    facts = served.engine.facts(served.server)
    family = processes.members(served.server.process.record)
    os.kill(facts.pid or 0, signal.SIGKILL)
    with pytest.raises(EngineLostError, match="killed \\(signal 9\\)"):
        served.engine.require_alive(served.server)
    served.engine.stop(served.server)
    assert [process for process in family if alive(process)] == []
    assert processes.records(served.engine.registry) == []


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_a_recording_is_small_and_of_no_machine() -> None:
    for path in HERE.rglob("*.*"):
        assert path.stat().st_size < 30_000, path
        assert not [w for w in ("/home/", "/tmp/", "/root/", "site-packages") if w in path.read_text(encoding="utf-8")]


def test_another_form_is_found() -> None:
    real = {
        "usage": {"prompt_tokens": 3},
        "choices": [{"finish_reason": None}, {"finish_reason": "stop"}],
        "note": None,
    }
    assert strange({"choices": [{"finish_reason": "length"}], "note": "x"}, real) == set()
    assert strange({"usage": {"prompt_tokens": "3"}}, real) == {(".usage.prompt_tokens", "text")}
    assert strange({"choices": [{"index": 0}]}, real) == {(".choices[].index", "number")}


def test_every_engine_has_its_stories() -> None:
    assert {kind.values[0].engine for kind in KINDS} == set(ENGINES)  # type: ignore[attr-defined]
