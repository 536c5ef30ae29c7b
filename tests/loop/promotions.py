"""A comparison that was won, and the promotion that follows it or is forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bundle_world import won
from loop_world import World

from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.job import JobResult
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import private_dir, write_json
from draftsmith.loop import promotion
from draftsmith.phases.base import PhaseContext
from draftsmith.serving.local import LocalServing
from draftsmith.store.runs import RunRecord, Store

NGRAM = {"method": "ngram", "num_speculative_tokens": 3}


class Promotion:
    """A run whose comparison was won by `winner`, against `standing`."""

    def __init__(
        self,
        folder: Path,
        standing: dict[str, Any] | None,
        winner: dict[str, Any] | None,
        sha256: str | None = None,
        *,
        run_id: str = "r-1",
        target: str = "t",
        deploy: str | None = None,
        outcome: str = "WIN",
    ) -> None:
        self.files = won(private_dir(folder / f"compare-{run_id}"))
        if outcome != "WIN":
            lost = Decision.model_validate_json(Path(self.files["verdict"]).read_text())
            write_json(Path(self.files["verdict"]), lost.model_copy(update={"outcome": outcome}))
        config = Config.model_validate({"serving": {"standing_config": standing, "deploy": deploy}})
        self.run = Store(folder).create(RunRecord(run_id=run_id, key=run_id, target=target, profile=(), config={}))
        outputs = self.files | {"winner_config": winner, "winner_sha256": sha256}
        figures = {"outcome": outcome, "tier": "verdict", "reason": ""}
        compared = JobResult(ok=True, outputs=outputs, figures=figures)
        self.context = PhaseContext(
            run_id=run_id, folder=self.run.folder, workspace=folder, config=config,
            target=TargetFacts.model_construct(path=target), sources=(), standing=standing, layer_ids=(), versions={},
            results={"profile": JobResult(ok=True), "compare": compared},
        )  # fmt: skip
        self.serving = LocalServing(config.serving, folder)

    def promote(self) -> None:
        promotion.promote(self.run, self.context, self.serving)


def make_it_a_win(world: World) -> None:
    """The comparison as it would have left its files after a win, with its winner's configuration."""
    files = won(world.folder() / "phases" / "compare")
    draft = world.done("train")["result"]["outputs"]["draft"]
    for event in sorted(world.folder().glob("journal/[0-9]*.json")):
        value = json.loads(event.read_text())
        if (value["kind"], value["phase"]) == ("phase_done", "compare"):
            winner = {"method": "eagle3", "model": draft, "num_speculative_tokens": 3}
            value["data"]["result"]["outputs"] |= files | {"winner_config": winner}
            event.write_text(json.dumps(value))


def forget_promotion(world: World) -> None:
    """Take the journal and the state back to before `promote`."""
    (world.workspace / "service-state.json").unlink(missing_ok=True)
    for event in sorted(world.folder().glob("journal/[0-9]*.json")):
        if json.loads(event.read_text())["phase"] == "promote":
            event.unlink()
