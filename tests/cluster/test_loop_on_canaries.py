"""The loop's own comparison on canaries, from the job's plan to the promoted arguments, and what it asks of its place."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from loop_story import INSIDE, Begin, Story, once
from world import ClusterWorld, busy_pod, fate_of, node, service

from draftsmith.api.cluster import check_serving
from draftsmith.contract.errors import DraftsmithError, InputError, PrerequisiteError, RefusedError, RunInterruptedError
from draftsmith.contract.job import JobResult, JobSpec, JobStatus
from draftsmith.kit.files import write_json
from draftsmith.loop.base import Loop
from draftsmith.loop.jobs import run_job, specs
from draftsmith.loop.promotion import rollback
from draftsmith.phases.compare import Compare
from draftsmith.work.compare import canary_fleet

pytestmark = [pytest.mark.story, pytest.mark.timed]


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
    starts = {(t.block, t.arm): t.engine_start_id for t in trials if t.traffic != "aa"}
    assert len(set(starts.values())) == len(starts) >= 6, "both arms were started anew for each block"
    assert {t.node for t in trials} == {"node-a"}, "also when another node came free"
    assert {t.hardware["device"] for t in trials} == {"node node-a"}
    facts = json.loads((story.workdir / "facts.json").read_text())
    assert {(arm, fact["spec_method"], fact["version"]) for arm, fact in facts} == {
        ("standing", None, "0.32.0"),
        ("eagle3-k3", "eagle3", "0.32.0"),
    }
    assert {fact["start_id"] for _, fact in facts} == set(starts.values())

    promoted = story.promote(compared)
    assert promoted.outputs["promoted"]
    standing = promoted.outputs["standing_config"]
    assert story.serving.current() == standing
    assert f'"model":"{INSIDE}/drafts/tiny-r1-' in world.args()[-1]
    story.promoted(standing)
    assert story.promote(compared).outputs["promoted"], "again, as after a crash: it is there"
    rollback(story.workspace, story.serving)
    world.unchanged()


def test_told_to_stop_in_a_block_it_leaves_no_canary(world: ClusterWorld, begin: Begin) -> None:
    story = begin()
    with pytest.raises(RunInterruptedError, match="SIGTERM"):
        story.compare(once("block 1", lambda: os.kill(os.getpid(), signal.SIGTERM)))
    world.unchanged()
    assert story.trials() == []
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
    assert job.plan.canaries is None
    assert (job.here, job.gpus) == (False, 1)
    assert "compare" in specs(story.context())


def hidden(story: Story) -> None:
    options = {**story.config.serving.options, "paths": {}}
    serving = story.config.serving.model_copy(update={"options": options})
    story.config = story.config.model_copy(update={"serving": serving})


def without_watching(story: Story) -> None:
    """As if half of the Role for promotions had been applied."""
    rules = story.world.cluster.rules or []
    story.world.cluster.rules = [
        rule | {"verbs": [verb for verb in rule["verbs"] if verb != "watch" or "deployments" not in rule["resources"]]}
        for rule in rules
    ]


def no_quota(story: Story) -> None:
    story.world.cluster.quota = "exceeded quota: gpu, requested: requests.nvidia.com/gpu=1, used: 8, limited: 8"


def other_server(story: Story) -> None:
    container = {"name": "web", "image": "nginx:1", "args": ["-g", "daemon off;"]}
    story.world.cluster.touch(
        "deployments", "chat", lambda item: item["spec"]["template"]["spec"].update(containers=[container])
    )


def odd_arguments(story: Story) -> None:
    words = ["--model", "/models/base", "--speculative-config", "$(SPEC)"]
    story.world.cluster.touch(
        "deployments", "chat", lambda item: item["spec"]["template"]["spec"]["containers"][0].update(args=words)
    )


def selected(story: Story) -> None:
    story.world.cluster.put(service("all", {"app.kubernetes.io/managed-by": "draftsmith"}))


EARLY: dict[str, tuple[Callable[[Story], object], type[DraftsmithError], str]] = {
    "pods cannot see the workspace": (hidden, PrerequisiteError, "cannot see the draft"),
    "a right to compare is missing": (without_jobs, PrerequisiteError, "may not create jobs"),
    "a right to promote is missing": (without_watching, PrerequisiteError, "may not watch deployments.apps"),
    "the quota is used up": (no_quota, PrerequisiteError, "exceeded quota"),
    "the deployment is not vLLM": (other_server, InputError, "does not run vLLM"),
    "the arguments are not understood": (odd_arguments, InputError, "is a variable"),
    "a router would find the canaries": (selected, RefusedError, "Service all selects"),
}


@pytest.mark.parametrize("case", EARLY)
def test_what_stands_in_the_way_is_said_before_anything_is_trained(
    world: ClusterWorld, begin: Begin, case: str
) -> None:
    prepare, kind, said = EARLY[case]
    story = begin()

    def look(stop_after: str | None = None) -> None:
        quiet: Any = None
        check_serving(Loop(story.run, story.context(), quiet, story.serving, quiet, ask=False, stop_after=stop_after))

    look()
    prepare(story)
    held = world.settled()
    with pytest.raises(kind, match=said) as refused:
        look()
    assert refused.value.next_step
    look(stop_after="train")
    assert world.writes() == []
    assert world.settled() == held
