"""The loop's own comparison on canaries, from the job's plan to the promoted arguments, and what disturbs it. After every
ending the cluster holds what it held before, but for what was promoted."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from containers import Containers, containers_in
from loop_world import LENIENT
from safetensors.numpy import save_file
from tiny_target import prompts as prompt_lines
from world import ClusterWorld, busy_pod, fate_of, node

from draftsmith import wiring
from draftsmith.cli.cluster import check_canaries
from draftsmith.contract.config import Config, parse_config
from draftsmith.contract.errors import (
    DraftsmithError,
    EngineLostError,
    PrerequisiteError,
    RefusedError,
    RunInterruptedError,
)
from draftsmith.contract.job import JobResult, JobSpec, JobStatus
from draftsmith.contract.measure import Trial
from draftsmith.engines import vllm_metrics
from draftsmith.kit.files import read_lines, write_json
from draftsmith.loop.base import Loop
from draftsmith.loop.jobs import run_job, specs
from draftsmith.loop.promotion import promote, rollback
from draftsmith.phases.base import PhaseContext
from draftsmith.phases.steps import Compare
from draftsmith.serving.canary import Canaries
from draftsmith.serving.kubernetes_options import parse_serving_options
from draftsmith.store.runs import RunRecord, Store
from draftsmith.traffic import replay
from draftsmith.traffic.prompts import Prompt, pinned, write_prompts
from draftsmith.trainers.lint_files import weights_sha256
from draftsmith.trainers.target import read_target
from draftsmith.work import canary_fleet
from draftsmith.work.compare import body
from draftsmith.work.job import Job

INSIDE = "/models/workspace"  # the workspace, as the served pods and canaries see it
VERDICT = {"max_blocks": 4, "false_promotion": 0.2, "confidence": 0.8}
Hook = Callable[[str], None]


class Watched(Job):
    """The job in this process; the story acts when a trial begins."""

    def __init__(self, workdir: Path, plan: dict[str, Any], hook: Hook) -> None:
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
        options = {"namespace": "serve", "paths": {str(self.workspace): INSIDE}}
        self.config = parse_config({
            "target": str(containers.target), "workspace": str(self.workspace),
            "compare": {"concurrency": [2], "k_values": [3], "ngram": False, "blocks": blocks, "thresholds": limits} | compare,
            "serving": {"kind": "kubernetes", "deploy": "chat", "options": options},
        })  # fmt: skip
        self.settled = self.config
        record = RunRecord(run_id="tiny-r1", key="k", target=str(containers.target), profile=(), config={})
        self.run = Store(self.workspace).create(record)
        self.workdir = self.run.phase_dir("compare")
        self.serving = world.serving(paths={str(self.workspace): INSIDE})
        self.standing = self.serving.current()
        self._pin()
        patch.setattr(wiring, "canaries", self._canaries)
        patch.setattr(vllm_metrics, "SETTLE_POLL_S", 0.01)
        patch.setattr(replay, "BACKOFF_S", 0.0)
        patch.setattr(canary_fleet, "LOOK_S", 0.02)

    def context(self, *, allow: bool = True) -> PhaseContext:
        draft = self.run.phase_dir("train") / "draft"
        if not draft.exists():
            draft.mkdir()
            marks = np.arange(384) < 4
            save_file({"d2t": np.zeros(4, np.int64), "t2d": marks}, draft / "model.safetensors")
        done = {
            "profile": {"profile_sha256": "p"},
            "corpus": {"corpus": "", "rows_sha256": "r"},
            "train": {"draft": str(draft), "draft_sha256": weights_sha256(draft)},
        }
        return PhaseContext(
            run_id="tiny-r1", folder=self.run.folder, workspace=self.workspace, config=self.config,
            target=read_target(self.containers.target), sources=(), standing=self.standing, layer_ids=(),
            versions={}, results={name: JobResult(ok=True, outputs=outputs) for name, outputs in done.items()},
            options={"allow_cluster": allow},
        )  # fmt: skip

    def compare(self, hook: Hook = lambda note: None, *, allow: bool = True) -> JobResult:
        """The compare job, in this process."""
        plan = json.loads(json.dumps(Compare().plan(self.context(allow=allow)).plan))
        outputs, figures = body(Watched(self.workdir, plan, hook))
        return JobResult(ok=True, outputs=outputs, figures=figures)

    def promote(self, compared: JobResult) -> JobResult:
        context = self.context()
        return promote(self.run, replace(context, results=context.results | {"compare": compared}), self.serving)[0]

    def trials(self) -> list[Trial]:
        path = self.workdir / "samples.jsonl"
        return [Trial.model_validate(json.loads(line)) for line in read_lines(path)] if path.exists() else []

    def only_promoted(self) -> None:
        """Nothing differs but the arguments of the served container."""
        expected = copy.deepcopy(self.world.before)
        expected["deployments/serve/chat"]["template"]["spec"]["containers"][0]["args"] = self.world.args()
        for _ in range(3):
            self.world.cluster.step()
        assert self.world.cluster.holds() == expected

    def _pin(self) -> None:
        for kind, count, seed in (("own", 7, 1), ("tuning", 3, 2), ("general", 7, 3)):
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


Begin = Callable[..., Story]


@pytest.fixture
def begin(world: ClusterWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    with containers_in(tmp_path, step_ms=5, first_ms=4) as containers:
        yield lambda **settings: Story(world, containers, monkeypatch, **settings)


def once(mark: str, act: Callable[[], object]) -> Hook:
    """Act when the first trial whose note holds `mark` begins."""
    left = [act]

    def hook(note: str) -> None:
        if mark in note and left:
            left.pop()()

    return hook


def test_a_win_on_canaries_is_a_verdict_and_is_promoted(world: ClusterWorld, begin: Begin) -> None:
    other = busy_pod("other", "node-0", 4)
    other["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "node-0"}
    world.cluster.put(node("node-0"))
    world.cluster.put(other)
    world.before = world.cluster.holds()
    story = begin(blocks=3)

    def freed() -> None:
        world.cluster.touch("pods", "other", lambda pod: pod.update(status={"phase": "Succeeded"}), namespace="other")

    compared = story.compare(once("block 2", freed))
    world.unchanged()
    figures = compared.figures
    assert (figures["outcome"], figures["tier"], figures["winner"]) == ("WIN", "verdict", "eagle3-k3"), figures
    trials = story.trials()
    starts = {(t.block, t.arm): t.engine_start_id for t in trials}
    assert len(set(starts.values())) == len(starts) == 6, "both arms were started anew for each of three blocks"
    assert {t.node for t in trials} == {"node-a"}, "also when another node came free"
    assert {t.hardware["device"] for t in trials} == {"node node-a"}
    facts = json.loads((story.workdir / "facts.json").read_text())
    assert {(arm, fact["spec_method"], fact["version"]) for arm, fact in facts} == {
        ("standing", None, "0.32.0"),
        ("eagle3-k3", "eagle3", "0.32.0"),
    }
    assert {fact["start_id"] for _, fact in facts} == set(starts.values())

    def slower(item: dict[str, Any]) -> None:
        item["spec"]["template"]["spec"]["containers"][0]["args"].append("--enforce-eager")

    def as_before(item: dict[str, Any]) -> None:
        item["spec"]["template"]["spec"]["containers"][0]["args"].remove("--enforce-eager")

    world.cluster.touch("deployments", "chat", slower)
    with pytest.raises(RefusedError, match="changed since the comparison"):
        story.promote(compared)
    assert world.args()[-1] == "--enforce-eager"
    story.only_promoted()
    world.cluster.touch("deployments", "chat", as_before)
    world.unchanged()

    promoted = story.promote(compared)
    assert promoted.outputs["promoted"]
    standing = promoted.outputs["standing_config"]
    assert story.serving.current() == standing
    assert f'"model":"{INSIDE}/drafts/tiny-r1-' in world.args()[-1]
    story.only_promoted()
    assert story.promote(compared).outputs["promoted"], "again, as after a crash: it is there"
    rollback(story.workspace, story.serving)
    world.unchanged()


def test_a_pod_evicted_in_a_block_costs_that_block_only(world: ClusterWorld, begin: Begin) -> None:
    story = begin(blocks=2)

    def evict() -> None:
        world.cluster.behaviour = fate_of("eagle3", "evicted")
        story.containers.kill("eagle3")

    with pytest.raises(EngineLostError, match="taken away by the cluster: the node was low on memory") as lost:
        story.compare(once("block 2", evict))
    assert "finished blocks are kept" in lost.value.next_step
    world.unchanged()
    kept = (story.workdir / "samples.jsonl").read_bytes()
    assert {trial.block for trial in story.trials()} == {0}

    world.cluster.behaviour = lambda pod: "ready"
    compared = story.compare()
    assert (story.workdir / "samples.jsonl").read_bytes().startswith(kept)
    assert {trial.block for trial in story.trials()} == {0, 1}
    assert not story.promote(compared).outputs["promoted"], "two blocks are no verdict"
    world.unchanged()


def changed(story: Story) -> None:
    def other_image(item: dict[str, Any]) -> None:
        item["spec"]["template"]["spec"]["containers"][0]["image"] = "vllm/vllm-openai:v0.33.0"

    story.world.cluster.touch("deployments", "chat", other_image)
    story.world.before = {
        **story.world.before,
        "deployments/serve/chat": story.world.cluster.holds()["deployments/serve/chat"],
    }


INTERRUPTIONS: dict[str, tuple[Callable[[Story], object], type[DraftsmithError], str, int]] = {
    "told to stop": (lambda story: os.kill(os.getpid(), signal.SIGTERM), RunInterruptedError, "SIGTERM", 0),
    "what serves is replaced": (changed, RefusedError, "changed while it was compared", 1),
}


@pytest.mark.parametrize("case", INTERRUPTIONS)
def test_an_interruption_leaves_finished_blocks_and_no_canary(world: ClusterWorld, begin: Begin, case: str) -> None:
    act, kind, said, blocks = INTERRUPTIONS[case]
    story = begin(blocks=2)
    with pytest.raises(kind, match=said):
        story.compare(once("block 1", lambda: act(story)))
    world.unchanged()
    assert len({trial.block for trial in story.trials()}) == blocks
    assert not list((story.workspace / "kubernetes" / "canaries").glob("*"))


def without_jobs(story: Story) -> None:
    rules = story.world.cluster.rules or []
    story.world.cluster.rules = [rule for rule in rules if "jobs" not in rule["resources"]]


def no_image(story: Story) -> None:
    story.world.cluster.behaviour = fate_of("eagle3", "pull")


def unreachable(story: Story) -> None:
    story.patch.setattr(canary_fleet, "REACH_S", 0.0)
    story.patch.setattr(story.containers, "url", lambda arm, pod: "http://127.0.0.1:9")


REFUSED: dict[str, tuple[Callable[[Story], object], bool, type[DraftsmithError], str]] = {
    "the image cannot be pulled": (no_image, True, PrerequisiteError, "image cannot be pulled"),
    "a right is missing": (without_jobs, True, PrerequisiteError, "jobs is forbidden"),
    "nothing answers here": (unreachable, True, PrerequisiteError, "does not answer here"),
    "the cluster is not allowed": (lambda story: None, False, RefusedError, "dry run: would start canaries"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_start_is_explained_and_nothing_stays(world: ClusterWorld, begin: Begin, case: str) -> None:
    prepare, allow, kind, said = REFUSED[case]
    story = begin()
    prepare(story)
    with pytest.raises(kind, match=said) as refused:
        story.compare(allow=allow)
    assert refused.value.next_step
    assert story.trials() == []
    assert allow or not world.writes()
    world.unchanged()


class Place:
    """A back end whose jobs end well at once, or one that must not be asked."""

    def __init__(self, *, closed: bool = False) -> None:
        self.closed, self.submitted = closed, list[str]()

    def find(self, name: str) -> str | None:
        assert not self.closed, "the job runs beside the driver"
        return None

    def submit(self, spec: JobSpec) -> str:
        self.submitted.append(f"{spec.name}, {spec.gpus} GPUs")
        write_json(Path(spec.workdir) / "result.json", JobResult(ok=True))
        return "handle"

    def poll(self, handles: list[str]) -> dict[str, JobStatus]:
        return {handle: JobStatus(state="SUCCEEDED") for handle in handles}


def test_the_job_is_a_client_and_runs_beside_the_driver_wherever_others_run(begin: Begin) -> None:
    story = begin()
    context = story.context()
    assert list(specs(context)) == ["capture", "publish"]
    here, there = Place(), Place(closed=True)
    loop = Loop(story.run, context, cast(Any, there), story.serving, cast(Any, None), ask=False, here=cast(Any, here))
    assert run_job(loop, "compare", Compare().plan(context)).ok
    assert here.submitted == ["tiny-r1.compare, 0 GPUs"]


def test_servers_of_the_job_stay_the_choice_of_the_configuration(begin: Begin) -> None:
    story = begin(canaries=False)
    job = Compare().plan(story.context())
    assert "canaries" not in job.plan
    assert (job.here, job.gpus) == (False, 1)
    assert "compare" in specs(story.context())


def hidden(story: Story) -> None:
    options = {**story.config.serving.options, "paths": {}}
    serving = story.config.serving.model_copy(update={"options": options})
    story.config = story.config.model_copy(update={"serving": serving})


EARLY: dict[str, tuple[Callable[[Story], object], str]] = {
    "pods cannot see the workspace": (hidden, "cannot see the draft"),
    "a right is missing": (without_jobs, "may not create jobs"),
}


def test_what_stands_against_canaries_is_said_before_anything_is_trained(world: ClusterWorld, begin: Begin) -> None:
    story = begin()

    def look() -> None:
        loop = Loop(story.run, story.context(), cast(Any, None), story.serving, cast(Any, None), ask=False)
        check_canaries(loop)

    look()
    for prepare, said in EARLY.values():
        prepare(story)
        with pytest.raises(PrerequisiteError, match=said):
            look()
        story.config = story.settled
    assert world.writes() == []
    world.unchanged()
