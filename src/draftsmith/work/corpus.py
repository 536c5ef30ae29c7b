"""Job: access records -> corpus/. Prompts without the target's own answer are answered by it, and captured meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from draftsmith import wiring
from draftsmith.contract.access import AccessRecord
from draftsmith.contract.base import canonical
from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.engines.base import CaptureSpec
from draftsmith.kit.files import append_line, private_dir, read_json, read_lines
from draftsmith.traffic.answers import answered, triage
from draftsmith.traffic.corpus import build_corpus
from draftsmith.traffic.importers import read_records
from draftsmith.traffic.replay import Reply, Request
from draftsmith.traffic.target_tokens import TargetTokens
from draftsmith.work import states
from draftsmith.work.job import Job, Outputs, run_job
from draftsmith.work.servers import one, serving


def body(job: Job) -> Outputs:
    """Build the corpus named in the plan."""
    plan = job.plan
    config = Config.model_validate(plan["config"])
    target = TargetFacts.model_validate(plan["target"])
    profile = WorkloadProfile.model_validate(read_json(Path(plan["profile"]))) if plan.get("profile") else None
    tokenizer = Path(target.path, "tokenizer.json")
    tokens = TargetTokens(tokenizer, target)
    dropped: Counter[str] = Counter()
    asked: dict[str, AccessRecord] = {}
    sources: list[str] = plan["sources"]

    def kind_of(record: AccessRecord) -> str:
        return triage(record, config.corpus.regenerate, tokens=tokens)

    for record in read_records(sources, plan.get("format")):
        if kind_of(record) == "replay":
            asked[record.id] = record
    answers = job.workdir / "answers.jsonl"
    if asked:
        _answer(job, config, target, asked, answers)

    def records() -> Iterator[AccessRecord]:
        for record in read_records(sources, plan.get("format")):
            kind = kind_of(record)
            if kind == "ready":
                yield record
            elif kind != "replay":
                dropped[kind] += 1
        yield from _answers(answers)

    manifest = build_corpus(
        records(),
        Path(plan["out"]),
        target=target,
        tokenizer_path=tokenizer,
        config=config.corpus,
        profile=profile,
        layers=len(plan["layer_ids"]) + 1,
        dropped=dropped,
        regenerated=len(asked),
        draft_vocab=config.trainer.draft_vocab,
        on_progress=lambda stage, done, total: job.progress(stage, done, total or None, "rows"),
    )
    figures = {
        "rows": {name: counts.rows for name, counts in manifest.splits.items()},
        "answer_tokens": {name: counts.answer_tokens for name, counts in manifest.splits.items()},
        "draft_vocabulary": manifest.vocabulary.size if manifest.vocabulary else None,
        "vocabulary_coverage": manifest.vocabulary.coverage if manifest.vocabulary else None,
        "regenerated": manifest.regenerated,
        "dropped": manifest.dropped,
        "capture_bytes_estimate": manifest.capture_bytes_estimate,
    }
    return {"corpus": plan["out"], "states": plan["states"], "rows_sha256": manifest.rows_sha256}, figures


def _answers(path: Path) -> Iterator[AccessRecord]:
    for line in read_lines(path):
        yield AccessRecord.model_validate(orjson.loads(line))


def _answer(job: Job, config: Config, target: TargetFacts, asked: dict[str, AccessRecord], answers: Path) -> None:
    """Let the target answer what is missing from `answers`, capturing hidden states in the same pass."""
    done = {record.id for record in _answers(answers)}
    missing = [record for record_id, record in asked.items() if record_id not in done]
    if not missing:
        return
    folder = private_dir(Path(job.plan["states"]))
    capture = CaptureSpec(
        layer_ids=(*tuple(job.plan["layer_ids"]), target.num_layers), storage=str(folder / "incoming")
    )
    spec = wiring.server_spec(config, target.path, capture=capture, eager=True)
    engine = wiring.engine(config, Path(job.plan["registry"]))
    count = len(done)

    def keep(reply: Reply) -> None:
        nonlocal count
        count += 1
        record = reply.record
        if record.error is None:
            new = answered(
                asked[record.id],
                prompt_ids=record.prompt_token_ids or [],
                output_ids=record.output_token_ids or [],
                text=record.completion,
                finish_reason=record.finish_reason,
            )
        else:
            new = asked[record.id].model_copy(update={"error": record.error})
        append_line(answers, canonical(new))
        job.progress("answering with the target", count, len(asked), "requests")

    with serving(job, engine, {"capture": spec}, config.engine.start_timeout_s) as servers:
        states.capture(_requests(missing, config), one(servers), folder, config.engine.max_num_seqs, keep)


def _requests(records: Iterable[AccessRecord], config: Config) -> Iterator[Request]:
    for record in records:
        params: dict[str, Any] = dict(record.params)
        limit = params.pop("max_tokens", None) or params.pop("max_completion_tokens", None)
        usual = record.usage.completion_tokens or config.engine.max_model_len // 4
        for name in ("stream", "stream_options", "n", "user", "metadata", "store"):
            params.pop(name, None)
        yield Request(record.id, messages=record.messages, params=params, max_tokens=limit or usual)


if __name__ == "__main__":
    raise SystemExit(run_job(body))
