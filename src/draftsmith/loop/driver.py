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
from draftsmith.loop.reuse import FEEDS, may_be_spared, spared, take_over
from draftsmith.loop.service import remember_run
from draftsmith.loop.standing import already_serves
from draftsmith.loop.standing import gate as gate_of_known
from draftsmith.phases.base import Gate, PhaseContext
from draftsmith.phases.way import trainless
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
        step = advance(events, loop.pipeline, ask=loop.ask)
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
        if _leave_out(loop, phase) or _spare(loop, phase):
            return
        job = loop.jobs[phase].plan(loop.context)
        inputs = digest({"module": job.module, **job.inputs})
        taken = already_serves(loop.context) if phase == "compare" else take_over(loop.run, phase, inputs)
        if taken is None and _make_what_was_spared(loop, phase):
            return
        loop.console.phase_started(phase, loop.jobs[phase].title, reused_from=taken.reused_from if taken else None)
        result = taken or run_job(loop, phase, job)
        gate = gate_of_known(result) or loop.jobs[phase].collect(loop.context, loop.jobs[phase].result.of(result))
    _record(loop, phase, result, gate, inputs, time.monotonic() - began)


def _record(loop: Loop, phase: str, result: JobResult, gate: Gate, inputs: str, took_s: float) -> None:
    loop.run.append(
        "phase_done",
        phase,
        inputs=inputs,
        passed=gate.passed,
        headline=gate.headline,
        details=list(gate.details),
        result=result.model_dump(mode="json"),
    )
    loop.console.phase_ended(phase, gate, result.wall_s or took_s)


def _leave_out(loop: Loop, phase: str) -> bool:
    """Leave out capture and training where the method needs no draft. Said, and recorded without inputs."""
    nothing = trainless(loop.context, phase)
    if nothing is None:
        return False
    loop.console.phase_started(phase, loop.jobs[phase].title, reused_from=None)
    _record(loop, phase, nothing, Gate(True, f"not needed: {nothing.outputs['sentence']}"), "", 0.0)
    return True


def _spare(loop: Loop, phase: str) -> bool:
    """Leave a phase out if the one phase that it feeds is taken over. It is recorded without inputs: no run takes it over."""
    if phase == loop.stop_after or not may_be_spared(loop.run, phase):
        return False
    fed, nothing = FEEDS[phase], spared(loop.context, phase)
    context = replace(loop.context, results={**loop.context.results, phase: nothing})
    job = loop.jobs[fed].plan(context)
    taken = take_over(loop.run, fed, digest({"module": job.module, **job.inputs}))
    if taken is None:
        return False
    loop.console.phase_started(phase, loop.jobs[phase].title, reused_from=None)
    gate = Gate(True, f"not needed: {fed} is taken over from {taken.reused_from}")
    _record(loop, phase, nothing, gate, "", 0.0)
    return True


def _make_what_was_spared(loop: Loop, phase: str) -> bool:
    """Have the phase before made after all: what it was left out for is gone since."""
    missing = [name for name, fed in FEEDS.items() if fed == phase and name in loop.context.results]
    missing = [name for name in missing if loop.context.results[name].figures.get("spared")]
    for name in missing:
        loop.run.append("started", restart=name, discards=[name], standing=loop.context.standing)
        loop.run.append("cleared", name)
    return bool(missing)
