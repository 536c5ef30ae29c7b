"""The real engine: start, facts, one request, counters, stop; and what is left when it is killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from draftsmith.contract.errors import EngineLostError, EngineStartError
from draftsmith.engines import vllm_metrics
from draftsmith.engines.base import Server, ServerSpec
from draftsmith.engines.vllm import VllmEngine
from draftsmith.kit import processes

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
READY_S = 600.0
NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DRAFTSMITH_TARGET, or the demo target built once."""
    if given := os.environ.get("DRAFTSMITH_TARGET"):
        return Path(given)
    from draftsmith.work.demo_target import build

    return build(tmp_path_factory.mktemp("target") / "smollm2")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[VllmEngine]:
    made = VllmEngine(tmp_path / "processes")
    yield made
    for path, record in processes.records(made.registry):
        processes.stop(processes.Process(record, path))


def ask(server: Server) -> httpx.Response:
    body = {"model": "target", "prompt": "a b c d a b c d a b c d a b", "max_tokens": 24, "temperature": 0}
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=120)


def test_a_server_from_start_to_stop_and_one_that_is_killed(engine: VllmEngine, target: Path, tmp_path: Path) -> None:
    spec = ServerSpec(model=str(target), spec_config=NGRAM, per_request_metrics=True, cpu_kv_gib=1)
    server = engine.start(spec, tmp_path / "logs")
    stages: list[str] = []
    engine.wait_ready(server, READY_S, lambda stage, _: stages.append(stage))
    assert stages[0] == "starting Python"
    assert stages[-1] == "ready"
    assert "loading weights" in stages

    facts = engine.facts(server)
    assert facts.pid in [process.pid for process in processes.members(server.process.record)]
    assert (facts.spec_method, facts.num_speculative_tokens, facts.max_num_seqs) == ("ngram", 3, 32)
    assert None not in facts.mode_key
    assert facts.kv_tokens

    who = vllm_metrics.identity(server.url)
    assert (who.model, who.version) == ("target", facts.version)
    before = engine.counters(server.url)
    answer = ask(server).json()
    counted = engine.diff(before, engine.counters(server.url))
    assert counted.generation_tokens == answer["usage"]["completion_tokens"] == 24
    assert counted.requests == counted.server_tpot_count == 1
    own = answer["metrics"]["speculative_decoding"]
    assert (counted.drafts, counted.accepted_tokens) == (own["num_spec_steps"], own["num_accepted_draft_tokens"])
    assert counted.tokens_per_step is not None
    vllm_metrics.require_same(server.url, who)

    family = processes.members(server.process.record)
    assert len(family) > 2, "vLLM runs its engine in processes of their own"
    os.kill(facts.pid, signal.SIGKILL)
    with pytest.raises(EngineLostError, match="killed \\(signal 9\\)"):
        engine.require_alive(server)
    engine.stop(server)
    assert [p for p in family if alive(p)] == []
    assert processes.records(engine.registry) == []


def test_a_flag_that_does_not_exist_is_named(engine: VllmEngine, target: Path, tmp_path: Path) -> None:
    server = engine.start(ServerSpec(model=str(target), flags=("--no-such-flag",)), tmp_path)
    with pytest.raises(EngineStartError, match="does not know the flag --no-such-flag"):
        engine.wait_ready(server, READY_S)
    assert processes.members(server.process.record) == []


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
