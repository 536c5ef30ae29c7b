"""A job never imports what lies in the folder it works in: plans and data are there, and others may have written them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from draftsmith import wiring
from draftsmith.api import local_jobs
from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.job import JobSpec
from draftsmith.loop.base import Quiet
from draftsmith.loop.jobs import job_spec
from draftsmith.phases.base import PhaseContext


class _StoppedError(Exception):
    """Stands for the start of a job, which the test does itself."""


class _Backend:
    def submit(self, spec: JobSpec) -> str:
        error = _StoppedError()
        error.spec = spec  # type: ignore[attr-defined]
        raise error


def of_the_loop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> JobSpec:
    context = PhaseContext(
        run_id="r", folder=folder, workspace=folder, config=Config(), target=TargetFacts.model_construct(path="/m"), sources=(),
        standing=None, layer_ids=(), versions={},
    )  # fmt: skip
    return job_spec(context, "profile", "draftsmith.work.profile", 0)


def of_a_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> JobSpec:
    monkeypatch.setattr(wiring, "backend", lambda *_: _Backend())
    with pytest.raises(_StoppedError) as stopped:
        local_jobs.run_here("profile", folder / "plan.json", Quiet())
    spec = stopped.value.spec  # type: ignore[attr-defined]
    assert isinstance(spec, JobSpec)
    return spec


@pytest.mark.parametrize("made", [of_the_loop, of_a_command])
def test_a_module_that_lies_in_the_folder_of_a_job_is_not_run(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]  # fmt: skip
    spec = made(tmp_path, monkeypatch)
    folder = Path(spec.workdir)
    folder.mkdir(parents=True, exist_ok=True)
    ran = tmp_path / "ran"
    for name in ("orjson", "json", "pydantic", "sitecustomize"):
        (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'w')\n")
    done = subprocess.run(spec.argv, cwd=folder, env={**os.environ, **spec.env}, capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert "plan.json" in done.stderr, "it got as far as its plan, which is not there"
    assert not ran.exists()
