"""The whole story in a cluster, undisturbed and with every fault: compare on canaries, decide, promote, roll back.

Whatever happens, at every ending the cluster holds exactly what it held before, but for the arguments that were promoted
and for what somebody else changed. A fault that ends the story is mended, and the same command sees it through.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fake_cluster import Fault, Object
from loop_story import Begin, Story, once
from world import busy_pod, fate_of, served_with

from draftsmith.contract.errors import (
    BackendError,
    DraftsmithError,
    EngineLostError,
    PrerequisiteError,
    RefusedError,
)
from draftsmith.contract.job import JobResult
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import read_json
from draftsmith.loop.promotion import rollback
from draftsmith.store.state import read_state

pytestmark = [pytest.mark.story, pytest.mark.timed]

READS = [
    ("get", "deployments"), ("list", "deployments"), ("list", "services"), ("list", "nodes"), ("list", "pods"),
    ("list", "jobs"), ("get", "pods"),
]  # fmt: skip
WRITES = [
    ("create", "selfsubjectaccessreviews"), ("create", "jobs"), ("create", "services"), ("delete", "jobs"),
    ("delete", "services"), ("patch", "deployments"),
]  # fmt: skip
WATCHES = [("watch", "pods"), ("watch", "deployments")]


def everywhere(calls: list[tuple[str, str]], **answer: Any) -> list[Fault]:
    """Every kind of call gets this answer, once it has been answered well for the first time: in the middle of things."""
    return [Fault(verb, plural, **answer) for verb, plural in calls]


def of_another(story: Story) -> None:
    """Status updates of somebody else move the version between reading and patching."""

    def touch() -> None:
        story.world.cluster.touch("deployments", "chat", lambda item: item["status"].update(note="x"))

    story.world.cluster.faults += [Fault("patch", "deployments", do=touch, times=2)]
    story.world.cluster.faults += [Fault("patch", "deployments", 409, "Conflict", "was modified")]
    story.world.cluster.faults += [Fault("delete", "jobs", 409, "Conflict", "the UID does not match", after=1)]


def expire(story: Story) -> None:
    story.world.cluster.expired_watches = 3


def nothing(story: Story) -> None:
    """Undisturbed."""


def inject(faults: list[Fault]) -> Callable[[Story], None]:
    return lambda story: story.world.cluster.faults.extend(copy.copy(fault) for fault in faults)


UNSTOPPED: dict[str, Callable[[Story], None]] = {
    "undisturbed": nothing,
    "conflicts": of_another,
    "asked for patience at every call": inject(
        everywhere([*READS, *WRITES, *WATCHES], status=429, reason="TooManyRequests", retry_after=2)
    ),
    "every answer is lost once": inject([*everywhere(READS), *everywhere(WRITES, late=True)]),
    "the server is away for a while": inject(everywhere([*READS, *WRITES], status=503, reason="Unavailable", times=3)),
    "watches are dropped": inject(everywhere(WATCHES, times=4)),
    "watches expire": expire,
}


def whole(story: Story) -> None:
    """From the comparison to the rollback, with an ending after each."""
    compared = story.compare()
    story.world.unchanged()
    see_through(story, compared)


def see_through(story: Story, compared: JobResult) -> None:
    decision = Decision.model_validate(read_json(story.workdir / "verdict.json"))
    if decision.outcome == "INCONCLUSIVE":  # real times are measured here, beside whatever else the machine does
        pytest.skip(f"this machine was too busy for a verdict: {decision.reason}")
    assert (decision.outcome, decision.tier, decision.winner) == ("WIN", "verdict", "eagle3-k3")
    promoted = story.promote(compared).outputs
    assert promoted["promoted"]
    story.promoted(promoted["standing_config"])
    rollback(story.workspace, story.serving)
    story.world.unchanged()
    assert not list((story.workspace / "kubernetes" / "canaries").glob("*"))


@pytest.mark.parametrize("fault", UNSTOPPED)
def test_the_whole_story_comes_to_its_end(begin: Begin, fault: str) -> None:
    story = begin(blocks=3)
    UNSTOPPED[fault](story)
    whole(story)
    assert [f for f in story.world.cluster.faults if f.times] == [], "every fault was met"
    assert story.world.cluster.expired_watches == 0


# -- what ends a comparison -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stop:
    """A fault that ends the story, and how it is mended. `mark`: when it begins; None = from the start. `left`: what it
    changes of the served pods, that is not ours to undo. `blocks`: so many are finished, and kept."""

    act: Callable[[Story], object]
    kind: type[DraftsmithError]
    said: str
    mend: Callable[[Story], object]
    mark: str | None = None
    left: Callable[[Object], object] = lambda spec: None
    blocks: int = 0


def evict(story: Story) -> None:
    story.world.cluster.behaviour = fate_of("eagle3", "evicted")
    story.containers.kill("eagle3")


def fate(word: str) -> Callable[[Story], None]:
    def act(story: Story) -> None:
        story.world.cluster.behaviour = fate_of("eagle3", word)

    return act


def well(story: Story) -> None:
    story.world.cluster.behaviour = lambda pod: "ready"


def image(tag: str) -> Callable[[Object], None]:
    return lambda spec: spec["containers"][0].update(image=f"vllm/vllm-openai:{tag}")


def flag(spec: Object) -> None:
    spec["containers"][0]["args"] = [*spec["containers"][0]["args"], "--enforce-eager"]


def without_flag(spec: Object) -> None:
    spec["containers"][0]["args"] = [word for word in spec["containers"][0]["args"] if word != "--enforce-eager"]


def serve(change: Callable[[Object], object]) -> Callable[[Story], None]:
    """Somebody else changes the pods of the served deployment."""

    def act(story: Story) -> None:
        story.world.cluster.touch("deployments", "chat", lambda item: change(item["spec"]["template"]["spec"]))

    return act


def stranger(story: Story) -> None:
    """A Job of somebody else has the name that a canary would get."""
    container = {"name": "x", "image": "x"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    meta = {"name": "ds-tiny-r1-eagle3-k3", "namespace": "serve"}
    story.world.cluster.put({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": template}})
    story.world.before = story.world.settled()


def no_stranger(story: Story) -> None:
    cluster = story.world.cluster
    for key in [key for key in cluster.objects if key[2].startswith("ds-tiny-r1-eagle3-k3")]:
        del cluster.objects[key]
    story.world.before = story.world.settled()


def take(story: Story) -> None:
    """Somebody else's pod comes onto the node while the comparison holds no place there."""
    story.world.cluster.put(busy_pod("training", "node-a", 2))
    held = story.world.cluster.holds()
    story.world.before |= {key: held[key] for key in held if "other/training" in key}


