"""The controller as an operator meets it: a command, a workspace, traffic that grows. Everything real but engine and trainer."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_service import Clients
from loop_world import LENIENT, World, wait_for

from draftsmith.engines.base import free_port
from draftsmith.kit import processes

pytestmark = pytest.mark.story

VERDICT: dict[str, Any] = {
    "blocks": 3, "prompts": 7, "general_prompts": 14,
    "thresholds": LENIENT | {"max_blocks": 4, "false_promotion": 0.2, "confidence": 0.8},
}  # fmt: skip
QUICK = {"mode": "auto", "every_s": 0.2, "min_requests": 40, "min_free_gib": 0.1, "window_s": 5}

LENIENT_GUARDS = {"tpot_margin": 5.0, "ttft_margin": 5.0}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def events(world: World) -> list[dict[str, Any]]:
    found = sorted((world.workspace / "controller" / "journal").glob("[0-9]*.json"))
    return [json.loads(path.read_text()) for path in found]


def acts(world: World) -> list[str]:
    return [event["data"]["act"]["kind"] for event in events(world) if event["kind"] == "effect"]


def stop(running: subprocess.Popen[str]) -> str:
    running.terminate()
    return running.communicate(timeout=60)[0]


@pytest.mark.timed
@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed here")
def test_a_managed_service_gets_its_first_draft_share_by_share_and_nobody_notices(world: World) -> None:
    """From nothing: it serves, trains, proves and promotes under load, and its controller is killed in the middle."""
    port = free_port()
    serving = {"kind": "managed", "endpoint": f"http://127.0.0.1:{port}", "options": {"drain_s": 20, "room_gib": 0}}
    shares = {"shares": [25, 100], "share_s": 1, "share_requests": 20}
    world.configure(compare=VERDICT, controller=QUICK | shares | LENIENT_GUARDS, serving=serving)
    fake = json.dumps({"step_ms": 12})
    running = world.start("controller", FAKE_VLLM=fake)
    try:
        wait_for(lambda: "start_run" in acts(world), "the run", 60)
        assert "another controller" in world.call("controller", code=4).stderr
        with Clients(f"http://127.0.0.1:{port}", 2, pause_s=0.1) as clients:
            clients.wait(5)
            wait_for(lambda: world.stage("compare"), "the comparison", 120)
            running.kill()  # and its run with it; engines and proxy live on
            running.communicate()
            done = clients.done
            assert json.loads(world.call("controller", "status", "--json").stdout)["state"] == "stopped"
            running = world.start("controller", FAKE_VLLM=fake)
            wait_for(lambda: "promote" in acts(world), "the promotion", 200)
            wait_for(lambda: acts(world)[-1] in ("repair", "promote"), "the old side's end", 30)
            clients.wait(10)
        status = json.loads(world.call("controller", "status", "--json").stdout)
        fleet = json.loads((world.workspace / "managed" / "fleet.json").read_text())["slots"]
    finally:
        said = stop(running)
        down = world.call("controller", "down").stdout
    assert clients.wrong == []
    assert clients.done > done > 5
    assert status["memory"]["champion"]["config"] == world.standing()
    assert status["memory"]["run"] is None
    wanted = ["adopt", "start_run", "start_run", "conclude", "shift", "shift", "promote"]
    assert [act for act in acts(world) if act != "repair"] == wanted
    assert len(world.runs()) == 1
    assert world.standing()["method"] == "eagle3"
    assert {(slot["config"] or {}).get("method"): slot["share"] for slot in fleet.values()} == {"eagle3": 100, None: 0}
    assert list(world.workspace.glob("runs/*/bundle/*/*/report.html"))
    assert not list(world.workspace.glob("controller/runs/*/traffic.jsonl")), "the run's copy of the traffic is gone"
    log = world.call("controller", "log").stdout
    assert "puts what serves in order: nothing serves yet" in log
    assert "starts a run (first): no draft serves yet" in log
    assert "gives the new configuration 25 % of live traffic" in log
    assert "promotes: promoted eagle3-k3" in log
    assert "promotes: promoted eagle3-k3" in said
    journal = json.dumps(events(world)) + log
    assert not [text for text in world.text_of_traffic() if len(text) > 20 and text in journal]
    assert "stopped" in down
    assert not world.alive()
    left = [r for _, r in processes.records(world.workspace / "managed" / "engines") if processes.is_alive(r)]
    assert not left


def test_a_proposal_waits_and_a_word_is_enough(world: World) -> None:
    world.configure(controller=QUICK | {"mode": "propose"})
    running = world.start("controller")
    try:
        wait_for(lambda: "propose" in acts(world), "the proposal", 60)
        wait_for(
            lambda: json.loads(world.call("controller", "status", "--json").stdout)["state"] == "waiting", "waiting", 20
        )
        assert "no draft serves yet" in world.call("controller", "why").stdout
        assert world.runs() == []
        world.call("controller", "decline", "--because", "not now")
        wait_for(lambda: "said no" in world.call("controller", "why").stdout, "the answer", 20)
        assert "nothing is proposed" in world.call("controller", "approve", code=4).stderr
    finally:
        stop(running)
    assert acts(world) == ["adopt", "propose"]


def test_a_workspace_without_a_controller(world: World) -> None:
    view = json.loads(world.call("controller", "status", "--json").stdout)
    assert (view["state"], view["alive"]) == ("stopped", False)
    assert "no controller was ever" in world.call("controller", "pause", code=4).stderr
    world.configure(controller={"shares": [50, 5]})
    assert "shares must rise" in world.call("controller", "status", code=2).stderr
