"""What cannot work is said before it costs anything, or where it broke, with a next step; and it goes on from there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Travelled
from loop_world import World
from tiny_target import write_target

LOGS = Path(__file__).parent.parent / "engines" / "logs"

Change = Callable[[World], None]


def config(**changed: object) -> Change:
    def change(world: World) -> None:
        path = world.target / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return change


def foreign_tokenizer(world: World) -> None:
    """The tokenizer of a model with a larger vocabulary."""
    path = world.target / "tokenizer.json"
    value = json.loads(path.read_text())
    value["added_tokens"].append({"id": 9999, "content": "<more>", "special": True})
    path.write_text(json.dumps(value))


def another_models_log(world: World) -> None:
    """Ids of a larger vocabulary: the traffic is another model's."""
    lines = [json.loads(line) for line in world.log.read_text().split("\n") if line]
    world.log.write_text(
        "".join(json.dumps(v | {"output_token_ids": [50_000], "messages": None}) + "\n" for v in lines)
    )


INPUTS: dict[str, tuple[Change, str]] = {
    "an empty log": (lambda world: world.log.write_text("") and None, "the sources are empty"),
    "a log of broken lines": (
        lambda world: world.log.write_text('{"messages": [\n' * 20) and None,
        "broken JSON: 20",
    ),
    "no log": (lambda world: world.log.unlink(), "access.jsonl"),
    "no tokenizer": (lambda world: (world.target / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "another model's tokenizer": (foreign_tokenizer, "belongs to another model"),
    "another architecture": (config(architectures=["GemmaForCausalLM"]), "GemmaForCausalLM is not one"),
    "code in the model": (config(auto_map={"AutoModel": "evil.Model"}), "code of its own"),
    "a quantised copy": (config(quantization_config={"quant_method": "awq", "bits": 4}), "quantised serving copy"),
    "no weights": (lambda world: (world.target / "model.safetensors").unlink(), "safetensors"),
    "another model's ids": (another_models_log, ""),
}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("refused") / "world", requests=30)


@pytest.fixture
def fresh(pristine: World, tmp_path: Path) -> World:
    """A world to break, with the same files each time."""
    shutil.rmtree(pristine.workspace, ignore_errors=True)
    shutil.rmtree(pristine.target)
    write_target(pristine.target)
    if not hasattr(pristine, "first_log"):
        pristine.first_log = pristine.log.read_text()  # type: ignore[attr-defined]
    pristine.log.write_text(pristine.first_log)  # type: ignore[attr-defined]
    return pristine


@pytest.mark.parametrize("wrong", INPUTS)
def test_an_input_that_cannot_be_used_is_named(wrong: str, fresh: World) -> None:
    change, names = INPUTS[wrong]
    change(fresh)
    done = fresh.call("corpus", "--json", code=2)
    value = json.loads(done.stdout)
    assert names in value["error"]
    assert value["next_step"]
    assert "Traceback" not in done.stderr
    assert fresh.counted()["submitted", "capture"] == 0


def test_too_little_traffic_stops_at_the_corpus_and_says_how_much_is_there(fresh: World) -> None:
    fresh.log.write_text("".join(line + "\n" for line in fresh.log.read_text().split("\n")[:2]))
    done = fresh.call("corpus", code=2)
    assert "next:" in done.stderr


def test_an_engine_that_does_not_start_says_why_with_its_log(travelled: Travelled) -> None:
    world = travelled.to("capture")
    fail = {"fail": {"capture": str(LOGS / "fail-kv-memory.log")}}
    done = world.call("capture", "--json", code=5, FAKE_VLLM=json.dumps(fail))
    value = json.loads(done.stdout)
    assert value["kind"] == "EngineStartError"
    assert value["error"].startswith("capture: ")
    assert "KV" in value["error"] or "memory" in value["error"]
    assert value["next_step"]
    assert "capture  failed" in world.call("status").stdout
    world.call("capture")


def test_a_port_that_somebody_took_is_named(travelled: Travelled) -> None:
    world = travelled.to("capture")
    fail = {"fail": {"capture": str(LOGS / "fail-port.log")}}
    done = world.call("capture", code=5, FAKE_VLLM=json.dumps(fail))
    assert "the port is taken by another process" in done.stderr
    world.call("capture")


def test_an_address_that_is_not_this_machines_is_found_before_anything_starts(travelled: Travelled) -> None:
    world = travelled.to("profile")
    done = world.call("corpus", "--set", "engine.host=192.0.2.1", code=3)
    assert "nothing can listen on 192.0.2.1" in done.stderr
    assert world.runs() == []


def test_an_engine_or_a_trainer_that_is_not_there_is_found_before_anything_starts(travelled: Travelled) -> None:
    world = travelled.to("profile")
    done = world.call("corpus", "--set", "engine.python=/nowhere/python", code=3)
    assert "/nowhere/python cannot be run" in done.stderr
    assert (
        "speculators is not installed" in world.call("corpus", "--set", "trainer.python=/nowhere/python", code=3).stderr
    )
    assert world.runs() == []


def test_a_draft_with_a_wrong_vocabulary_map_is_found_before_it_is_served(travelled: Travelled) -> None:
    world = travelled.to("train")
    done = world.call("train", code=4, FAKE_TRAINER='{"wrong_map": true}')
    assert "does not pass lint" in done.stderr
    assert "not with offsets" in done.stderr
    assert world.counted()["submitted", "compare"] == 0


def test_a_draft_that_is_never_accepted_is_not_measured(travelled: Travelled) -> None:
    world = travelled.to("compare")
    done = world.run(code=5, FAKE_VLLM='{"acceptance": {"eagle3": 0.02}}')
    assert "acceptance at position 0 is 0.0" in done.stderr
    assert "suspect the wiring" in done.stderr
    assert world.standing() is None


def test_training_that_fails_names_the_log(travelled: Travelled) -> None:
    world = travelled.to("train")
    done = world.call("train", code=5, FAKE_TRAINER='{"exit_code": 9}')
    assert "training failed with exit code 9" in done.stderr
    assert "train.log" in done.stderr
    world.call("train")


# What cannot be written any more: a result, anything of a job, the command's own journal.
@pytest.mark.parametrize(("full", "code"), [("workload-profile.json", 3), ("phases/profile/", 3), ("journal/", 3)])
def test_a_full_disk_is_named_and_the_work_goes_on_after_it(full: str, code: int, travelled: Travelled) -> None:
    world = travelled.to("profile")
    done = world.call("corpus", code=code, FULL_DISK=full)
    assert "No space left" in done.stderr or "could not write" in done.stderr
    assert "next:  free space" in done.stderr
    assert "Traceback" not in done.stderr
    assert world.counted()["phase_done", "profile"] == 0
    world.call("corpus")
    assert len(world.runs()) == 1
