"""SpecForge itself, on a CPU: from our capture to a draft that is packaged and passes lint, interrupted on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import specforge_world as world
from lazily import lazily

from draftsmith.contract.config import TrainerConfig
from draftsmith.engines.sglang.command import require_own_notation
from draftsmith.trainers import choice
from draftsmith.trainers.base import TrainingTask
from draftsmith.trainers.convert import convert_draft
from draftsmith.trainers.lint import lint_draft
from draftsmith.trainers.package import package_draft
from draftsmith.trainers.specforge import SpecforgeTrainer
from draftsmith.trainers.target import read_target
from draftsmith.work.subprocess import environment

torch, tensors_of = lazily("torch"), lazily("safetensors.torch")
specforge = lazily("specforge")
prepare_specforge = lazily("draftsmith.work.inside.prepare_specforge")
train_specforge = lazily("draftsmith.work.inside.train_specforge")

pytestmark = pytest.mark.filterwarnings("ignore:flash_attn is not found")

EPOCHS = 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("specforge")
    world.target(folder / "target")
    world.states(folder / "states", world.corpus(folder / "corpus"))
    world.vocabulary(folder / "w" / "vocabulary")
    return folder


def task(place: Path) -> TrainingTask:
    return TrainingTask(
        target=str(place / "target"), corpus=str(place / "corpus"), states=str(place / "states"),
        workdir=str(place / "w"), layer_ids=world.LAYER_IDS, draft_vocab=world.DRAFT_VOCAB, train_rows=8,
        validation_rows=3, longest_row=18, train_tokens=136,
    )  # fmt: skip


def run(command: list[str], place: Path) -> None:
    log = place / "log"
    with log.open("w") as out:
        done = subprocess.run(command, env=environment(), stdout=out, stderr=out, check=False)
    assert done.returncode == 0, log.read_text()[-3000:]


def test_states_become_what_specforge_reads(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    vocabulary = place / "w" / "vocabulary"
    assert prepare_specforge.prepare(place / "corpus", place / "states", place / "target", vocabulary, out) == 11
    from specforge.algorithms.eagle3.data import normalize_offline_sample
    from specforge.runtime.data_plane.feature_store import load_feature_file
    from specforge.runtime.data_plane.offline_reader import list_feature_files

    files = list_feature_files(str(out / "train"))
    assert len(files) == 8
    read = normalize_offline_sample(load_feature_file(files[0]), 400)
    length = world.PROMPT + world.ANSWER - 1
    assert read["hidden_state"].shape == (1, length, 3 * world.HIDDEN)
    assert read["target"].shape == (1, length, world.HIDDEN)
    mask = read["loss_mask"][0].tolist()
    assert mask == [0] * (world.PROMPT - 1) + [1] * (length - world.PROMPT) + [0], "from the last token of the prompt"
    from draftsmith.work.inside.state_names import states_path

    raw = tensors_of.load_file(states_path(place / "states", "r0"))["hidden_states"].float()
    weight = tensors_of.load_file(place / "target" / "model.safetensors")["model.norm.weight"].float()
    expected = torch.nn.functional.rms_norm(raw[:, -1], (world.HIDDEN,), weight, 1e-5)
    assert torch.allclose(read["target"][0].float(), expected, rtol=1e-2, atol=1e-2), "the head reads normalised states"
    assert torch.equal(read["hidden_state"][0].float(), raw[:, :3].flatten(1).bfloat16().float()), "layers side by side"


def test_states_of_other_tokens_are_refused(place: Path) -> None:
    row = {"id": "r0", "input_ids": [1, 2, 3], "prompt_tokens": 1}
    captured = {"token_ids": torch.tensor([1, 9]), "hidden_states": torch.zeros(2, 4, world.HIDDEN)}
    with pytest.raises(ValueError, match="other tokens"):
        prepare_specforge.sample(row, captured, prepare_specforge.FinalNorm(place / "target"))


TWICE = """
import sys
from draftsmith.work.inside.train_specforge import main
cut = sys.argv.index("==")
stopped = main(sys.argv[1:cut])
assert stopped == 3, stopped
sys.exit(main(sys.argv[cut + 1:]))
"""


@pytest.mark.story
def test_a_training_that_stopped_goes_on_and_its_draft_passes_lint(place: Path, tmp_path: Path) -> None:
    settings = TrainerConfig(kind="specforge", epochs=EPOCHS, batch_tokens=64, min_position0=0.0)
    trainer = SpecforgeTrainer(settings, sys.executable)
    given = task(place)
    for path, text in trainer.files(given).items():
        Path(path).write_text(text)
    prepare, training = trainer.steps(given)
    run([sys.executable, "-m", prepare.module, *prepare.arguments], place)
    assert (place / "w" / "target" / "model.safetensors.index.json").is_file(), "SpecForge asks for an index"
    # nothing accepts more than everything: the first start is stopped at its second validation, one epoch saved
    stops = [*training.arguments[:-1], "1.01"]
    run([sys.executable, "-c", TWICE, *stops, "==", *training.arguments], place)

    lines = world.read_lines(trainer.metrics(given))
    place_of_stop = next(index for index, line in enumerate(lines) if "stopped" in line)
    assert "validation acceptance at position 0" in str(lines[place_of_stop]["stopped"])
    steps = [line["global_step"] for line in lines[place_of_stop:] if "train" in line]
    assert steps == [4], "the second start went on from the saved epoch, it did not begin anew"
    found = choice.scores(lines)
    assert [score.epoch for score in found] == list(range(EPOCHS))
    assert len(found[0].acceptance) == 3
    assert found[0].expected_al >= 1.0
    assert [p.name for p in sorted((place / "w" / "checkpoints").iterdir())] == ["0", "1"]
    left = train_specforge.saved(place / "w" / "specforge", "draft")
    assert list(left) == [4], "of the large training states only the newest is kept"

    facts = read_target(place / "target")
    manifest = package_draft(
        trainer.checkpoint(given, 1), tmp_path / "draft", target=facts, trainer="specforge", layer_ids=given.layer_ids
    )
    config = json.loads((tmp_path / "draft" / "config.json").read_text())
    assert config["eagle_aux_hidden_state_layer_ids"] == list(world.LAYER_IDS), "the engine's ids, at the top"
    assert (manifest.has_own_lm_head, manifest.has_own_embeddings) == (True, False)
    report = lint_draft(tmp_path / "draft", facts, served_tokens=400)
    assert not report.at("error"), [finding.sentence for finding in report.at("error")]
    packed = tensors_of.load_file(tmp_path / "draft" / "model.safetensors")
    assert (packed["d2t"] + torch.arange(len(packed["d2t"])))[-1] == 63, "the map that was chosen, not one of its own"
    serves_in_both(tmp_path / "draft", packed, world.LAYER_IDS)
    for name, layers, ids in EXPORTED:
        out = tmp_path / name
        config = json.loads((place / "w" / "draft-config.json").read_text())
        config.pop("eagle_aux_hidden_state_layer_ids")
        (tmp_path / f"{name}.json").write_text(json.dumps(config | layers))
        export_to_sglang(left[4], tmp_path / f"{name}.json", out)
        serves_in_both(out, packed, ids)


# Layers as a draft's config names them when it goes through SpecForge's own exporter, and the engine ids that are meant.
EXPORTED: tuple[tuple[str, dict[str, Any], tuple[int, ...] | None], ...] = (
    ("no-layers", {}, None),
    ("its-notation", {"eagle_config": {"eagle_aux_hidden_state_layer_ids": [2, 5, 9]}}, world.LAYER_IDS),
    ("engines-notation", {"eagle_aux_hidden_state_layer_ids": list(world.LAYER_IDS)}, world.LAYER_IDS),
)


def export_to_sglang(checkpoint: Path, config: Path, out: Path) -> None:
    """SpecForge's own command."""
    words = ["--checkpoint", str(checkpoint), "--draft-config", str(config), "--output-dir", str(out)]
    run([sys.executable, "-m", "specforge.export.to_sglang", *words], out.parent)


