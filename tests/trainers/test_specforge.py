"""What SpecForge is told, and that SpecForge itself understands it."""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import specforge_world as world
import yaml
from lazily import lazily
from model_folders import write_plain, write_target
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from draftsmith import wiring
from draftsmith.contract.config import Config, TrainerConfig, parse_config
from draftsmith.contract.errors import ConfigError, InputError, PrerequisiteError
from draftsmith.trainers import specforge_env
from draftsmith.trainers.base import TrainingTask
from draftsmith.trainers.lint import lint_draft
from draftsmith.trainers.specforge import SpecforgeTrainer
from draftsmith.trainers.specforge_config import dflash_config, eagle3_config, yaml_text
from draftsmith.trainers.target import read_target

schema = lazily("specforge.config.schema")

pytestmark = pytest.mark.filterwarnings("ignore:flash_attn is not found")

GLM = {
    "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 78, "hidden_size": 5120, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151_552,
    "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5, "rope_theta": 1_000_000,
}  # fmt: skip


def task(tmp_path: Path, **changed: Any) -> TrainingTask:
    given = {
        "target": str(world.target(tmp_path / "target")), "corpus": "/c", "states": "/s", "workdir": str(tmp_path / "w"),
        "layer_ids": world.LAYER_IDS, "draft_vocab": 24, "train_rows": 90, "validation_rows": 10, "longest_row": 400,
        "train_tokens": 9_000,
    }  # fmt: skip
    return TrainingTask.model_validate(given | changed)


def told(tmp_path: Path, changed: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    trainer = SpecforgeTrainer(TrainerConfig(kind="specforge", **settings), sys.executable)
    files = trainer.files(task(tmp_path, **(changed or {})))
    text = next(text for path, text in files.items() if path.endswith(".yaml"))
    parsed: dict[str, Any] = yaml.safe_load(text)
    assert schema.Config.model_validate(parsed).mode == "offline"
    return parsed


def test_specforge_reads_the_configuration_as_it_was_meant(tmp_path: Path) -> None:
    trainer = SpecforgeTrainer(TrainerConfig(kind="specforge", epochs=4, ttt_steps=5), sys.executable)
    for path, text in trainer.files(task(tmp_path)).items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text)
    read = schema.Config.from_file(str(tmp_path / "w" / "specforge.yaml"))
    assert read.model.aux_hidden_state_layer_ids == [2, 5, 9], "output of layer k: one less than the engine's ids"
    assert (read.training.strategy, read.training.num_epochs, read.training.ttt_length) == ("eagle3", 4, 5)
    assert read.model.lm_head_key == "model.embed_tokens.weight", "the target has no head of its own"
    assert read.training.eval_interval == read.training.save_interval == 90 // read.training.batch_size
    draft = json.loads((tmp_path / "w" / "draft-config.json").read_text())
    assert (draft["architectures"], draft["draft_vocab_size"]) == (["LlamaForCausalLMEagle3"], 24)


def test_a_batch_is_as_many_rows_as_the_wanted_tokens(tmp_path: Path) -> None:
    assert told(tmp_path)["training"]["batch_size"] == 5, "512 tokens, rows of 100 on average"
    assert told(tmp_path, batch_tokens=2000)["training"]["batch_size"] == 20
    long = told(tmp_path, {"longest_row": 2000}, batch_tokens=2000)
    assert long["training"]["batch_size"] == 4, "every row of a batch is padded to the longest"


def test_a_head_of_its_own_is_taken(tmp_path: Path) -> None:
    target = world.target(tmp_path / "other", tied=False)
    assert told(tmp_path, {"target": str(target)})["model"]["lm_head_key"] == "lm_head.weight"


def test_the_defaults_are_specforge_s_own_layers() -> None:
    from specforge.algorithms.model_providers import resolve_eagle_capture_layers

    from draftsmith.trainers.layers import default_layers, to_specforge

    class NoOverride:
        class model:  # noqa: N801 - as in its configuration
            aux_hidden_state_layer_ids = None

    class Target:
        num_hidden_layers = 78

    theirs = resolve_eagle_capture_layers(NoOverride, {}, Target)  # type: ignore[arg-type]
    assert tuple(theirs) == to_specforge(default_layers(78)) == (1, 38, 74)