def give_back(story: Story) -> None:
    del story.world.cluster.objects["pods", "other", "training"]
    story.world.before = {key: held for key, held in story.world.before.items() if "other/training" not in key}


def remove(story: Story) -> None:
    """Somebody removes a canary's pod."""
    cluster = story.world.cluster
    pod = next(name for plural, _, name in cluster.objects if plural == "pods" and "ds-tiny-r1-eagle3" in name)
    with cluster.lock:
        cluster.remove(("pods", "serve", pod))
    story.containers.kill("eagle3")


ENDS_A_COMPARISON = {
    "a pod is evicted": Stop(
        evict, EngineLostError, "taken away by the cluster: Evicted: the node was low on memory", well, "block 2", blocks=1
    ),
    "a pod is removed": Stop(remove, EngineLostError, "canary eagle3-k3 was removed", well, "block 2", blocks=1),
    "a server dies": Stop(
        lambda story: story.containers.kill("standing"), EngineLostError, "finished blocks", well, "block 2", blocks=1
    ),
    "the node is taken": Stop(take, PrerequisiteError, "2 of 4 GPUs are in use", give_back, "block 1", blocks=1),
    "a pod stays Pending": Stop(fate("unplaced"), PrerequisiteError, "0/1 nodes: no GPU", well, "block 1", blocks=1),
    "an image cannot be pulled": Stop(fate("pull"), PrerequisiteError, "image cannot be pulled", well, "block 2", blocks=2),
    "the engine does not start": Stop(fate("crash"), DraftsmithError, "exit code 1", well),
    "the image is changed behind our back": Stop(
        serve(image("v0.33.0")), RefusedError, "changed while it was compared", serve(image("v0.32.0")), "block 1",
        left=image("v0.33.0"), blocks=1,
    ),
    "the arguments are changed behind our back": Stop(
        serve(flag), RefusedError, "changed while it was compared", serve(without_flag), "block 2", left=flag, blocks=2
    ),
    "a name is taken": Stop(stranger, BackendError, "already exists", no_stranger),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS_A_COMPARISON)
def test_what_ends_a_comparison_leaves_nothing_and_the_same_command_goes_on(begin: Begin, case: str) -> None:
    stop = ENDS_A_COMPARISON[case]
    story = begin(blocks=3)
    if stop.mark is None:
        stop.act(story)
    with pytest.raises(stop.kind, match=stop.said) as ended:
        story.compare(once(stop.mark, lambda: stop.act(story)) if stop.mark else lambda note: None)
    assert ended.value.next_step
    assert story.world.settled() == served_with(story.world.before, stop.left)
    assert {trial.block for trial in story.trials() if trial.samples} == set(range(stop.blocks))
    kept = story.samples()

    stop.mend(story)
    story.world.unchanged()
    whole(story)
    assert story.samples().startswith(kept)


