"""A run against a served deployment, from a trained draft to the promoted arguments: the world of the loop's stories."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from containers import Containers
from loop_world import LENIENT
from safetensors.numpy import save_file
from tiny_target import prompts as prompt_lines
from world import ClusterWorld

from draftsmith import wiring
from draftsmith.client import replay
from draftsmith.contract.config import Config, parse_config
from draftsmith.contract.job import JobResult
from draftsmith.contract.jobs import ComparePlan
from draftsmith.contract.measure import Trial
from draftsmith.corpus.prompts import Prompt, pinned, write_prompts
from draftsmith.engines.vllm.words import compact
from draftsmith.kit.files import read_lines
from draftsmith.loop.promotion import promote
from draftsmith.phases.base import PhaseContext, RunOptions
from draftsmith.phases.compare import Compare
from draftsmith.serving.canary.canaries import Canaries
from draftsmith.serving.kubernetes.options import parse_serving_options
from draftsmith.store.runs import RunRecord, Store
from draftsmith.trainers.lint_files import weights_sha256
from draftsmith.trainers.target import read_target
from draftsmith.work.compare import canary_fleet
from draftsmith.work.compare.job import body
from draftsmith.work.job import Job

INSIDE = "/models/workspace"  # the workspace, as the served pods and canaries see it
VERDICT = {"max_blocks": 4, "false_promotion": 0.2, "confidence": 0.8}
Hook = Callable[[str], None]


class Hooked(Job[ComparePlan]):
    """The job in this process; the story acts when a trial begins."""

    def __init__(self, workdir: Path, plan: ComparePlan, hook: Hook) -> None:
        super().__init__(workdir, plan)
        self.hook = hook

    def progress(self, stage: str, done: float = 0, total: float | None = None, unit: str = "", note: str = "") -> None:
        super().progress(stage, done, total, unit, note)
        if stage == "measuring":
            self.hook(note)


class Story:
    """A run whose draft is trained: what is left is to compare and to promote. `blocks`: at least and at most so many."""

    def __init__(
        self, world: ClusterWorld, containers: Containers, patch: pytest.MonkeyPatch, blocks: int = 1, **compare: Any
    ) -> None:
        self.world, self.containers, self.patch = world, containers, patch
        self.workspace = world.folder.parent / "workspace"
        containers.volumes[INSIDE] = str(self.workspace)
        world.cluster.logs = containers.log
        limits = LENIENT | VERDICT | ({"max_blocks": blocks} if blocks < 3 else {})
        options = {"namespace": "serve", "paths": {str(self.workspace): INSIDE}, "rollout_timeout_s": 120}
        self.config = parse_config({
            "target": str(containers.target), "workspace": str(self.workspace), "engine": {"counters_pause_s": 0.01},
            "compare": {"concurrency": [2], "k_values": [3], "ngram": False, "blocks": blocks, "thresholds": limits,
                "restart_every": 1} | compare,
            "serving": {"allow_looser_thresholds": True, "kind": "kubernetes", "deploy": "chat", "options": options},
        })  # fmt: skip
        self.settled = self.config
        record = RunRecord(run_id="tiny-r1", key="k", target=str(containers.target), profile=(), config={})
        self.run = Store(self.workspace).create(record)
        self.workdir = self.run.phase_dir("compare")
        self.serving = world.serving(paths={str(self.workspace): INSIDE}, rollout_timeout_s=120)
        self.standing = self.serving.current()
        self._pin()
        patch.setattr(wiring, "cluster", lambda options: world.api)
        patch.setattr(wiring, "canaries", self._canaries)
        patch.setattr(replay, "BACKOFF_S", 0.0)
        patch.setattr(canary_fleet, "LOOK_S", 0.02)

    def context(self, *, allow: bool = True) -> PhaseContext:
        draft = self.run.phase_dir("train") / "draft"
        if not draft.exists():
            draft.mkdir()
            marks = np.arange(384) < 4
            save_file({"d2t": np.zeros(4, np.int64), "t2d": marks}, draft / "model.safetensors")
        done = {
            "profile": {"profile": "", "profile_sha256": "p"},
            "corpus": {"corpus": "", "states": "", "rows_sha256": "r"},
            "train": {"draft": str(draft), "draft_sha256": weights_sha256(draft)},
        }
        return PhaseContext(
            run_id="tiny-r1", folder=self.run.folder, workspace=self.workspace, config=self.config,
            target=read_target(self.containers.target), sources=(), standing=self.standing, layer_ids=(),
            versions={}, results={name: JobResult(ok=True, outputs=outputs) for name, outputs in done.items()},
            options=RunOptions(allow_cluster=allow),
        )  # fmt: skip

    def compare(self, hook: Hook = lambda note: None, *, allow: bool = True) -> JobResult:
        """The compare job, in this process."""
        plan = Compare().plan(self.context(allow=allow)).plan
        result = body(Hooked(self.workdir, plan, hook))
        return JobResult(ok=True, outputs=result.outputs(), figures=result.figures())

    def promote(self, compared: JobResult) -> JobResult:
        context = self.context()
        return promote(self.run, replace(context, results=context.results | {"compare": compared}), self.serving)[0]

    def trials(self) -> list[Trial]:
        path = self.workdir / "samples.jsonl"
        return [Trial.model_validate(json.loads(line)) for line in read_lines(path)] if path.exists() else []

    def samples(self) -> bytes:
        path = self.workdir / "samples.jsonl"
        return path.read_bytes() if path.exists() else b""

    def promoted(self, config: dict[str, Any]) -> None:
        """Nothing differs but the speculative config of the served container."""
        inside = {**config, "model": str(config["model"]).replace(str(self.workspace), INSIDE)}
        before: list[str] = self.world.before["deployments/serve/chat"]["template"]["spec"]["containers"][0]["args"]
        self.world.only_args_differ([*before, "--speculative-config", compact(inside)])

    def _pin(self) -> None:
        for kind, count, seed in (("own", 7, 1), ("tuning", 3, 2), ("general", 10, 3)):
            chosen = [
                Prompt(prompt_id=f"{kind}-{line['id']}", content_class="chat", messages=line["messages"], max_tokens=8)
                for line in prompt_lines(count, seed)
            ]
            write_prompts(self.workdir / f"prompts-{kind}.jsonl", pinned(chosen, 0))

    def _canaries(self, config: Config, workspace: Path, *, allow_cluster: bool = False) -> Canaries:
        """As wired, with the world's client, and containers that are reached here."""
        options, deploy = parse_serving_options(config.serving.options), str(config.serving.deploy)
        return Canaries(
            self.world.api, options, deploy, workspace / "kubernetes", allow_cluster=allow_cluster,
            endpoint=self.containers.url,
        )  # fmt: skip


def once(mark: str, act: Callable[[], object]) -> Hook:
    """Act when the first trial whose note holds `mark` begins."""
    left = [act]

    def hook(note: str) -> None:
        if mark in note and left:
            left.pop()()

    return hook


Begin = Callable[..., Story]