@pytest.mark.foreign
def test_specforge_builds_its_models_from_the_draft_configurations() -> None:
    from specforge.training.model_loading import _draft_config_from_dict

    eagle3 = _draft_config_from_dict(eagle3_config(GLM, 32_000, (2, 39, 75)))
    assert (eagle3.draft_vocab_size, eagle3.num_hidden_layers) == (32_000, 1)
    assert eagle3.rope_parameters["rope_theta"] == 1_000_000
    assert not hasattr(eagle3, "norm_output"), "true would mean one thing to SpecForge and another to the engine"
    dflash = _draft_config_from_dict(dflash_config(GLM, (2, 39, 75), layers=5, block_size=8, mask_token=7))
    assert dflash.dflash_config == {"target_layer_ids": [1, 38, 74], "mask_token_id": 7}
    assert dflash.layer_types == ["full_attention"] * 5


def test_yaml_is_read_back_as_written() -> None:
    odd = {"run_id": "no", "model": {"path": "a: b # c", "ids": [1, 2], "none": None, "switch": True, "rate": 1e-05}}
    assert yaml.safe_load(yaml_text(odd)) == odd


def test_what_specforge_cannot_do_is_refused_before_anything_starts(tmp_path: Path) -> None:
    for settings in ({"method": "dflash"}, {"draft_layers": 2}, {"attention": "eager"}, {"layers": [2, 3]}):
        with pytest.raises(ConfigError):
            wiring.trainer(parse_config({"trainer": {"kind": "specforge", **settings}}))
    gemma = world.target(tmp_path / "gemma")
    (gemma / "config.json").write_text(
        (gemma / "config.json").read_text().replace("LlamaForCausalLM", "Gemma4ForCausalLM")
    )
    with pytest.raises(InputError, match="final norm"):
        told(tmp_path, {"target": str(gemma)})


def test_an_interpreter_without_it_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(tmp_path / "no-python")
    with pytest.raises(PrerequisiteError) as caught:
        SpecforgeTrainer(TrainerConfig(kind="specforge"), missing).files(task(tmp_path))
    assert missing in caught.value.message
    assert "specforge==0.2.0" in caught.value.next_step
    monkeypatch.setattr(
        specforge_env, "packages", lambda python: {"specforge": "0.1.0", "torch": "2", "transformers": "5"}
    )
    with pytest.raises(PrerequisiteError, match="SpecForge 0"):
        specforge_env.require_specforge(sys.executable)


def test_the_documented_environment_is_the_one_that_specforge_asks_for() -> None:
    """One command, one file of names and versions; SpecForge's own requirements are met by it."""
    root = Path(__file__).parents[2]
    lines = (root / "constraints" / "specforge.txt").read_text().split("\n")
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+|#.*|", line) for line in lines), "names and versions only"
    assert pins["specforge"] == specforge_env.VERSION
    for text in metadata.requires("specforge") or []:
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)], prereleases=True), text
    page = (root / "docs" / "specforge.md").read_text()
    assert f"--constraint constraints/specforge.txt specforge=={specforge_env.VERSION}" in page
    assert "constraints/specforge.txt" in specforge_env.ADVICE


def test_doctor_looks_for_the_chosen_trainer(tmp_path: Path) -> None:
    from draftsmith.api.checks import check_trainer

    config = Config(trainer=TrainerConfig(kind="specforge"))
    assert [(c.level, c.sentence[:15]) for c in check_trainer(config)] == [("ok", "SpecForge 0.2.0")]
    absent = Config(trainer=TrainerConfig(kind="specforge", python=str(tmp_path / "none")))
    assert [c.level for c in check_trainer(absent)] == ["missing"]
    gemma = write_target(tmp_path / "gemma", architectures=["Gemma4ForCausalLM"])
    unfit = Config(target=str(gemma), trainer=TrainerConfig(kind="specforge"))
    assert "final norm" in next(check_trainer(unfit)).sentence, "before a capture, not after it"
    wrong = Config(trainer=TrainerConfig(kind="specforge", method="dflash"))
    assert "scaffold" in next(check_trainer(wrong)).next_step


def test_lint_asks_about_a_switch_that_trainer_and_engine_read_differently(tmp_path: Path) -> None:
    facts = read_target(write_target(tmp_path / "small"))
    said = {name: lint_draft(write_plain(tmp_path / name, **more), facts).at("warn") for name, more in
            {"silent": {}, "said": {"norm_output": True}}.items()}  # fmt: skip
    assert not [finding for finding in said["silent"] if "norm_output" in finding.sentence]
    assert [finding.check for finding in said["said"] if "norm_output" in finding.sentence] == ["switches"]