def serves_in_both(folder: Path, weights: dict[str, Any], ids: tuple[int, ...] | None) -> None:
    """The draft in each engine's notation, and there and back: the same weights, the same layers."""
    for first, second in (("sglang", "vllm"), ("vllm", "sglang")):
        one, other = (folder.with_name(f"{folder.name}-{first}{back}") for back in ("", f"-{second}"))
        for source, out, to in ((folder, one, first), (one, other, second)):
            assert convert_draft(source, out, to).layer_ids == ids, (folder.name, to)  # type: ignore[arg-type]
            read = tensors_of.load_file(out / "model.safetensors")
            assert read.keys() == weights.keys()
            assert all(torch.equal(read[name].float(), weights[name].float()) for name in read)
        if ids is not None:
            require_own_notation(one if first == "sglang" else other)


def test_ranks_share_the_rows(tmp_path: Path) -> None:
    config = {"run_id": "draft", "output_dir": str(tmp_path), "model": {"draft_checkpoint_path": "/parent"},
              "training": {"batch_size": 4, "save_interval": 9, "eval_interval": 9}}  # fmt: skip
    settled, per_epoch = train_specforge.settle(config, rows=70, world=8)
    assert per_epoch == 2 == settled["training"]["eval_interval"]
    assert settled["deployment"]["trainer"]["nproc_per_node"] == 8, "SpecForge compares it with WORLD_SIZE"
    assert settled["model"]["draft_checkpoint_path"] == "/parent", "a fresh start begins from the parent"
    (tmp_path / "draft-step6").mkdir()
    assert "resume_from" not in train_specforge.settle(config, 70, 8)[0]["training"], (
        "an unfinished save is no checkpoint"
    )
    (tmp_path / "draft-step6" / "training_state.pt").touch()
    again, _ = train_specforge.settle(config, 70, 8)
    assert again["training"]["resume_from"].endswith("draft-step6")
    assert "draft_checkpoint_path" not in again["model"], "SpecForge refuses both"
    with pytest.raises(ValueError, match="do not fill a batch"):
        train_specforge.settle(config, rows=20, world=8)