# -- what ends a promotion --------------------------------------------------------------------------------------------


def won(begin: Begin) -> tuple[Story, JobResult]:
    """A comparison that was won."""
    story = begin(blocks=3)
    compared = story.compare()
    story.world.unchanged()
    return story, compared


@pytest.mark.parametrize("word", ["pull", "unplaced", "late", "never"])
def test_a_rollout_that_does_not_become_ready_is_rolled_back(begin: Begin, word: str) -> None:
    story, compared = won(begin)

    def rollout(item: Object) -> str:
        return word if "--speculative-config" in item["spec"]["template"]["spec"]["containers"][0]["args"] else "ready"

    story.world.cluster.rollout = rollout
    with pytest.raises(BackendError, match=r"taken back .*; the old configuration serves") as failed:
        story.promote(compared)
    assert word != "unplaced" or "no GPU" in failed.value.message
    story.world.unchanged()
    assert read_state(story.workspace) is None
    story.world.cluster.rollout = lambda item: "ready"
    see_through(story, compared)


def test_a_pod_evicted_in_the_rollout_is_replaced_and_awaited(begin: Begin) -> None:
    story, compared = won(begin)
    story.world.cluster.rollout = lambda item: "evicted"
    see_through(story, compared)


def at_the_patch(change: Callable[[Story], None]) -> Callable[[Story], object]:
    return lambda story: story.world.cluster.faults.append(Fault("patch", "deployments", do=lambda: change(story)))


def in_the_rollout(change: Callable[[Story], None]) -> Callable[[Story], object]:
    return lambda story: story.world.cluster.faults.append(Fault("watch", "deployments", do=lambda: change(story)))


def as_before(spec: Object) -> None:
    """Without what was promoted."""
    args = spec["containers"][0]["args"]
    if "--speculative-config" in args:
        spec["containers"][0]["args"] = args[: args.index("--speculative-config")]


BEHIND_OUR_BACK: dict[str, tuple[Callable[[Story], object], str, Callable[[Object], object]]] = {
    "before it": (serve(flag), "changed since the comparison", flag),
    "another image before it": (serve(image("v0.33.0")), "changed since the comparison", image("v0.33.0")),
    "at the patch": (at_the_patch(serve(flag)), "changed by somebody else", flag),
    "taken back in the rollout": (in_the_rollout(serve(as_before)), "changed by somebody else", as_before),
}


@pytest.mark.parametrize("case", BEHIND_OUR_BACK)
def test_a_deployment_changed_behind_our_back_is_left_as_it_is(begin: Begin, case: str) -> None:
    story, compared = won(begin)
    act, said, left = BEHIND_OUR_BACK[case]
    act(story)
    with pytest.raises(RefusedError, match=said):
        story.promote(compared)
    assert story.world.settled() == served_with(story.world.before, left)
    assert read_state(story.workspace) is None
    serve(without_flag)(story)
    serve(image("v0.32.0"))(story)
    story.world.unchanged()
    see_through(story, compared)


def test_a_flag_added_during_the_rollout_is_not_overwritten(begin: Begin) -> None:
    story, compared = won(begin)
    in_the_rollout(serve(flag))(story)
    with pytest.raises(RefusedError, match="changed by somebody else during its rollout"):
        story.promote(compared)
    assert story.world.args()[-3] == "--speculative-config"
    story.world.only_args_differ(story.world.args())
    assert read_state(story.workspace) is None


# -- no promotion -----------------------------------------------------------------------------------------------------


def test_a_draft_that_loses_changes_nothing(begin: Begin) -> None:
    story = begin(blocks=3)
    story.containers.fake |= {"acceptance": {"eagle3": 0.4}, "step_cost": {"eagle3": 3}}
    compared = story.compare()
    assert compared.figures["outcome"] == "LOSS"
    assert not story.promote(compared).outputs["promoted"]
    assert "patch deployments" not in story.world.writes()
    story.world.unchanged()


def test_canaries_that_could_not_be_removed_are_removed_by_the_next_start(begin: Begin) -> None:
    story = begin(blocks=1)
    story.world.cluster.faults.append(Fault("delete", "jobs", 503, "ServiceUnavailable", times=99))
    with pytest.raises(BackendError, match="remove the canaries"):
        story.compare()
    assert story.world.settled() != story.world.before
    story.world.cluster.faults.clear()
    story.compare()  # its block is there: nothing is started
    story.world.unchanged()
