"""Where jobs go, from what was asked for and what was seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from draftsmith.backends.detect import Facts, choose, detect, look
from draftsmith.contract.errors import ConfigError

NOTHING = Facts(slurm_missing=("sbatch", "squeue", "scancel", "sinfo"), slurm_says="sinfo is not installed")
SLURM = Facts(slurm_answers=True, slurm_says="partitions gpu*, cpu")
ALL = ("sbatch", "squeue", "scancel", "sinfo")


@pytest.mark.parametrize(
    ("seen", "kind", "scheduler", "said"),
    [
        (NOTHING, "local", "auto", "no scheduler was found"),
        (SLURM, "slurm", "slurm", "partitions gpu*, cpu"),
        (Facts(slurm_says="the Slurm controller does not answer"), "local", "auto", "no scheduler"),
        (Facts(slurm_answers=True, slurm_missing=("sbatch",)), "local", "auto", "no scheduler"),
        (Facts(slurm_missing=ALL, kubeconfig="/h/.kube/config"), "kubernetes", "kubernetes", "/h/.kube/config"),
        (Facts(slurm_missing=ALL, in_pod=True), "kubernetes", "kubernetes", "this is a pod"),
        (
            Facts(slurm_missing=ALL, in_pod=True, slurm_variables=("SLURM_JOB_ID",)),
            "kubernetes", "slurm-on-kubernetes", "SLURM_JOB_ID",
        ),
        (
            Facts(slurm_missing=ALL, kubeconfig="/h/c", bridge=("deployment/slurm-bridge-scheduler",)),
            "kubernetes", "slurm-on-kubernetes", "slurm-bridge-scheduler",
        ),
        (Facts(slurm_answers=True, kubeconfig="/h/c", bridge=("x",)), "slurm", "slurm", "Slurm answers here"),
        (Facts(slurm_answers=True, in_pod=True, bridge=("x",)), "kubernetes", "slurm-on-kubernetes", "this is a pod"),
        (Facts(slurm_missing=ALL, slurm_variables=("SLURM_JOB_ID",)), "local", "auto", "no scheduler"),
    ],
)  # fmt: skip
def test_what_is_seen_decides_if_nobody_said(seen: Facts, kind: str, scheduler: str, said: str) -> None:
    choice = detect(seen)

    assert (choice.kind, choice.scheduler) == (kind, scheduler)
    assert said in choice.why
    assert choice.seen[0].startswith("Slurm: ")
    assert choice == choose(None, "auto", ("local", "auto"), lambda: seen)


def never() -> Facts:
    raise AssertionError("nothing has to be looked at")


@pytest.mark.parametrize(
    ("backend", "scheduler", "configured", "expected"),
    [
        (None, None, ("local", "auto"), ("local", "auto")),
        (None, None, ("slurm", "auto"), ("slurm", "slurm")),
        ("slurm", None, ("local", "auto"), ("slurm", "slurm")),
        (None, "slurm", ("local", "auto"), ("slurm", "slurm")),
        ("slurm", "auto", ("local", "auto"), ("slurm", "slurm")),
        ("local", None, ("slurm", "slurm"), ("local", "auto")),
        (None, "slurm-on-kubernetes", ("local", "auto"), ("kubernetes", "slurm-on-kubernetes")),
        ("kubernetes", "kubernetes", ("slurm", "slurm"), ("kubernetes", "kubernetes")),
        (None, None, ("kubernetes", "slurm-on-kubernetes"), ("kubernetes", "slurm-on-kubernetes")),
    ],
)
def test_what_was_asked_for_needs_no_look(
    backend: str | None, scheduler: str | None, configured: tuple[str, str], expected: tuple[str, str]
) -> None:
    choice = choose(backend, scheduler, configured, never)

    assert (choice.kind, choice.scheduler) == expected


def test_kubernetes_without_a_word_on_its_scheduler_is_looked_at() -> None:
    bridged = Facts(kubeconfig="/h/c", bridge=("x",))

    assert choose("kubernetes", None, ("local", "auto"), lambda: bridged).scheduler == "slurm-on-kubernetes"
    assert choose("kubernetes", None, ("local", "auto"), lambda: NOTHING).scheduler == "kubernetes"


@pytest.mark.parametrize(
    ("backend", "scheduler", "configured"),
    [
        ("local", "slurm", ("local", "auto")),
        ("slurm", "kubernetes", ("local", "auto")),
        ("kubernetes", "slurm", ("local", "auto")),
        (None, None, ("local", "slurm")),
    ],
)
def test_a_scheduler_the_back_end_does_not_reach_is_refused(
    backend: str | None, scheduler: str | None, configured: tuple[str, str]
) -> None:
    with pytest.raises(ConfigError, match="reached through"):
        choose(backend, scheduler, configured, never)


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_looking_asks_sinfo_and_reads_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALL:
        program(tmp_path, name, "echo 'gpu*'; echo cpu")
    config = tmp_path / "config"
    config.write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))

    seen = look({"KUBECONFIG": f"/nosuch:{config}", "SLURM_CONF": "/etc/slurm.conf", "SLURM_JOB_ID": "7"})

    assert seen.slurm_answers
    assert seen.slurm_says == "partitions cpu, gpu*"
    assert seen.kubeconfig == str(config)
    assert seen.slurm_variables == ("SLURM_JOB_ID",)
    assert not seen.in_pod


def test_slurm_commands_without_a_controller_are_no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ALL:
        program(tmp_path, name, "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))

    seen = look({"HOME": str(tmp_path), "KUBERNETES_SERVICE_HOST": "10.0.0.1"})

    assert not seen.slurm_answers
    assert "does not answer" in seen.slurm_says
    assert seen.in_pod
