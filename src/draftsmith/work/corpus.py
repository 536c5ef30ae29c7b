"""Job: access records -> corpus/. Prompts without the target's own answer are answered by it, and captured meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from draftsmith import wiring
from draftsmith.client.replay import UNLESS_SAID, Reply, Request
from draftsmith.contract.access import AccessRecord
from draftsmith.contract.base import canonical
from draftsmith.contract.config import Config, CorpusConfig
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import ConfigError, InputError
from draftsmith.contract.jobs import CorpusPlan, CorpusResult
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.corpus.answers import answered, triage
from draftsmith.corpus.build import build_corpus
from draftsmith.corpus.matching import hard_examples
from draftsmith.corpus.redaction import Redactor
from draftsmith.corpus.target_tokens import TargetTokens
from draftsmith.engines.base import CaptureSpec
from draftsmith.kit.files import LineLog, append_line, cut_torn_line, private_dir, read_json, read_lines
from draftsmith.traffic.importers import read_records
from draftsmith.work import states
from draftsmith.work.job import Job, run_job
from draftsmith.work.servers import one, serving

REDACTED = "redacted_answer"


def body(job: Job[CorpusPlan]) -> CorpusResult:
    """Build the corpus named in the plan."""
    plan = job.plan
    config, target = plan.config, plan.target
    profile = WorkloadProfile.model_validate(read_json(Path(plan.profile))) if plan.profile else None
    tokenizer = Path(target.path, "tokenizer.json")
    tokens = TargetTokens(tokenizer, target)
    sorter = _Sorter(config.corpus, tokens)
    log = _Log(list(plan.sources), plan.format, _hard(config.corpus))
    dropped: Counter[str] = Counter()
    requests: dict[str, AccessRecord] = {}
    extra: set[str] = set()
    for record, mined in log.all():
        kind, seen = sorter.look(record)
        if kind not in ("ready", "replay"):
            dropped[kind] += 1
        elif kind == "replay" and not (mined and seen.id in requests):
            requests[seen.id] = seen
            extra |= {seen.id} if mined else set()
    answers = job.workdir / "answers.jsonl"
    if requests:
        _answer(job, config, target, requests, answers, sorter.redactor)
    dropped.update(record.error for record in _answers(answers) if record.error == REDACTED)

    def records(of_mined: bool) -> Iterator[AccessRecord]:
        for record, mined in log.all():
            kind, seen = sorter.look(record) if mined == of_mined else ("", record)
            if kind == "ready":
                yield seen
        yield from (
            answer for answer in _answers(answers) if answer.error != REDACTED and (answer.id in extra) == of_mined
        )

    manifest = build_corpus(
        records(of_mined=False),
        Path(plan.out),
        target=target,
        tokenizer_path=tokenizer,
        config=config.corpus,
        profile=profile,
        layers=len(plan.layer_ids) + 1,
        check=sorter.redactor.check(tokens) if sorter.redactor else None,
        dropped=dropped,
        regenerated=len(requests),
        hard_share=config.corpus.hard_share,
        mined=records(of_mined=True),
        draft_vocab=config.trainer.draft_vocab,
        on_progress=lambda stage, done, total: job.progress(stage, done, total or None, "rows"),
    )
    return CorpusResult(
        corpus=plan.out,
        states=plan.states,
        rows_sha256=manifest.rows_sha256,
        rows={name: counts.rows for name, counts in manifest.splits.items()},
        answer_tokens={name: counts.answer_tokens for name, counts in manifest.splits.items()},
        draft_vocabulary=manifest.vocabulary.size if manifest.vocabulary else None,
        vocabulary_coverage=manifest.vocabulary.coverage if manifest.vocabulary else None,
        regenerated=manifest.regenerated,
        dropped=manifest.dropped,
        redacted_prompts=len(sorter.redacted),
        mined=len(log.hard),
        capture_bytes_estimate=manifest.capture_bytes_estimate,
    )


class _Sorter:
    """What becomes of each record, and how it looks then: with redaction on, its prompt is clean."""

    def __init__(self, settings: CorpusConfig, tokens: TargetTokens) -> None:
        self.redactor = Redactor() if settings.redact else None
        self.redacted: set[str] = set()
        self._regenerate, self._tokens = settings.regenerate, tokens

    def look(self, record: AccessRecord) -> tuple[str, AccessRecord]:
        """('ready', 'replay' or a reason to drop it, the record)."""
        if self.redactor is not None:
            record, redacted = self.redactor.prompt(record)
            if redacted:
                self.redacted.add(record.id)
                if self._regenerate == "never":
                    return "redacted_prompt", record
        return triage(record, self._regenerate, tokens=self._tokens), record


@dataclass(frozen=True)
class _Log:
    """The traffic, and what was mined from the log of a served draft. `hard`: ids of the mined requests."""

    sources: list[str]
    format: str | None
    mined: tuple[str, frozenset[str]] | None

    @property
    def hard(self) -> frozenset[str]:
        return self.mined[1] if self.mined else frozenset()

    def all(self) -> Iterator[tuple[AccessRecord, bool]]:
        """(record, whether it was mined); the traffic first."""
        for record in read_records(self.sources, self.format):
            yield record, False
        if self.mined:
            for record in read_records([self.mined[0]]):
                if record.id in self.mined[1]:
                    yield record, True


def _hard(settings: CorpusConfig) -> tuple[str, frozenset[str]] | None:
    """The hard log and the ids of its least accepted requests. Raises InputError if it cannot tell them."""
    if settings.hard_log is None:
        return None
    if not settings.hard_share:
        raise ConfigError("corpus.hard_log is set, but corpus.hard_share is 0", "set corpus.hard_share, such as 0.2")
    hard = hard_examples(read_records([settings.hard_log]), settings.hard_share)
    if not hard:
        raise InputError(
            "no request of corpus.hard_log tells how its drafts were accepted",
            "serve the draft with --per-request-spec-decode-metrics summary and record it (see docs/recording.md)",
        )
    return settings.hard_log, frozenset(hard)


def _forget_failures(path: Path) -> None:
    """Leave what was answered: a request that failed, perhaps because its engine was killed, is asked again."""
    cut_torn_line(path)
    if all(record.error in (None, REDACTED) for record in _answers(path)):
        return
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with LineLog(part) as kept:
        for record in _answers(path):
            if record.error in (None, REDACTED):
                kept.add(canonical(record))
    part.replace(path)


def _answers(path: Path) -> Iterator[AccessRecord]:
    for line in read_lines(path):
        yield AccessRecord.model_validate(orjson.loads(line))


def _answer(
    job: Job[CorpusPlan],
    config: Config,
    target: TargetFacts,
    requests: dict[str, AccessRecord],
    answers: Path,
    redactor: Redactor | None,
) -> None:
    """Let the target answer what is missing from `answers`, capturing hidden states in the same pass."""
    _forget_failures(answers)
    done = {record.id for record in _answers(answers)}
    missing = [record for record_id, record in requests.items() if record_id not in done]
    if not missing:
        return
    folder = private_dir(Path(job.plan.states))
    capture = CaptureSpec(layer_ids=(*tuple(job.plan.layer_ids), target.num_layers), storage=str(folder / "incoming"))
    able = wiring.capturing(config)
    spec = wiring.server_spec(able, target.path, capture=capture, eager=True)
    engine = wiring.engine(able, Path(job.plan.registry))
    count = len(done)

    def keep(reply: Reply) -> None:
        nonlocal count
        count += 1
        record = reply.record
        if record.error is None and redactor is not None and redactor.find(record.completion or ""):
            # Neither its text nor its states are kept: both would tell what was found.
            new = AccessRecord(id=record.id, error=REDACTED)
            states.states_path(folder, record.id).unlink(missing_ok=True)
        elif record.error is None:
            wanted = requests[record.id]
            new = answered(
                wanted.model_copy(update={"params": UNLESS_SAID | wanted.params}),
                prompt_ids=record.prompt_token_ids or [],
                output_ids=record.output_token_ids or [],
                text=record.completion,
                finish_reason=record.finish_reason,
            )
        else:
            new = requests[record.id].model_copy(update={"error": record.error})
        append_line(answers, canonical(new))
        job.progress("answering with the target", count, len(requests), "requests")

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
    raise SystemExit(run_job(body, CorpusPlan))
