"""The recipe for teams with a SpecForge of their own: what it writes is what shells, SpecForge and Kubernetes take."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import specforge_world as world
import yaml
from lazily import lazily
from typer.testing import CliRunner

from draftsmith.cli.app import app

schema = lazily("specforge.config.schema")
kubernetes_validate = lazily("kubernetes_validate")

GOLDEN = Path(__file__).parent / "golden"
CONVERSATIONS = 60


def write(tmp_path: Path, *more: str) -> Path:
    out = tmp_path / "recipe"
    target = world.target(tmp_path / "Tiny-Model")
    arguments = ["scaffold", "--target", str(target), "--out", str(out), *more]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write(tmp_path)


def slug(recipe: Path) -> str:
    return next((recipe / "deploy").iterdir()).name.removesuffix("-spec-canary.yaml")


def test_every_file_of_the_recipe_is_there(recipe: Path) -> None:
    name = slug(recipe)
    assert sorted(str(p.relative_to(recipe)) for p in recipe.rglob("*") if p.is_file()) == sorted(
        [
            "README.md", f"configs/{name}-eagle3.json", f"configs/{name}-eagle3.yaml", f"deploy/{name}-spec-canary.yaml",
            f"run-{name}-offline.sh", "slurm/capture.sbatch", "slurm/eval.sbatch", "slurm/prepare-data.sbatch",
            "slurm/train.sbatch", "slurm/train_entry.py",
        ]
    )  # fmt: skip
    for path in recipe.rglob("*"):
        if path.is_file():
            assert not re.findall(r"@[a-z_]+@", path.read_text()), f"{path.name} has an open place"


@pytest.mark.parametrize("method", ["eagle3", "dflash"])
def test_specforge_accepts_the_configurations(tmp_path: Path, method: str) -> None:
    out = write(tmp_path, "--method", method)
    read = schema.Config.from_file(str(out / "configs" / f"{slug(out)}-{method}.yaml"))
    assert (read.training.strategy, read.mode) == (method, "offline")
    draft = json.loads((out / "configs" / f"{slug(out)}-{method}.json").read_text())
    if method == "eagle3":
        assert read.model.aux_hidden_state_layer_ids == [1, 5, 8], "[1, L/2-1, L-4] of twelve layers"
        assert draft["eagle_aux_hidden_state_layer_ids"] == [2, 6, 9], "the same layers, for vLLM"
    else:
        assert read.model.aux_hidden_state_layer_ids is None
        assert draft["dflash_config"]["target_layer_ids"] == [1, 5, 8]
    from specforge.algorithms.builtin import builtin_algorithm_registry
    from specforge.application.planning import validate_resolved_run

    validate_resolved_run(read, builtin_algorithm_registry().resolve(method))


def test_scripts_are_shell(recipe: Path) -> None:
    scripts = [*recipe.glob("*.sh"), *recipe.glob("slurm/*.sbatch")]
    assert len(scripts) == 5
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
    run = next(recipe.glob("*.sh"))
    assert run.stat().st_mode & 0o777 == 0o700
    wrong = subprocess.run([run, "bake"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "prepare | capture | train" in wrong.stderr
    early = subprocess.run([run, "train"], capture_output=True, text=True, check=False)
    assert early.returncode == 3
    assert "Run the stage capture first" in early.stderr


@pytest.mark.parametrize("stage", ["prepare-data", "capture", "train", "eval"])
def test_batch_scripts_word_for_word(tmp_path: Path, stage: str) -> None:
    site = tmp_path / "site.toml"
    site.write_text(
        '[backend]\nkind = "slurm"\n[backend.options]\naccount = "lab"\npartition = "gpu"\n'
        "[backend.options.phases.train]\nnodes = 2\ngpus = 4\n"
    )
    out = write(tmp_path, "--config", str(site))
    text = (out / "slurm" / f"{stage}.sbatch").read_text()
    text = text.replace(str(out), "/share/recipe").replace(slug(out), "tiny")
    assert text == (GOLDEN / f"scaffold-{stage}.sbatch").read_text()


def test_the_data_stage_splits_by_prompt_and_counts(recipe: Path, tmp_path: Path) -> None:
    source = tmp_path / "traffic.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"q{i // 2}\u2028"}, {"role": "assistant", "content": f"a{i}"}]}
        for i in range(CONVERSATIONS)
    ]
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*rows, {"messages": []}]))
    run = next(recipe.glob("*.sh"))
    done = subprocess.run(
        [run, "prepare"], env={"DATA": str(source), "PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("dropped: 1\n")
    made = {name: world.read_lines(recipe / "data" / f"{name}.jsonl") for name in ("train", "validation", "heldout")}
    assert sum(map(len, made.values())) == CONVERSATIONS
    seen = {n: {row.get("conversations", row.get("messages"))[0]["content"] for row in r} for n, r in made.items()}  # type: ignore[index,union-attr]
    assert not seen["train"] & (seen["heldout"] | seen["validation"]), "no prompt on two sides"


CAPTURE = """
import pathlib, sys
import torch
argv = [word for word in sys.argv[1:] if word != "--enable-aux-hidden-states"]
given = dict(zip(argv[::2], argv[1::2]))
assert given["--aux-hidden-states-layers"] == "1,5,8", given
out = pathlib.Path(given["--output-path"]) / "rows_0-2000"
out.mkdir(parents=True)
for index, _ in enumerate(open(given["--data-path"], "rb")):
    mask = torch.full((4,), 0 if given["--chat-template"] == "wrong" else 1)
    row = {"input_ids": torch.arange(4), "loss_mask": mask, "hidden_state": torch.zeros(1, 4, 8)}
    torch.save(row | {"aux_hidden_state": torch.zeros(1, 4, 24)}, out / f"data_{index}.ckpt")
