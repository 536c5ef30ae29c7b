"""The recipe for teams with a SpecForge of their own: what it writes is what shells, SpecForge and Kubernetes take."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import specforge_world as world
import yaml
from lazily import lazily
from renew_specforge_lists import read, templates
from typer.testing import CliRunner

from draftsmith.cli.app import app
from draftsmith.trainers.specforge_lists import BY_MARK, BY_TYPE, lists, template_of

schema = lazily("specforge.config.schema")
kubernetes_validate = lazily("kubernetes_validate")

GOLDEN = Path(__file__).parent / "golden"
CONVERSATIONS = 60
# A stand-in for SpecForge's script: its own flags, strictly, then states of which the next token can be read.
CAPTURE = """
import argparse, json, pathlib
import torch
parser = argparse.ArgumentParser(allow_abbrev=False)
for flag in FLAGS: parser.add_argument(flag)
for flag in SWITCHES: parser.add_argument(flag, action="store_true")
given = {"--" + key.replace("_", "-"): value for key, value in vars(parser.parse_args()).items() if value}
with open(pathlib.Path(__file__).parents[1] / "told.jsonl", "a") as told:
    told.write(json.dumps(given) + chr(10))
from safetensors.torch import load_file
head = load_file(pathlib.Path(given["--target-model-path"]) / "model.safetensors")["model.embed_tokens.weight"].float()
out = pathlib.Path(given["--output-path"]) / "rows_0-2000"
out.mkdir(parents=True)
for index, _ in enumerate(open(given["--data-path"], "rb")):
    ids = torch.arange(12) * (index + 3) % 64
    last = torch.linalg.pinv(head)[:, ids.roll(-1)].T.contiguous()
    layers = torch.randn(12, 48)
    row = {"input_ids": ids, "loss_mask": torch.ones(12)}
    if given['--strategy'] == 'dflash': row |= {"hidden_states": layers}
    else: row |= {"hidden_state": last[None], "aux_hidden_state": layers[None]}
    torch.save(row, out / f"data_{index}.ckpt")
"""


def checkout(folder: Path, *, strategy: bool = True) -> Path:
    """What of a SpecForge checkout the recipe reads: the capture script's flags and the names of templates."""
    home = os.environ.get("SPECFORGE_HOME")
    known = read(Path(home), "checkout") if home else lists()
    flags = [flag for flag in known["capture_flags"] if strategy or flag != "--strategy"]
    (folder / "scripts").mkdir(parents=True)
    script = CAPTURE.replace("FLAGS", json.dumps(flags)).replace("SWITCHES", json.dumps(known["capture_switches"]))
    (folder / "scripts" / "prepare_hidden_states.py").write_text(script)
    (folder / "specforge" / "data").mkdir(parents=True)
    (folder / "specforge" / "data" / "template.py").write_text(
        "".join(f'register(name="{name}")\n' for name in known["templates"])
    )
    return folder


def data(recipe: Path) -> None:
    """Conversations as the stage prepare leaves them."""
    (recipe / "data").mkdir()
    for split in ("train", "validation"):
        (recipe / "data" / f"{split}.jsonl").write_text("{}\n" * 3)


def stage(recipe: Path, home: Path, name: str, **more: str) -> subprocess.CompletedProcess[str]:
    """One stage of the run script, in one process instead of torchrun's."""
    alone = recipe.parent / "python"
    alone.write_text(f'#!/bin/sh\n[ "$2" = torch.distributed.run ] && shift 4\nexec "{sys.executable}" "$@"\n')
    alone.chmod(0o700)
    env = {"PATH": "/usr/bin:/bin", "PYTHON": str(alone), "SPECFORGE_HOME": str(home), "NUM_GPUS": "1"}
    return subprocess.run(
        [next(recipe.glob("*.sh")), name], env=env | more, capture_output=True, text=True, check=False
    )


def write(tmp_path: Path, *more: str) -> Path:
    out = tmp_path / "recipe"
    target = world.target(tmp_path / "Tiny-Model")
    template = [] if "--chat-template" in more else ["--chat-template", "llama3"]
    arguments = ["scaffold", "--target", str(target), "--out", str(out), *template, *more]
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
            "slurm/probe_states.py", "slurm/train.sbatch", "slurm/train_entry.py",
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
    assert "prepare | probe | capture | train" in wrong.stderr
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


