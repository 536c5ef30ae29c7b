"""The controller as an operator meets it: a command, a workspace, traffic that grows. Everything real but engine and trainer."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loop_world import LENIENT, World, wait_for

pytestmark = pytest.mark.story

VERDICT: dict[str, Any] = {
    "blocks": 3, "prompts": 7, "general_prompts": 14,
    "thresholds": LENIENT | {"max_blocks": 4, "false_promotion": 0.2, "confidence": 0.8},
}  # fmt: skip
QUICK = {"mode": "auto", "every_s": 0.2, "min_requests": 40, "min_free_gib": 0.1, "window_s": 5}


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


def test_a_first_draft_is_trained_proved_and_promoted_through_a_kill(world: World) -> None:
    world.configure(compare=VERDICT, controller=QUICK)
    fake = json.dumps({"step_ms": 12})
    running = world.start("controller", FAKE_VLLM=fake)
    try:
        wait_for(lambda: "start_run" in acts(world), "the run", 60)
        assert "another controller" in world.call("controller", code=4).stderr
        wait_for(lambda: world.stage("compare"), "the comparison", 120)
        world.kill(running)
        assert json.loads(world.call("controller", "status", "--json").stdout)["state"] == "stopped"
        running = world.start("controller", FAKE_VLLM=fake)
        wait_for(lambda: "promote" in acts(world), "the promotion", 200)
        time.sleep(0.5)
        status = json.loads(world.call("controller", "status", "--json").stdout)
    finally:
        said = stop(running)
    assert status["alive"] is True
    assert status["memory"]["champion"]["config"] == world.standing()
    assert status["memory"]["run"] is None
    assert acts(world) == ["adopt", "start_run", "start_run", "conclude", "promote"]
    assert len(world.runs()) == 1
    assert world.standing()["method"] == "eagle3"
    assert list(world.workspace.glob("runs/*/bundle/*/*/report.html"))
    assert not list(world.workspace.glob("controller/runs/*/traffic.jsonl")), "the run's copy of the traffic is gone"
    log = world.call("controller", "log").stdout
    assert "starts a run (first): no draft serves yet" in log
    assert "promotes: promoted eagle3-k3" in log
    assert "promotes: promoted eagle3-k3" in said
    journal = json.dumps(events(world)) + log
    assert not [text for text in world.text_of_traffic() if len(text) > 20 and text in journal]
    assert not world.alive()


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
