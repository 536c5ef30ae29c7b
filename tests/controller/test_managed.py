"""A managed service under load: engines come and go behind a real HAProxy, and no request fails."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from live_service import NGRAM, OTHER, Clients, Service
from loop_world import wait_for

from draftsmith import wiring
from draftsmith.contract.config import Config, ServingConfig
from draftsmith.contract.errors import BackendError, ConfigError, EngineStartError, PrerequisiteError
from draftsmith.engines.base import Installation
from draftsmith.kit import processes
from draftsmith.serving.managed.fleet import Fleet
from draftsmith.serving.managed.haproxy import config_text, read_stats
from draftsmith.serving.managed.options import address, parse_managed
from draftsmith.serving.managed.proxy import Proxy
from draftsmith.serving.managed.sides import Side, identity

pytestmark = pytest.mark.foreign
needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed here")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    fleet = made.fleet()
    fleet.stop()
    assert not [p for p in processes.records(fleet.engine.registry) if processes.is_alive(p[1])]


def settle(fleet: Fleet, sides: list[Side]) -> None:
    """Until nothing is amiss: a side that drains is ended by a later call."""
    fleet.make(sides)
    wait_for(lambda: len(fleet.slots()) == len(sides) or fleet.amiss(sides), "draining", 20)
    fleet.make(sides)
    assert fleet.amiss(sides) is None


@needs_haproxy
def test_shares_move_and_sides_come_and_go_without_a_failed_request(service: Service) -> None:
    fleet = service.fleet()
    fleet.make([Side()])
    assert fleet.amiss([Side()]) is None
    with Clients(service.url) as clients:
        clients.wait(10)
        for share in (5, 25, 50):
            fleet.make([Side(share=100 - share), Side(config=NGRAM, share=share)])
            before = fleet.figures(NGRAM), fleet.figures(None)
            clients.wait(60)
            after = fleet.figures(NGRAM), fleet.figures(None)
            new, old = (b.total - a.total for a, b in zip(before, after, strict=True) if a and b)
            assert share - 20 < 100 * new / (new + old) < share + 20
        settle(fleet, [Side(config=NGRAM)])
        assert fleet.slot_of(None) is None, "the old side is drained and ended"
        clients.wait(20)
        settle(fleet, [Side(config=OTHER), Side(share=0)])
        clients.wait(20)
        fleet = service.fleet()  # another controller takes over
        assert fleet.amiss([Side(config=OTHER), Side(share=0)]) is None
        settle(fleet, [Side()])
        clients.wait(20)
        assert list(fleet.slots()) == [name for name, slot in fleet.slots().items() if slot.config is None]
    assert clients.done > 150
    assert clients.wrong == []


@needs_haproxy
def test_a_proxy_or_an_engine_that_is_killed_is_seen_and_mended(service: Service) -> None:
    fleet = service.fleet()
    fleet.make([Side(), Side(config=NGRAM, share=0)])
    for label, sentence in (("haproxy", "proxy"), ("vllm", "engine went away")):
        records = [
            r for folder in ("processes", "engines") for _, r in processes.records(service.base / "managed" / folder)
        ]
        record = next(r for r in records if label in r.label)
        for process in processes.members(record):
            process.kill()
        psutil.wait_procs([psutil.Process(record.pid)] if psutil.pid_exists(record.pid or 0) else [], timeout=5)
        assert sentence in str(fleet.amiss([Side(), Side(config=NGRAM, share=0)]))
        fleet.make([Side(), Side(config=NGRAM, share=0)])
        assert fleet.amiss([Side(), Side(config=NGRAM, share=0)]) is None
        with Clients(service.url, 2) as clients:
            clients.wait(6)
        assert clients.wrong == []


@needs_haproxy
def test_a_standby_takes_over_when_the_engine_dies_under_load(service: Service) -> None:
    fleet = service.fleet()
    fleet.make([Side(share=50), Side(config=NGRAM, share=50)])
    slot = fleet.slot_of(NGRAM)
    assert slot is not None
    with Clients(service.url) as clients:
        clients.wait(10)
        record = next(r for _, r in processes.records(fleet.engine.registry) if r.token == slot.token)
        for process in processes.members(record):
            process.kill()
        clients.wait(60)
        failed = len(clients.wrong)
        clients.wait(40)
    assert failed <= 4, "no more than were in flight on the engine that died"
    assert len(clients.wrong) == failed


@needs_haproxy
def test_a_bad_engine_never_reaches_live_traffic(service: Service) -> None:
    fleet = service.fleet()
    fleet.make([Side()])
    bad = {"method": "no-such-method", "num_speculative_tokens": 1}
    with Clients(service.url, 2) as clients:
        with pytest.raises((EngineStartError, PrerequisiteError, ConfigError)):
            fleet.make([Side(share=95), Side(config=bad, share=5)])
        clients.wait(10)
    assert clients.wrong == []
    assert fleet.amiss([Side()]) is None


@needs_haproxy
def test_a_second_engine_that_does_not_fit_is_refused_before_it_starts(tmp_path: Path) -> None:
    service = Service(tmp_path, room_gib=1e6)
    fleet = service.fleet()
    try:
        fleet.make([Side()])
        with pytest.raises(PrerequisiteError, match="does not fit"):
            fleet.make([Side(share=50), Side(config=NGRAM, share=50)])
        assert fleet.amiss([Side()]) is None
    finally:
        fleet.stop()


@needs_haproxy
def test_haproxy_itself_finds_no_fault_in_the_configuration(tmp_path: Path) -> None:
    import subprocess

    for host in ("127.0.0.1", "::1"):
        path = tmp_path / "haproxy.cfg"
        path.write_text(config_text(host, 18080, str(tmp_path / "s.sock")))
        done = subprocess.run(["haproxy", "-c", "-f", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "[WARNING]" not in done.stderr


def test_without_haproxy_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="no-such-proxy is not installed") as caught:
        Proxy(tmp_path, "no-such-proxy", "127.0.0.1", 1).start()
    assert "apt-get install haproxy" in caught.value.next_step
    with pytest.raises(BackendError, match="does not answer"):
        Proxy(tmp_path, "no-such-proxy", "127.0.0.1", 1).stats()


def test_a_long_workspace_path_has_a_socket_all_the_same(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    socket = Proxy(deep, "haproxy", "127.0.0.1", 1).socket
    assert len(str(socket)) < 108
    assert socket == Proxy(deep, "haproxy", "127.0.0.1", 1).socket
    assert socket.parent.stat().st_mode & 0o077 == 0


def test_options_and_address_say_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="drains"):
        parse_managed(ServingConfig(options={"drains": 1}))
    for endpoint in (None, "http://127.0.0.1", "nonsense", "http://host:99999"):
        with pytest.raises(ConfigError, match="endpoint"):
            address(ServingConfig(endpoint=endpoint))
    assert address(ServingConfig(endpoint="http://[::1]:8000/v1")) == ("::1", 8000)


def test_a_hot_swap_is_refused_for_a_release_that_replaces_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from draftsmith.engines.sglang import engine as sglang

    said = {"kind": "managed", "endpoint": "http://127.0.0.1:8000", "options": {"hot_swap": True}}
    config = Config.model_validate({"engine": {"kind": "sglang"}, "serving": said, "target": str(tmp_path)})
    found = Installation(engine="sglang", python="python3", version="0.5.17", device="cuda")
    monkeypatch.setattr(sglang, "installed", lambda python: found)
    with pytest.raises(ConfigError, match="replaces no draft alone in a running server"):
        wiring.fleet(config, tmp_path)
    monkeypatch.setattr(sglang, "installed", lambda python: found.model_copy(update={"version": "0.5.23"}))
    assert wiring.fleet(config, tmp_path).options.hot_swap
    assert wiring.fleet(Config.model_validate({"target": str(tmp_path), "serving": said}), tmp_path).options.hot_swap


def test_a_side_is_known_by_its_draft_whatever_folder_it_lies_in(tmp_path: Path) -> None:
    for name, content in (("one", b"w"), ("two", b"w"), ("three", b"v")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
    one, two, three = (identity({"method": "eagle3", "model": str(tmp_path / n)}) for n in ("one", "two", "three"))
    assert one == two
    assert one != three
    assert identity(None) != identity({"method": "ngram"})


def test_statistics_of_another_program_are_none() -> None:
    with pytest.raises(ValueError, match="no servers"):
        read_stats("<html>")


def draft(folder: Path, seed: int) -> dict[str, object]:
    """A draft's folder that the stand-in engine takes, and the config that serves it."""
    import json

    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir()
    marks = np.zeros(64, bool)
    marks[:16] = True
    weights = {"d2t": np.zeros(16, np.int64), "t2d": marks, "w": np.full(4, seed, np.float32)}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"hidden_size": 4}))
    return {"method": "eagle3", "model": str(folder), "num_speculative_tokens": 3}


@needs_haproxy
@pytest.mark.parametrize("refuses", [False, True])
def test_a_draft_of_the_same_shape_is_swapped_in_the_running_engine(
    tmp_path: Path, refuses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There and back without another engine; where the engine refuses, another one is started as without it."""
    from live_service import FAKE

    monkeypatch.setitem(FAKE, "refuse_swap", refuses)
    service = Service(tmp_path, hot_swap=True)
    one, two = draft(tmp_path / "one", 1), draft(tmp_path / "two", 2)
    fleet = service.fleet()
    try:
        fleet.make([Side(config=one), Side(share=0)])
        began = {slot.token for slot in fleet.slots().values()}
        with Clients(service.url, 2) as clients:
            for new, old in ((two, one), (one, two)):
                sides = [Side(config=new), Side(config=old, share=0), Side(share=0)]
                fleet.make(sides)
                assert fleet.amiss(sides) is None
                clients.wait(6)
        assert clients.wrong == []
        assert fleet.slot_of(one) is not None
        assert ({slot.token for slot in fleet.slots().values()} == began) is not refuses
        fleet.make([Side(config=one, share=75), Side(config=two, share=25)])
        assert len(fleet.slots()) >= 2, "a share needs an engine of its own"
    finally:
        fleet.stop()