@pytest.mark.story
@pytest.mark.parametrize("method", ["eagle3", "dflash"])
def test_the_capture_of_specforge_takes_every_word(tmp_path: Path, method: str) -> None:
    """Its own parser where a checkout is named in SPECFORGE_HOME, else one of the flags that were read from it."""
    recipe = write(tmp_path, "--method", method, "--set", "trainer.layers=[3,6,10]")
    home = checkout(tmp_path / "checkout")
    data(recipe)
    name = "capture" if method == "eagle3" else "probe"  # one of the two goes all the way
    done = stage(recipe, home, name, CHAT_TEMPLATE="qwen", CAPTURE_ARGS="--sglang-mem-fraction-static 0.8")
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in (home / "told.jsonl").read_text().splitlines()]
    made = ["probe", "train", "validation"] if method == "eagle3" else ["probe"]
    assert [call["--output-path"].rsplit("/", 1)[1] for call in told] == made
    assert told[0]["--num-samples"] == "16"
    assert {call["--strategy"] for call in told} == {method}
    assert {call["--sglang-mem-fraction-static"] for call in told} == {"0.8"}
    draft = json.loads(Path(told[0]["--draft-model-config"]).read_text())
    ids = (
        draft["eagle_config"]["eagle_aux_hidden_state_layer_ids"]
        if method == "eagle3"
        else draft["dflash_config"]["target_layer_ids"]
    )
    assert ids == [2, 5, 9], "SpecForge's names of layers 3, 6 and 10"
    assert not (recipe / "states" / "probe").exists(), "what was probed is not kept"
    resolve = lazily("specforge.algorithms.model_providers")
    config = schema.Config.from_file(str(recipe / "configs" / f"{slug(recipe)}-{method}.yaml"))
    asked = config.model_copy(update={"model": config.model.model_copy(update={"aux_hidden_state_layer_ids": None})})
    own = resolve.resolve_eagle_capture_layers if method == "eagle3" else resolve.resolve_dflash_capture_layers
    assert own(asked, draft, None) == ids, "as SpecForge resolves it"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (None, None),
        ("zero", "no answer tokens: CHAT_TEMPLATE does not fit"),
        ("shifted", "does not name the next token"),
        ("twin", "two of the layers are the same"),
        ("short", "the last state have 11 places for 12 tokens"),
    ],
)
def test_states_that_would_teach_nothing_are_found_by_a_few(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str | None, words: str | None
) -> None:
    import runpy

    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    target = tmp_path / "Tiny-Model"
    head = load_file(target / "model.safetensors")["model.embed_tokens.weight"].float()
    (tmp_path / "states").mkdir()
    for index in range(3):
        ids = torch.arange(12) * (index + 3) % 64
        last, layers = torch.linalg.pinv(head)[:, ids.roll(-1)].T.contiguous(), torch.randn(12, 48)
        last = last.roll(1, 0) if fault == "shifted" else last[1:] if fault == "short" else last
        layers[:, 16:32] = layers[:, :16] if fault == "twin" else layers[:, 16:32]
        mask = torch.zeros(12) if fault == "zero" else torch.ones(12)
        row = {"input_ids": ids, "loss_mask": mask, "hidden_state": last[None], "aux_hidden_state": layers[None]}
        torch.save(row, tmp_path / "states" / f"data_{index}.ckpt")
    probe = str(recipe / "slurm" / "probe_states.py")
    monkeypatch.setattr(sys, "argv", [probe, str(tmp_path / "states"), str(target), "model.embed_tokens.weight"])
    if words is None:
        runpy.run_path(probe, run_name="__main__")
        return
    with pytest.raises(SystemExit, match=words):
        runpy.run_path(probe, run_name="__main__")


def test_what_the_checkout_cannot_do_is_said_before_anything_starts(recipe: Path, tmp_path: Path) -> None:
    data(recipe)
    home = checkout(tmp_path / "checkout")
    stranger = stage(recipe, home, "capture", CHAT_TEMPLATE="nosuch-template")
    assert (stranger.returncode, "no chat template 'nosuch-template'" in stranger.stderr) == (1, True)
    older = stage(recipe, checkout(tmp_path / "older", strategy=False), "capture")
    assert (older.returncode, "has no --strategy" in older.stderr) == (1, True)
    assert not (home / "told.jsonl").exists()


