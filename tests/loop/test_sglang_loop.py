"""The loop for a model that SGLang serves: vLLM captures, and the draft that is compared is in SGLang's notation."""

from __future__ import annotations

import json
from pathlib import Path

from loop_world import World, interpreter

from draftsmith.trainers.convert import notation
from draftsmith.trainers.package import trainers_form


def test_captured_by_one_engine_and_compared_in_the_other(tmp_path: Path) -> None:
    world = World(tmp_path, requests=60)
    both = interpreter(tmp_path, "fake_engine_python")
    world.configure(
        engine={"kind": "sglang"}, compare={"prompts": 4, "adaptive_steps": True}, **{"engines.vllm": {"python": both}}
    )
    said = world.call("doctor", code=None).stdout
    assert "SGLang hands out no hidden states: vLLM answers the prompts and captures" in said
    world.run()
    captured = world.done("capture")["result"]["figures"]
    assert captured["captured_rows"] > 0
    draft = Path(world.done("train")["result"]["outputs"]["draft"])
    assert (notation(draft), notation(trainers_form(draft))) == ("sglang", "vllm")
    outputs = world.done("compare")["result"]["outputs"]
    plan = json.loads(Path(outputs["plan"]).read_text())
    assert {arm["engine"] for arm in plan["arms"]} == {"sglang"}
    assert plan["versions"].keys() >= {"sglang", "vllm"}
    drafted = [str((arm["spec_config"] or {}).get("model")) for arm in plan["arms"]]
    assert [model for model in drafted if model.endswith(f"/{draft.name}")], "the one in SGLang's notation"
    [adaptive] = [arm for arm in plan["arms"] if arm["name"] == "eagle3-adaptive"]
    assert adaptive["spec_config"]["adaptive"] is True
    trials = [json.loads(line) for line in Path(outputs["samples"]).read_text().splitlines()]
    moving = [trial for trial in trials if trial["arm"] == "eagle3-adaptive" and trial["traffic"] == "own"]
    assert moving
    assert not any(trial["invalid"] for trial in moving)
    assert world.alive() == []
