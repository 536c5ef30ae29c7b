"""Jobs as Jobs: the promises of every back end, with pods that are executed here, and what only a cluster can do."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_clock import FakeClock
from fake_cluster import FakeCluster, Fault
from world import connect, rules

from draftsmith.backends.kubernetes import KubernetesBackend
from draftsmith.backends.kubernetes_options import JobOptions
from draftsmith.backends.kubernetes_text import job_object_name
from draftsmith.backends.notes import NOTE
from draftsmith.contract.errors import BackendError, ConfigError, PrerequisiteError, RefusedError
from draftsmith.contract.job import JobSpec
from draftsmith.kit.clock import SystemClock

BACKENDS = Path(__file__).parents[1] / "backends"


def _load(name: str) -> Any:
    """A module beside the tests of the other back ends."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, BACKENDS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


places = _load("places")
protocol = _load("test_protocol")

_SUBMITTER = (
    "import sys, time; from pathlib import Path; from kubernetes import client\n"
    "from draftsmith.backends.kubernetes import KubernetesBackend\n"
    "from draftsmith.backends.kubernetes_options import JobOptions; from draftsmith.contract.job import JobSpec\n"
    "from draftsmith.kit.kube import KubeApi\n"
    "c = client.Configuration(); c.host = sys.argv[3]\n"
    "options = JobOptions.model_validate_json(sys.argv[4])\n"
    "backend = KubernetesBackend(Path(sys.argv[1]), KubeApi(client.ApiClient(c)), options, allow_cluster=True)\n"
    "print(backend.submit(JobSpec.model_validate_json(sys.argv[2])), flush=True); time.sleep(600)"
)


class KubernetesPlace(places.Place):  # type: ignore[misc, name-defined]
    kind = "kubernetes"

    def __init__(self, root: Path) -> None:
        self.cluster = FakeCluster(clock=SystemClock(), rules=jobs_rules(), behaviour=lambda pod: "run", page=500)
        self.options = job_options(root)
        super().__init__(root)

    def open(self) -> KubernetesBackend:
        api = connect(self.cluster, SystemClock())
        return KubernetesBackend(self.root, api, self.options, allow_cluster=True)

    def vanish(self, spec: JobSpec) -> str:
        """A Job that somebody removed, and that noted nothing."""
        handle: str = self.backend.submit(spec)
        self.backend.cancel(handle)
        places.until(
            lambda: not self.cluster.processes or all(p.poll() is not None for p in self.cluster.processes.values())
        )
        path = self.file(spec.name, NOTE)
        path.write_text(json.dumps({**json.loads(path.read_text()), "cancelled": False}))
        self.file(spec.name, "exit_code").unlink(missing_ok=True)
        return handle

    def submit_elsewhere(self, spec: JobSpec) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-c", _SUBMITTER, str(self.root), spec.model_dump_json(), self.cluster.url]
        submitter = subprocess.Popen([*command, self.options.model_dump_json()], stdout=subprocess.PIPE, text=True)
        assert submitter.stdout is not None
        return submitter, submitter.stdout.readline().strip()

    def close(self) -> None:
        self.cluster.close()


def jobs_rules() -> list[dict[str, Any]]:
    import yaml
    from world import DEPLOY

    items = yaml.safe_load_all((DEPLOY / "base" / "role-jobs.yaml").read_text())
    return [rule for item in items for rule in item.get("rules") or ()]


def job_options(root: Path, **changes: Any) -> JobOptions:
    volumes = [{"claim": "ws", "mount_path": str(root)}]
    fixed = {"image": "draftsmith:1", "namespace": "serve", "volumes": volumes, "poll_s": 0.01, "settle_s": 0}
    return JobOptions.model_validate(fixed | changes)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[KubernetesPlace]:
    made = KubernetesPlace(tmp_path)
    yield made
    made.close()


# The shared suite: every promise that the other back ends keep is kept here too.
globals().update({name: value for name, value in vars(protocol).items() if name.startswith("test_")})


class Quiet:
    """A back end on a clock of its own, and pods that come to the end they are told."""

    def __init__(self, root: Path, fate: str, **options: Any) -> None:
        self.clock = FakeClock()
        self.fate = fate
        self.cluster = FakeCluster(clock=self.clock, rules=[*rules(), *jobs_rules()], behaviour=lambda pod: self.fate)
        api = connect(self.cluster, self.clock)
        self.backend = KubernetesBackend(root, api, job_options(root, **options), allow_cluster=True)
        self.spec = JobSpec(name="r1.train", argv=("python", "-c", "pass"), workdir=str(root / "train"))

    def state(self, handle: str, wait_s: float = 1.0) -> tuple[str, str]:
        self.clock.advance(wait_s)
        found = self.backend.poll([handle])[handle]
        return found.state, found.detail


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Quiet]:
    made = Quiet(tmp_path, "unplaced")
    yield made
    made.cluster.close()


