"""Carries a run out: asks `advance` what is next, does it, writes down what came of it. The only place with effects."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from functools import partial

from draftsmith.backends.base import ClusterBackend
from draftsmith.contract.base import digest
from draftsmith.contract.errors import WaitingError
from draftsmith.contract.job import JobResult
from draftsmith.kit import processes
from draftsmith.loop.advance import Step, advance, completed, finished, to_clear
from draftsmith.loop.base import Loop
from draftsmith.loop.jobs import end_job, living, patiently, run_job, specs
from draftsmith.loop.lock import alone
from draftsmith.loop.promotion import promote
from draftsmith.loop.reuse import take_over
from draftsmith.loop.service import remember_run
from draftsmith.phases.base import PhaseContext
from draftsmith.store.retention import purge
from draftsmith.store.runs import Run


def drive(loop: Loop) -> JobResult | None:
    """Advance until the run is finished. Returns the comparison's result, if the run came so far.

    Raises the error of a failed phase, WaitingError if the operator declined, or RefusedError if another process
    is at it; the same run continues later.
    """
    with alone(loop.run.folder):
        processes.sweep(loop.run.processes)
        for phase in to_clear(loop.run.events()):
            end_job(loop, phase)
            shutil.rmtree(loop.context.phase_dir(phase), ignore_errors=True)
            loop.run.append("cleared", phase)
        check_ahead(loop)
        remember_run(loop.run, loop.context)
        return _advance(loop)


def plan_texts(loop: Loop) -> dict[str, str]:
    """What would be handed to the cluster, by phase, word for word. Raises ConfigError, InputError."""
    if not isinstance(loop.backend, ClusterBackend):
        return {}
    return {phase: loop.backend.plan_text(spec) for phase, spec in specs(_now(loop), loop.jobs).items()}


def check_ahead(loop: Loop) -> None:
    """Raise PrerequisiteError or BackendError if the cluster would not take a job that is still to come. Starts nothing.

    A run whose job lives is past this: the job is adopted, and holds the place that the others are to have.
    """
    if not isinstance(loop.backend, ClusterBackend) or finished(loop.run.events()):
        return
    waiting = specs(_now(loop), loop.jobs)
    if loop.stop_after in waiting:
        order = list(waiting)
        waiting = {phase: waiting[phase] for phase in order[: order.index(str(loop.stop_after)) + 1]}
    for phase, spec in waiting.items():
        loop.backend.plan_text(spec)
        if patiently(loop, phase, partial(living, loop.backend, spec.name)) is not None:
            return
    for spec in waiting.values():
        loop.backend.check(spec)


def _now(loop: Loop) -> PhaseContext:
    return replace(loop.context, results=results(loop.run))


def _advance(loop: Loop) -> JobResult | None:
    while True:
        events = loop.run.events()
        step = advance(events, loop.pipeline, asked=loop.ask)
        context = _now(loop)
        if step.kind == "finished" or (loop.stop_after and loop.stop_after in context.results):
            return context.results.get("compare")
        if step.kind == "finish":
            if context.config.corpus.retention == "zero":
                purge(loop.run.folder)
            loop.run.append("finished", step.phase, headline=step.headline)
            continue
        if step.ask and not loop.console.confirm(step.headline, str(step.phase)):
            loop.run.append("declined", step.phase)
            raise WaitingError(
                f"stopped before {step.phase}, which waits for your yes",
                "run the same command again to go on from there, with --yes to go on without being asked",
            )
        _perform(replace(loop, context=context), step)


def results(run: Run) -> dict[str, JobResult]:
    """Results of the phases that are done, by phase."""
    return {phase: JobResult.model_validate(event.data["result"]) for phase, event in completed(run.events()).items()}


def _perform(loop: Loop, step: Step) -> None:
    phase = str(step.phase)
    began = time.monotonic()
    if step.kind == "promote":
        loop.console.phase_started(phase, "promote, or keep the standing configuration", reused_from=None)
        result, gate = promote(loop.run, loop.context, loop.serving)
        inputs = ""
    else:
        job = loop.jobs[phase].plan(loop.context)
        inputs = digest({"module": job.module, **job.inputs})
        taken = take_over(loop.run, phase, inputs)
        loop.console.phase_started(phase, loop.jobs[phase].title, reused_from=taken.reused_from if taken else None)
        result = taken or run_job(loop, phase, job)
        gate = loop.jobs[phase].collect(loop.context, loop.jobs[phase].result.of(result))
    loop.run.append(
        "phase_done",
        phase,
        inputs=inputs,
        passed=gate.passed,
        headline=gate.headline,
        details=list(gate.details),
        result=result.model_dump(mode="json"),
    )
    loop.console.phase_ended(phase, gate, result.wall_s or time.monotonic() - began)
