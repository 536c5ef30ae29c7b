"""The loop with SpecForge as its trainer: SpecForge itself, in this interpreter, on what the loop captured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from loop_world import World

from draftsmith.trainers.lint import lint_draft
from draftsmith.trainers.target import read_target


def test_a_draft_of_specforge_comes_out_of_the_loop(world: World) -> None:
    trainer = {"kind": "specforge", "python": sys.executable, "epochs": 1, "draft_vocab": 128, "min_position0": 0.0}
    world.configure(trainer=trainer)
    world.call("train")
    result = world.done("train")["result"]
    draft = Path(result["outputs"]["draft"])
    assert result["figures"]["settings"].startswith("eagle3 by SpecForge")
    assert len(result["figures"]["validation_acceptance"]) == 3
    manifest = json.loads((draft / "draft-manifest.json").read_text())
    assert (manifest["trainer"], manifest["versions"]["specforge"]) == ("specforge", "0.2.0")
    config = json.loads((draft / "config.json").read_text())
    assert config["eagle_aux_hidden_state_layer_ids"] == manifest["layer_ids"] == [2, 4, 5], "of eight layers"
    assert not lint_draft(draft, read_target(world.target)).at("error")
    assert not list(world.folder().glob("phases/**/*.ckpt")), "converted states are as sensitive as captured ones"
