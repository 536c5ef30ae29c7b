"""Starting, watching and losing a server. A small program stands in for the engine's process; its logs are real."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_clock import FakeClock

from draftsmith.contract.errors import EngineLostError, EngineStartError, PrerequisiteError
from draftsmith.engines.base import Server, ServerSpec, free_port, require_free_port
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.kit import processes
from draftsmith.kit.clock import SystemClock

HERE = Path(__file__).parent

# argv: log to print, port (0 = serve nothing), exit code ("" = stay)
STAND_IN = """
import http.server, sys, time
log, port, code = sys.argv[1:]
print(open(log, encoding="utf-8").read(), flush=True)
if code:
    sys.exit(int(code))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever() if int(port) else time.sleep(600)
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[VllmEngine]:
    made = VllmEngine(tmp_path / "processes")
    yield made
    for path, record in processes.records(made.registry):
        processes.stop(processes.Process(record, path), grace_s=0)


def stand_in(engine: VllmEngine, log: str, *, serves: bool = True, code: str = "", port: int = 0) -> Server:
    port = port or free_port()
    process = processes.start(
        [sys.executable, "-S", "-c", STAND_IN, str(HERE / "logs" / log), str(port if serves else 0), code],
        registry=engine.registry,
        label="stand-in",
        log=engine.registry.parent / "engine.log",
    )
    return Server(ServerSpec(model="/models/target", port=port), process, process.record.token)


def test_a_server_becomes_ready_tells_its_stages_and_its_facts(engine: VllmEngine) -> None:
    server = stand_in(engine, "ngram-0.32.log")
    stages: list[str] = []
    engine.wait_ready(server, 60, lambda stage, _: stages.append(stage))
    assert stages[-1] == "ready"
    assert engine.facts(server).spec_method == "ngram"
    assert engine.facts(server).start_id == server.start_id
    engine.require_alive(server)
    engine.stop(server)
    assert processes.members(server.process.record) == []


def test_a_failed_start_says_why_shows_the_log_and_leaves_nothing(engine: VllmEngine) -> None:
    server = stand_in(engine, "fail-draft-vocabulary.log", code="1")
    with pytest.raises(EngineStartError) as caught:
        engine.wait_ready(server, 60)
    assert "vocabulary does not fit" in caught.value.cause
    assert "Target model vocab_size=49152" in caught.value.log_tail
    assert "vocabulary map" in caught.value.next_step
    assert processes.records(engine.registry) == []


def test_a_start_that_takes_too_long_is_stopped_and_names_the_stage(tmp_path: Path) -> None:
    class Impatient(FakeClock):
        def sleep(self, seconds: float) -> None:
            SystemClock().sleep(0.02)
            self.advance(seconds)

    engine = VllmEngine(tmp_path / "processes", clock=Impatient())
    server = stand_in(engine, "eagle3-0.24.log", serves=False)
    while "startup complete" not in server.log.read_text():
        SystemClock().sleep(0.02)
    with pytest.raises(EngineStartError, match="not ready after 5 s, while ready"):
        engine.wait_ready(server, 5)
    assert processes.members(server.process.record) == []


def test_another_server_on_the_same_port_is_not_mistaken_for_ours(engine: VllmEngine, wire: Any) -> None:
    taken = int(wire.url.rsplit(":", 1)[1])
    server = stand_in(engine, "fail-port.log", port=taken)
    with pytest.raises(EngineStartError, match="port is taken"):
        engine.wait_ready(server, 60)


def test_a_killed_server_is_lost_and_the_kill_is_named(engine: VllmEngine) -> None:
    server = stand_in(engine, "ngram-0.32.log")
    engine.wait_ready(server, 60)
    [program] = psutil.Process(server.process.pid).children()
    program.kill()
    with pytest.raises(EngineLostError, match="killed \\(signal 9\\)"):
        engine.require_alive(server)


def test_a_server_that_hangs_is_lost_but_only_after_a_while(tmp_path: Path) -> None:
    clock = FakeClock()
    engine = VllmEngine(tmp_path / "processes", clock)
    server = stand_in(engine, "ngram-0.32.log", serves=False)
    with pytest.raises(EngineLostError, match="runs but has not answered for 20 s"):
        engine.require_alive(server)
    assert sum(clock.slept) == pytest.approx(20, abs=0.3)
    engine.stop(server)


def test_a_taken_port_is_refused_before_anything_starts(engine: VllmEngine, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PrerequisiteError, match=f"port {port} on 127.0.0.1 cannot be used"):
            engine.start(ServerSpec(model="/models/target", port=port), tmp_path)
        assert free_port() != port
    require_free_port("127.0.0.1", port)
    assert processes.records(engine.registry) == []


def test_a_model_folder_that_is_not_there_is_refused_before_anything_starts(engine: VllmEngine, tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match=r"holds no config\.json"):
        engine.start(ServerSpec(model=str(tmp_path / "nothing")), tmp_path)
    assert processes.records(engine.registry) == []


def test_the_url_is_one_that_can_be_asked() -> None:
    process = processes.Process(processes.ProcessRecord("t", "l", "a", "/log", 1, 1.0), Path("/r"))
    for host, url in (("0.0.0.0", "http://127.0.0.1:1"), ("::1", "http://[::1]:1"), ("h", "http://h:1")):
        assert Server(ServerSpec(model="m", host=host, port=1), process, "t").url == url
