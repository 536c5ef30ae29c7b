"""A whole comparison and promotion in a cluster: canaries whose containers are executed here, really measured, the better
one promoted, and nothing left behind."""

from __future__ import annotations

import contextlib
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import Containers, Forker, containers_in
from fake_cluster import Object
from tiny_target import prompts as prompt_lines
from world import ROLE_FILES, ClusterWorld, rules

from draftsmith.contract.errors import RunInterruptedError
from draftsmith.contract.measure import OperatingPoint
from draftsmith.corpus.prompts import Prompt
from draftsmith.engines.vllm import log as vllm_log
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.serving.canary.canaries import Canaries
from draftsmith.serving.canary.text import ArmObjects, ArmPlan
from draftsmith.work.compare.trial import Endpoint, Slot, measure

pytestmark = [pytest.mark.story, pytest.mark.timed]

MTP = {"method": "mtp", "num_speculative_tokens": 3}
POINT = OperatingPoint(name="c2", concurrency=2, primary=True)


@pytest.fixture
def containers(tmp_path: Path, forker: Forker) -> Iterator[Containers]:
    with containers_in(tmp_path, forker) as made:
        yield made


def wait_for(url: str) -> None:
    """Another process starts meanwhile: its progress cannot be simulated."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(url + "/health", timeout=5),
        ):
            return
        time.sleep(0.05)
    raise AssertionError("the server did not start")


def compared(world: ClusterWorld, containers: Containers, canaries: Canaries) -> dict[str, float]:
    """Median TPOT (s) of both arms, measured on canaries in turn."""
    lines = prompt_lines(4)
    chosen = [Prompt(prompt_id=p["id"], content_class="chat", messages=p["messages"], max_tokens=16) for p in lines]
    engine, medians = VllmEngine(world.folder), {}
    with canaries.up("ab-1", [ArmPlan("standing", None), ArmPlan("mtp-k3", MTP)]) as servers:
        for name, server in servers.items():
            wait_for(server.url)
            endpoint = Endpoint(server.url, server.model or "", server.start_id)
            for order in range(2):
                trial = measure(engine, endpoint, chosen, POINT, Slot("x", 0, order, name))
            medians[name] = statistics.median(s.tpot_s for s in trial.samples if s.tpot_s)
            facts = vllm_log.facts(canaries.log(server), server.start_id)
            assert facts.spec_method == (None if name == "standing" else "mtp")
            assert trial.counters.present == (name != "standing")
        canaries.require_alive(servers)
    return medians


def test_the_better_arm_is_promoted_and_nothing_else_has_changed(world: ClusterWorld, containers: Containers) -> None:
    canaries = Canaries(world.api, world.options(), "chat", world.folder, allow_cluster=True, endpoint=containers.url)
    world.cluster.logs = containers.log
    serving = world.serving()

    medians = compared(world, containers, canaries)
    world.unchanged()
    assert medians["mtp-k3"] < 0.8 * medians["standing"]
    serving.switch(serving.current(), MTP)
    assert serving.current() == MTP

    used = {call.right for call in world.cluster.calls if call.group != "authorization.k8s.io"}
    granted = {
        (verb, group, resource, bool(rule["cluster"]))
        for rule in rules() for verb in rule["verbs"] for group in rule["apiGroups"] for resource in rule["resources"]
    }  # fmt: skip
    assert used <= granted
    # Used only with bare pods, and when a pod outlives its Job; and to tell why something ended. The stories of canaries use them.
    assert granted - used <= {("delete", "", "pods", False), ("list", "", "events", False)}

    serving.switch(MTP, None)
    world.unchanged()


def test_stopped_in_the_middle_of_a_measurement_it_leaves_nothing(world: ClusterWorld, containers: Containers) -> None:
    def stopped(arm: ArmObjects, pod: Object) -> str:
        raise RunInterruptedError("stopped")

    canaries = Canaries(world.api, world.options(), "chat", world.folder, allow_cluster=True, endpoint=stopped)
    with pytest.raises(RunInterruptedError):
        compared(world, containers, canaries)
    world.unchanged()
    assert world.args() == world.before["deployments/serve/chat"]["template"]["spec"]["containers"][0]["args"]


def test_every_option_and_role_is_in_the_document() -> None:
    from draftsmith.backends.kubernetes_options import JobOptions
    from draftsmith.serving.kubernetes.options import ServingOptions

    page = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text()
    missing = [
        n
        for model in (JobOptions, ServingOptions)
        for n in model.model_fields
        if f"`{n}`" not in page and f".{n}." not in page
    ]
    assert not missing
    assert all(name in page for name in ROLE_FILES)
