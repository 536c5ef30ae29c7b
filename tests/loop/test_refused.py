"""What cannot work is said before it costs anything, or where it broke, with a next step; and it goes on from there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from loop_world import Travelled, World
from tiny_target import write_target

from draftsmith.phases.pipeline import PIPELINE

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
    "another architecture": (config(architectures=["GemmaForCausalLM"]), "no hidden states of GemmaForCausalLM"),
    "code in the model": (config(model_type="evil", auto_map={"AutoModel": "evil.Model"}), "never runs"),
    "a quantised copy": (config(quantization_config={"quant_method": "awq", "bits": 4}), "quantised serving copy"),
    "no weights": (lambda world: (world.target / "model.safetensors").unlink(), "safetensors"),
    "another model's ids": (another_models_log, ""),
}


@pytest.fixture(scope="session")
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
    done = fresh.refused("corpus", "--json", code=2)
    value = json.loads(done.stdout)
    assert names in value["error"]
    assert value["next_step"]
    assert "Traceback" not in done.stderr
    assert fresh.counted()["submitted", "capture"] == 0


def test_too_little_traffic_stops_at_the_corpus_and_says_how_much_is_there(fresh: World) -> None:
    fresh.log.write_text("".join(line + "\n" for line in fresh.log.read_text().split("\n")[:2]))
    done = fresh.refused("corpus", code=2)
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
    done = world.refused("corpus", "--set", "engine.host=192.0.2.1", code=3)
    assert "nothing can listen on 192.0.2.1" in done.stderr
    assert world.runs() == []


def test_an_engine_or_a_trainer_that_is_not_there_is_found_before_anything_starts(travelled: Travelled) -> None:
    world = travelled.to("profile")
    done = world.refused("corpus", "--set", "engine.python=/nowhere/python", code=3)
    assert "/nowhere/python cannot be run" in done.stderr
    assert (
        "speculators is not installed"
        in world.refused("corpus", "--set", "trainer.python=/nowhere/python", code=3).stderr
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


@pytest.mark.parametrize(
    ("exit_code", "said", "step"),
    [(9, "training failed with exit code 9", "train.log"), (137, "was killed (often: out of memory)", "batch_tokens")],
)
def test_training_that_fails_says_how_and_goes_on(exit_code: int, said: str, step: str, travelled: Travelled) -> None:
    world = travelled.to("train")
    done = world.call("train", code=5, FAKE_TRAINER=json.dumps({"exit_code": exit_code}))
    assert said in done.stderr
    assert step in done.stderr
    world.call("train")


def test_a_training_that_was_stopped_says_its_diagnosis(travelled: Travelled) -> None:
    world = travelled.to("train")
    stopped = {"reason": "train loss is nan", "hint": "lower trainer.learning_rate"}
    done = world.call("train", code=5, FAKE_TRAINER=json.dumps({"stopped": stopped}))
    assert "training was stopped: train loss is nan" in done.stderr
    assert "next:  lower trainer.learning_rate" in done.stderr
    assert world.counted()["phase_done", "train"] == 0


# What cannot be written any more: a result, anything of a job, the command's own journal.
@pytest.mark.parametrize("full", ["workload-profile.json", "phases/profile/", "journal/"])
def test_a_full_disk_is_named_and_the_work_goes_on_after_it(full: str, travelled: Travelled) -> None:
    world = travelled.to("profile")
    names_the_disk(world.call("corpus", code=3, FULL_DISK=full).stderr)
    assert world.counted()["phase_done", "profile"] == 0
    world.call("corpus")
    assert len(world.runs()) == 1


def names_the_disk(said: str) -> None:
    assert any(words in said for words in ("No space left", "could not write", " is full"))
    assert "next:  free space" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("phase", "full", "command"),
    [
        ("corpus", "/.manifest.json", "corpus"),
        ("train", "draft-manifest.json", "train"),
        ("compare", "samples.jsonl", "run"),
        ("publish", "MANIFEST.json", "run"),
    ],
)
def test_a_disk_that_is_full_in_a_later_phase_costs_that_phase_alone(
    phase: str, full: str, command: str, travelled: Travelled
) -> None:
    world = travelled.to(phase)
    arguments = (command, "--yes") if command == "run" else (command,)
    before = world.counted()
    names_the_disk(world.call(*arguments, code=3, FULL_DISK=full).stderr)
    assert world.counted()["phase_done", phase] == 0
    assert world.alive() == []
    world.call(*arguments)
    after = world.counted()
    assert after["phase_done", phase] == 1
    assert len(world.runs()) == 1
    for earlier in PIPELINE[: PIPELINE.index(phase)]:
        if before["phase_done", earlier]:
            assert after["submitted", earlier] == before["submitted", earlier], f"{earlier} is not repeated"


def test_a_disk_that_the_engine_cannot_write_its_states_to_is_named(travelled: Travelled) -> None:
    world = travelled.to("capture")
    names_the_disk(world.call("capture", code=5, FULL_DISK="/incoming/").stderr)
    assert world.alive() == []
    world.call("capture")


def test_a_state_that_cannot_be_written_leaves_the_promotion_to_be_completed(travelled: Travelled) -> None:
    world = travelled.to("compare")
    names_the_disk(world.run(code=3, FULL_DISK="service-state.json").stderr)
    assert world.state()["history"] == []
    world.run()
    assert [entry["event"] for entry in world.state()["history"]] == ["kept"]
    assert world.counted()["submitted", "compare"] == 1


def test_a_draft_that_the_engine_loads_otherwise_is_not_measured(travelled: Travelled) -> None:
    world = travelled.to("compare")
    line = (
        "Detected EAGLE model without its own lm_head in the checkpoint. Sharing target model lm_head weights with it."
    )
    done = world.run(code=5, FAKE_VLLM=json.dumps({"says": {"eagle3": line}}))
    assert "it uses the target's lm head, the manifest says that the draft has its own" in done.stderr
    assert not list(world.folder().glob("phases/compare/samples.jsonl"))
    world.run()
