"""The loop with the real probe and the real trainer on a model small enough for it: an hour's work in a minute.

The engine alone is a stand-in, and its hidden states are those of the model: the probe holds them against transformers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loop_world import World
from tiny_target import prompts


def test_from_answered_prompts_to_a_trained_draft(tmp_path: Path) -> None:
    world = World(tmp_path, requests=1)
    world.env.pop("FAKE_PROBE")
    world.configure(
        trainer={"python": None, "epochs": 2, "min_position0": 0.0, "batch_tokens": 512},
        compare={"prompts": 4},
    )
    # Prompts without answers: the target answers them itself, and its states are captured in the same pass.
    lines = [{**prompt, "params": {"temperature": 0, "max_tokens": 16}} for prompt in prompts(60)]
    world.log.write_text(
        "".join(json.dumps({k: v for k, v in line.items() if k != "max_tokens"}) + "\n" for line in lines)
    )
    world.run()
    corpus = world.done("corpus")["result"]["figures"]
    assert corpus["regenerated"] == 60
    capture = world.done("capture")["result"]["figures"]
    assert capture["captured_rows"] == 0, "every row was captured when it was answered"
    checks = {check["name"]: check["passed"] for check in capture["probe"]["checks"]}
    assert {"answers", "shift +1", "shift -1", "token ids", "layer 2", "layer 4", "layer 5", "layer 8"} <= set(checks)
    assert all(checks.values())
    train = world.done("train")["result"]["figures"]
    assert [epoch["epoch"] for epoch in train["epochs"]] == [0, 1]
    assert train["epochs"][1]["loss"] < train["epochs"][0]["loss"], "it learned"
    assert world.done("compare")["result"]["figures"]["outcome"] == "INCONCLUSIVE"
    report = Path(world.done("publish")["result"]["outputs"]["report"])
    assert report.is_file()
    assert world.alive() == []
    starts_where_the_first_one_ended(world, train)


def starts_where_the_first_one_ended(world: World, first: dict[str, Any]) -> None:
    """A second training from that draft keeps its vocabulary and needs no second approach."""
    parent = Path(world.done("train")["result"]["outputs"]["draft"])
    again = world.base / "again"
    settings = (f"trainer.warm_start={parent}", "trainer.epochs=1")
    world.call("train", "--workspace", str(again), *(f"--set={item}" for item in settings))
    [folder] = again.glob("runs/*")
    [done] = [
        event["data"]["result"]
        for event in map(json.loads, (path.read_text() for path in sorted(folder.glob("journal/[0-9]*.json"))))
        if event["kind"] == "phase_done" and event["phase"] == "train"
    ]
    [epoch] = done["figures"]["epochs"]
    assert epoch["loss"] < first["epochs"][0]["loss"]
    assert done["figures"]["draft_vocabulary"] == first["draft_vocabulary"]
    manifest = json.loads((Path(done["outputs"]["draft"]) / "draft-manifest.json").read_text())
    assert manifest["warm_start_from"]
    assert str(parent) not in json.dumps(manifest), "a manifest names no path of this machine"