"""


@pytest.mark.story
def test_the_capture_stage_stops_where_nothing_could_be_learned(tmp_path: Path) -> None:
    recipe = write(tmp_path, "--method", "dflash")
    scripts = tmp_path / "checkout" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "prepare_hidden_states.py").write_text(CAPTURE)
    alone = tmp_path / "python"  # one process instead of torchrun's
    alone.write_text(f'#!/bin/sh\n[ "$2" = torch.distributed.run ] && shift 4\nexec "{sys.executable}" "$@"\n')
    alone.chmod(0o700)
    (recipe / "data").mkdir()
    for split in ("train", "validation"):
        (recipe / "data" / f"{split}.jsonl").write_text("{}\n" * 3)
    env = {"PATH": "/usr/bin:/bin", "PYTHON": str(alone), "SPECFORGE_HOME": str(tmp_path / "checkout"), "NUM_GPUS": "1"}

    def capture(**more: str) -> subprocess.CompletedProcess[str]:
        command = [next(recipe.glob("*.sh")), "capture"]
        return subprocess.run(command, env=env | more, capture_output=True, text=True, check=False)

    wrong = capture(CHAT_TEMPLATE="wrong", STATES=str(tmp_path / "other"))
    assert (wrong.returncode, "CHAT_TEMPLATE does not fit" in wrong.stderr) == (1, True), wrong.stderr
    done = capture()
    assert done.returncode == 0, done.stderr
    assert "train: 3 of 3 conversations, 12 tokens to learn from" in done.stdout
    from specforge.algorithms.common.dflash_family_data import normalize_offline_sample
    from specforge.runtime.data_plane.feature_store import load_feature_file

    row = load_feature_file(str(recipe / "states" / "train" / "rows_0-2000" / "data_0.ckpt"))
    read = normalize_offline_sample(row, 400)
    assert read["hidden_states"].shape[-1] == 24, "SpecForge's DFlash reads the layers under this name"


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_canaries_are_objects_that_nothing_routes_to(recipe: Path, version: str) -> None:
    items = list(yaml.safe_load_all((recipe / "deploy" / f"{slug(recipe)}-spec-canary.yaml").read_text()))
    assert [item["kind"] for item in items] == ["Job", "Service", "Job", "Service"]
    for item in items:
        kubernetes_validate.validate(item, version, strict=True)
        assert item["metadata"]["labels"]["draftsmith.dev/experiment"].startswith(slug(recipe)[:10])
    arguments = [" ".join(i["spec"]["template"]["spec"]["containers"][0]["args"]) for i in items if i["kind"] == "Job"]
    assert "--speculative-config" not in arguments[0]
    assert '"method":"eagle3"' in arguments[1].replace(" ", "")


def test_a_recipe_is_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path)
    result = CliRunner().invoke(
        app, ["scaffold", "--target", str(tmp_path / "Tiny-Model"), "--out", str(tmp_path / "recipe")]
    )
    assert result.exit_code != 0


def test_training_in_the_recipe_goes_on_from_its_last_checkpoint(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import runpy

    from specforge import cli

    told: list[list[str]] = []
    monkeypatch.setattr(cli, "main", lambda argv: told.append(argv) or 0)
    config = str(recipe / "configs" / f"{slug(recipe)}-eagle3.yaml")
    for made in (False, True):
        if made:
            state = recipe / "output" / f"{slug(recipe)}-step500" / "training_state.pt"
            state.parent.mkdir(parents=True)
            state.touch()
        monkeypatch.setattr(sys, "argv", ["train_entry.py", config, "training.num_epochs=2"])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(recipe / "slurm" / "train_entry.py"), run_name="__main__")
        assert caught.value.code == 0
    assert told[0] == ["train", "--config", config, "training.num_epochs=2"]
    assert told[1][-1] == f"training.resume_from={recipe / 'output'}"
