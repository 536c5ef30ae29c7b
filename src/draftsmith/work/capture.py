"""Job: corpus rows -> hidden states of the target, and the probe that must pass before any training.

States are asked for the row's own token ids without the last one (nothing is predicted from it). Rows whose states
were captured while they were answered are not asked for again. Of rows that are probed and were not answered greedily
the engine is also asked what it thinks of each token.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import psutil

from draftsmith import wiring
from draftsmith.client.replay import Reply, Request
from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import EngineError
from draftsmith.contract.jobs import CapturePlan, CaptureResult, ProbeSummary
from draftsmith.corpus.reading import CorpusRow, iter_rows, open_corpus
from draftsmith.engines.base import CaptureSpec
from draftsmith.kit.files import private_dir, read_json, write_json
from draftsmith.work import states
from draftsmith.work.inside.probe_plan import (
    TARGET,
    CapturedRow,
    ProbePlan,
    ProbeReport,
    engine_logprobs,
    greedy,
    ladder_ids,
    runs_whole,
)
from draftsmith.work.job import Job, run_job
from draftsmith.work.servers import one, serving
from draftsmith.work.subprocess import run_module

PROBED_ROWS = 12


def body(job: Job[CapturePlan]) -> CaptureResult:
    """Capture and probe the corpus named in the plan."""
    plan = job.plan
    config, target = wiring.capturing(plan.config), plan.target
    corpus, folder = Path(plan.corpus), private_dir(Path(plan.states))
    manifest = open_corpus(corpus)
    every = [row for split in ("train", "validation") for row in iter_rows(corpus, split)]
    rows = every[job.shard :: job.shards]
    layers = (*plan.layer_ids, target.num_layers)
    incoming = folder / (f"incoming-{job.shard}" if job.shards > 1 else "incoming")
    _discard_foreign(folder, incoming, every)
    missing = [row for row in rows if not states.states_path(folder, row.id).is_file()]
    tokens = sum(len(row.input_ids) - 1 for row in missing)
    states.require_space(folder, tokens * len(layers) * target.hidden_size * 2)
    began = time.monotonic()
    serving_s = 0.0
    chosen = _probed(rows)
    sampled = [row for row in chosen if not greedy(json.loads(row.params))]
    notes: dict[str, list[Any]] = {}
    if missing or sampled:
        capture = CaptureSpec(layer_ids=layers, storage=str(incoming))
        spec = wiring.server_spec(config, target.path, capture=capture, eager=True)
        engine = wiring.engine(config, Path(plan.registry))
        with serving(job, engine, {"capture": spec}, config.engine.start_timeout_s) as servers:
            began_capture = time.monotonic()
            _capture(job, missing, one(servers), folder, config.engine.max_num_seqs)
            serving_s = time.monotonic() - began_capture if missing else 0.0
            notes = states.logprobs(map(_fed, sampled), one(servers), config.engine.max_num_seqs)
    report = _probe(job, config, target, chosen, folder, layers, notes)
    job.say(f"the probe used {report.get('figures', {}).get('peak_memory_gib', 0.0):.1f} GiB of memory")
    return CaptureResult(
        states=str(folder),
        layer_ids=plan.layer_ids,
        rows=len(rows),
        captured_rows=len(missing),
        captured_tokens=tokens,
        capture_tokens_per_s=tokens / serving_s if serving_s else None,
        bytes=sum(states.states_path(folder, row.id).stat().st_size for row in rows),
        estimate_bytes=_share(manifest.capture_bytes_estimate, rows, every),
        probe=ProbeSummary.model_validate(report),
        wall_s=time.monotonic() - began,
    )


def _share(estimate: int | None, rows: list[CorpusRow], every: list[CorpusRow]) -> int | None:
    """The part of the corpus's estimate that falls to this shard's rows."""
    if estimate is None or len(rows) == len(every):
        return estimate
    return round(estimate * sum(len(row.input_ids) for row in rows) / sum(len(row.input_ids) for row in every))


def _discard_foreign(folder: Path, incoming: Path, rows: list[CorpusRow]) -> None:
    """States of requests that are not in the training rows (held out, dropped) are deleted at once."""
    wanted = {states.key(row.id) for row in rows}
    for path in folder.glob("*.safetensors"):
        if path.stem not in wanted:
            path.unlink()
    for path in incoming.glob("*"):
        path.unlink()


def _capture(job: Job[CapturePlan], missing: list[CorpusRow], server: Any, folder: Path, concurrency: int) -> None:
    total = sum(len(row.input_ids) - 1 for row in missing)
    length = {row.id: len(row.input_ids) - 1 for row in missing}
    done = 0
    failed: list[str] = []

    def count(reply: Reply) -> None:
        nonlocal done
        done += length[reply.record.id]
        if reply.record.error is not None:
            failed.append(reply.record.error)
        job.progress("capturing hidden states", done, total, "tokens")

    states.capture(map(_fed, missing), server, folder, concurrency, count)
    if failed:
        raise EngineError(
            f"{len(failed)} of {len(missing)} rows could not be captured ({failed[0]})",
            "run again: only those are asked for",
        )


def _fed(row: CorpusRow) -> Request:
    """The tokens of a row that the model is fed, to be looked at and not answered."""
    return Request(row.id, prompt_token_ids=row.input_ids[:-1].tolist(), max_tokens=1)


def _probed(rows: list[CorpusRow]) -> list[CorpusRow]:
    """A spread of rows by length, the longest last."""
    ordered = sorted(rows, key=lambda row: (len(row.input_ids), row.id))
    step = max(1, len(ordered) // PROBED_ROWS)
    return list({row.row: row for row in [*ordered[::step][: PROBED_ROWS - 1], *ordered[-1:]]}.values())


def _probe(
    job: Job[CapturePlan],
    config: Config,
    target: TargetFacts,
    chosen: list[CorpusRow],
    folder: Path,
    layers: tuple[int, ...],
    notes: dict[str, list[Any]],
) -> dict[str, Any]:
    """Run the probe in the engine's interpreter on the chosen rows. `told`: the engine's log probabilities of rows by id,
    for those whose answers prove nothing by themselves. Fails closed.
    """
    if not chosen:
        return {"passed": True, "checks": []}  # more shards than rows
    plan = ProbePlan(
        target=target.path,
        layer_ids=layers,
        rows=tuple(
            CapturedRow(
                file=str(states.states_path(folder, row.id)),
                prompt_ids=tuple(row.input_ids[: row.prompt_tokens].tolist()),
                output_ids=tuple(row.input_ids[row.prompt_tokens :].tolist()),
                greedy=row.id not in notes,
                concurrency=config.engine.max_num_seqs,
                prompt_logprobs=engine_logprobs(notes[row.id]) if row.id in notes else None,
            )
            for row in chosen
        ),
        longest_tokens=len(chosen[-1].input_ids) - 1,
    )
    job.progress("probing the captured states", 0, len(plan.rows), "rows")
    free = psutil.virtual_memory().available
    report = _run(job, plan) if runs_whole(target.weight_bytes, target.quantization, free) else None
    if report is None or any(check.name == TARGET and not check.passed for check in report.checks):
        plan = plan.model_copy(update={"ladder": _ladder(job, config, target, plan, chosen)})
        try:
            report = _run(job, plan)
        finally:
            for row in plan.ladder:
                Path(row.file).unlink(missing_ok=True)
    if not report.passed:
        wrong = "; ".join(check.sentence for check in report.checks if not check.passed)
        raise EngineError(
            f"the capture is wrong: {wrong or 'the probe gave no reason'}",
            "nothing was trained; check the engine's version and the layer ids, then capture again",
        )
    how = "the engine's ladder" if plan.ladder else "transformers"
    return report.model_dump(mode="json") | {"layers_by": how}


def _run(job: Job[CapturePlan], plan: ProbePlan) -> ProbeReport:
    return run_probe(plan, private_dir(job.workdir / "probe"), job.plan.config.engine.python, Path(job.plan.registry))


def _ladder(
    job: Job[CapturePlan], config: Config, target: TargetFacts, plan: ProbePlan, chosen: list[CorpusRow]
) -> tuple[CapturedRow, ...]:
    """The shortest rows captured again with each layer's neighbours and both ends: one more start of the engine."""
    shortest = sorted(chosen, key=lambda row: len(row.input_ids))[: plan.reference_rows]
    folder = private_dir(job.workdir / "ladder")
    for left in folder.glob("*"):
        left.unlink()
    wanted = CaptureSpec(layer_ids=ladder_ids(plan.layer_ids, target.num_layers), storage=str(folder))
    spec = wiring.server_spec(config, target.path, capture=wanted, eager=True)
    job.progress("starting the engine for the layers' neighbours", note="transformers does not run this target here")
    with serving(
        job, wiring.engine(config, Path(job.plan.registry)), {"ladder": spec}, config.engine.start_timeout_s
    ) as up:
        _capture(job, shortest, one(up), folder, len(shortest))
    return tuple(
        CapturedRow(file=str(states.states_path(folder, row.id)), prompt_ids=tuple(row.input_ids[:-1].tolist()))
        for row in shortest
    )


def run_probe(plan: ProbePlan, workdir: Path, python: str | None, registry: Path) -> ProbeReport:
    """Run draftsmith.work.inside.probe as a subprocess. Raises EngineError if it does not report."""
    request, answer = workdir / "probe-request.json", workdir / "report.json"
    answer.unlink(missing_ok=True)
    write_json(request, plan)
    try:
        arguments = [str(request), "--report", str(answer)]
        code = run_module("draftsmith.work.inside.probe", arguments, python, workdir / "probe.log", registry)
    finally:
        request.unlink(missing_ok=True)  # it holds token ids
    if not answer.is_file():
        raise EngineError(
            f"the probe ended with exit code {code} and no report", "see probe/probe.log of the capture job"
        )
    return ProbeReport.model_validate(read_json(answer))


if __name__ == "__main__":
    raise SystemExit(run_job(body, CapturePlan))