def test_logs_in_the_shapes_of_the_documents_become_conversations(recipe: Path, tmp_path: Path) -> None:
    source, rows = tmp_path / "traffic.jsonl", []
    for at in range(CONVERSATIONS):
        asked, answer = f"question {at}", f"answer {at}"
        shapes = [
            {"messages": [{"role": "user", "content": asked}], "completion": answer},
            {"conversations": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]},
            {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]},
            {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]},
        ]
        rows.append(shapes[at % 4])
    source.write_text(
        "".join(json.dumps(row) + "\n" for row in [*rows, [], {"messages": [{"role": "user", "content": "?"}]}]) + "{\n"
    )
    done = stage(recipe, tmp_path, "prepare", DATA=str(source), PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("dropped: 3\n")
    made = [row for name in ("train", "validation") for row in world.read_lines(recipe / "data" / f"{name}.jsonl")]
    assert {tuple(turn["role"] for turn in row["conversations"]) for row in made} == {("user", "assistant")}  # type: ignore[index,union-attr]


def test_the_template_is_one_that_specforge_has(tmp_path: Path) -> None:
    target = world.target(tmp_path / "Tiny-Model")

    def call(*more: str) -> Any:
        return CliRunner().invoke(app, ["scaffold", "--target", str(target), "--out", str(tmp_path / "out"), *more])

    assert "no chat template 'glm5p1'" in str(call("--chat-template", "glm5p1").exception)
    assert "cannot be told" in str(call().exception)
    (target / "chat_template.jinja").write_text("{{ '<|im_start|>' }}")
    assert call().exit_code == 0
    assert "CHAT_TEMPLATE:-qwen}" in next((tmp_path / "out").glob("*.sh")).read_text()
    kinds = {
        "glm_moe_dsa": "glm-5.2",
        "deepseek_v3": "deepseek-v3",
        "gpt_oss": "gpt-oss",
        "qwen3_moe": "qwen3-instruct",
        "gemma3_text": "gemma",
    }
    assert {kind: template_of(target, {}, kind) for kind in kinds} == kinds
    assert set(BY_TYPE.values()) | {name for _, name in BY_MARK} <= set(lists()["templates"])


def test_the_recorded_lists_are_those_of_the_installed_release() -> None:
    import importlib.util

    spec = importlib.util.find_spec("specforge")
    if spec is None or spec.origin is None:
        pytest.skip("SpecForge is not installed")
    source = Path(spec.origin).with_name("data") / "template.py"
    assert templates(source.read_text(encoding="utf-8")) == lists()["templates"]
    assert {"--strategy", "--draft-model-config", "--chat-template", "--tp-size"} <= set(lists()["capture_flags"])


def test_a_large_target_is_split_and_what_stands_is_the_first_arm(tmp_path: Path) -> None:
    """GLM-5 hands its last state out of SGLang and not of vLLM: this recipe is the way that the refusal names."""
    target = world.target(tmp_path / "Tiny-Model")
    config = json.loads((target / "config.json").read_text())
    config |= {"architectures": ["GlmMoeDsaForCausalLM"], "model_type": "glm_moe_dsa"}
    (target / "config.json").write_text(json.dumps(config))
    out, standing = tmp_path / "recipe", '{method="mtp", num_speculative_tokens=3}'
    arguments = [
        "scaffold",
        "--target",
        str(target),
        "--out",
        str(out),
        "--set",
        "engine.gpus=4",
        "--set",
        f"serving.standing_config={standing}",
    ]
    made = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert made.exit_code == 0, made.output
    items = list(yaml.safe_load_all((out / "deploy" / f"{slug(out)}-spec-canary.yaml").read_text()))
    pods = [item["spec"]["template"]["spec"]["containers"][0] for item in items if item["kind"] == "Job"]
    assert ['"mtp"' in " ".join(pod["args"]) for pod in pods] == [True, False, False]
    for pod in pods:
        assert pod["resources"]["limits"]["nvidia.com/gpu"] == "4"
        assert "--tensor-parallel-size 4" in " ".join(pod["args"])
    run = next(out.glob("*.sh")).read_text()
    assert "TP_SIZE=${TP_SIZE:-4}" in run
    assert "--standing standing" in run
    assert "CHAT_TEMPLATE:-glm-5.2}" in run


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


@pytest.mark.parametrize("name", ["m$(touch PWN)x", "m`touch PWN`x", "m'; touch PWN; '", "m}x", 'm"x', "m x"])
def test_a_folder_s_name_is_never_a_command(tmp_path: Path, name: str) -> None:
    target = world.target(tmp_path / name)
    out = tmp_path / "recipe"
    result = CliRunner().invoke(
        app, ["scaffold", "--target", str(target), "--out", str(out), "--chat-template", "qwen"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    [script] = out.glob("run-*-offline.sh")
    said = subprocess.run(
        ["bash", "-c", 'head -11 "$0" > head.sh; . ./head.sh; printf %s "$TARGET_MODEL_PATH"', str(script)],
        cwd=out, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == str(target)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert not list(tmp_path.rglob("PWN"))