def test_why_a_job_waits_is_said(quiet: Quiet) -> None:
    handle = quiet.backend.submit(quiet.spec)
    assert quiet.state(handle) == ("PENDING", "no node takes it: 0/1 nodes: no GPU")


def test_an_image_that_cannot_be_pulled_fails_after_a_while_and_is_removed_by_cancel(quiet: Quiet) -> None:
    quiet.fate = "pull"
    handle = quiet.backend.submit(quiet.spec)
    quiet.state(handle)
    assert quiet.state(handle) == ("PENDING", "the image cannot be pulled (not found)")
    assert quiet.state(handle, 400) == ("FAILED", "the image cannot be pulled (not found)")
    quiet.backend.cancel(handle)
    quiet.cluster.step()
    assert quiet.cluster.objects == {}


def test_an_evicted_job_is_lost_and_may_start_again(quiet: Quiet) -> None:
    quiet.fate = "evicted"
    handle = quiet.backend.submit(quiet.spec)
    quiet.state(handle)
    state, detail = quiet.state(handle)
    assert state == "LOST"
    assert "low on memory" in detail
    assert quiet.backend.submit(quiet.spec) != handle


def test_a_server_that_does_not_answer_makes_it_unknown_and_nothing_is_started(quiet: Quiet) -> None:
    handle = quiet.backend.submit(quiet.spec)
    quiet.cluster.faults.append(Fault("list", "jobs", 503, "ServiceUnavailable", times=12))
    assert quiet.state(handle)[0] == "UNKNOWN"
    with pytest.raises(BackendError, match="cannot tell"):
        quiet.backend.submit(quiet.spec)
    assert quiet.state(handle, 100)[0] == "PENDING"


def test_a_create_whose_answer_is_lost_starts_one_job(quiet: Quiet) -> None:
    quiet.cluster.faults.append(Fault("create", "jobs", late=True))
    quiet.backend.submit(quiet.spec)
    assert [key for key in quiet.cluster.objects if key[0] == "jobs"] == [
        ("jobs", "serve", job_object_name("r1.train"))
    ]


def test_quota_permissions_and_strangers_are_found_before_anything_starts(quiet: Quiet) -> None:
    quiet.cluster.quota = "exceeded quota: gpu"
    with pytest.raises(PrerequisiteError, match="exceeded quota"):
        quiet.backend.submit(quiet.spec)
    quiet.cluster.quota = None
    known, quiet.cluster.rules = quiet.cluster.rules, []
    with pytest.raises(PrerequisiteError, match="forbidden"):
        quiet.backend.submit(quiet.spec)
    quiet.cluster.rules = known
    stranger = {"kind": "Job", "metadata": {"name": job_object_name("r1.train"), "namespace": "serve"}}
    template = {"metadata": {}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    quiet.cluster.put(stranger | {"spec": {"template": template}})
    with pytest.raises(RefusedError, match="not Draftsmith's"):
        quiet.backend.submit(quiet.spec)
    assert not (Path(quiet.spec.workdir) / NOTE).exists()


def test_a_dry_back_end_shows_the_object_and_asks_nothing(tmp_path: Path, quiet: Quiet) -> None:
    dry = KubernetesBackend(tmp_path, connect(quiet.cluster, quiet.clock), job_options(tmp_path))
    assert "kind: Job" in dry.plan_text(quiet.spec)
    with pytest.raises(RefusedError, match="dry run"):
        dry.submit(quiet.spec)
    with pytest.raises(RefusedError, match="dry run"):
        dry.cancel("u@r1.train")
    with pytest.raises(ConfigError, match="no volume that jobs can write"):
        dry.plan_text(quiet.spec.model_copy(update={"workdir": "/elsewhere"}))
    assert quiet.cluster.calls == []


def test_many_polls_ask_the_server_once_in_a_while(tmp_path: Path) -> None:
    quiet = Quiet(tmp_path, "ready", poll_s=5)
    handle = quiet.backend.submit(quiet.spec)
    for _ in range(3):
        quiet.state(handle, 6)
    before = len(quiet.cluster.calls)
    for _ in range(50):
        quiet.state(handle, 0.1)
    assert len(quiet.cluster.calls) - before <= 2
    assert quiet.state(handle, 0) == ("RUNNING", "")
    quiet.cluster.close()
