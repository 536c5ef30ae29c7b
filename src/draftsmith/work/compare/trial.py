"""One trial: the pinned prompts once over one arm, with the engine's counters before and after.

The ids of the answers are kept in memory until the block is complete, to say where an arm leaves the baseline's answer;
what is written holds a hash of them and no text.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from draftsmith.client.replay import Pacing, Reply, Request, Target, replay
from draftsmith.contract.base import canonical
from draftsmith.contract.errors import EngineLostError
from draftsmith.contract.measure import OperatingPoint, RequestSample, SpecCounters, Trial
from draftsmith.corpus.prompts import Prompt
from draftsmith.engines.base import Engine
from draftsmith.kit import hardware
from draftsmith.work.compare.meter import Meter

Traffic = Literal["own", "general", "tuning", "aa"]


@dataclass(frozen=True)
class Endpoint:
    """A running server, as a trial sees it.

    `counted`: it publishes the engine's counters. `process_start`: the start time that they carry, where another one
    would mean another server. `node`: where it runs, if that is not this machine.
    """

    url: str
    model: str
    start_id: str
    kv_tokens: int | None = None
    counted: bool = True
    process_start: str | None = None
    api_key: str | None = field(default=None, repr=False)
    node: str | None = None


@dataclass(frozen=True)
class Slot:
    """Where a trial stands in the campaign."""

    plan_sha256: str
    block: int
    order: int
    arm: str
    traffic: Traffic = "own"


Answers = dict[str, list[int]]
"""Token ids by prompt."""


def requests_of(prompts: Sequence[Prompt], point: OperatingPoint) -> list[Request]:
    """The same requests for every arm, at the same times. The point's sampling parameters and limit win over the prompt's."""
    return [
        Request(
            prompt.prompt_id,
            messages=prompt.messages,
            prompt_token_ids=prompt.prompt_token_ids,
            params=prompt.params | point.sampling,
            max_tokens=min(prompt.max_tokens, point.max_tokens) if point.max_tokens else prompt.max_tokens,
            arrival_s=point.arrival_s(index),
        )
        for index, prompt in enumerate(prompts)
    ]


def measure(
    engine: Engine,
    endpoint: Endpoint,
    prompts: Sequence[Prompt],
    point: OperatingPoint,
    slot: Slot,
    dcgm_url: str | None = None,
) -> Trial:
    """One trial without the ids of its answers; see `measure_answers`."""
    return measure_answers(engine, endpoint, prompts, point, slot, dcgm_url)[0]


def measure_answers(
    engine: Engine,
    endpoint: Endpoint,
    prompts: Sequence[Prompt],
    point: OperatingPoint,
    slot: Slot,
    dcgm_url: str | None = None,
) -> tuple[Trial, Answers]:
    """Run one trial. Raises EngineLostError if the server goes away or is replaced meanwhile; nothing is recorded then."""
    classes = {prompt.prompt_id: prompt.content_class for prompt in prompts}
    samples: dict[str, RequestSample] = {}
    answers: Answers = {}

    def keep(reply: Reply) -> None:
        samples[reply.record.id] = sample(reply, classes[reply.record.id])
        if reply.record.output_token_ids and not reply.record.error:
            answers[reply.record.id] = reply.record.output_token_ids

    before = engine.counters(endpoint.url) if endpoint.counted else None
    if before and endpoint.process_start and before.start_id != endpoint.process_start:
        raise EngineLostError(
            f"the server of {slot.arm} was replaced while the comparison ran", "run again: finished blocks are kept"
        )
    began = time.time()
    pacing = Pacing(point.concurrency, open_loop=point.open_loop)
    target = Target(endpoint.url, endpoint.model, api_key=endpoint.api_key, again=False)
    with Meter(dcgm_url, node=endpoint.node) as meter:
        wall_s, peak = replay(requests_of(prompts, point), target, pacing, keep)
    counters = engine.diff(before, engine.counters(endpoint.url)) if before else SpecCounters()
    suffix = "" if slot.traffic == "own" else f"/{slot.traffic}"
    trial = Trial(
        plan_sha256=slot.plan_sha256,
        trial_id=f"{point.name}/{slot.block}/{slot.arm}{suffix}",
        block=slot.block,
        order=slot.order,
        arm=slot.arm,
        point=point.name,
        traffic=slot.traffic,
        node=endpoint.node or hardware.node(),
        engine_start_id=endpoint.start_id,
        started_unix_s=began,
        wall_s=wall_s,
        peak_concurrency=peak,
        samples=tuple(samples[prompt.prompt_id] for prompt in prompts if prompt.prompt_id in samples),
        counters=counters,
        kv_tokens=endpoint.kv_tokens,
        hardware=meter.summary(),
    )
    return trial, answers


def with_divergence(measured: Iterable[tuple[Trial, Answers]], baseline: str) -> list[Trial]:
    """The trials of one block; each answer that differs says at which token it leaves the baseline's at the same point."""
    rows = list(measured)
    told: dict[str, Answers] = {
        trial.point: answers for trial, answers in rows if trial.arm == baseline and trial.traffic == "own"
    }
    found = []
    for trial, answers in rows:
        base = told.get(trial.point, {}) if trial.traffic in ("own", "aa") else {}
        samples = tuple(
            sample.model_copy(update={"first_divergence_hint": _leaves(answers, base, sample.prompt_id)})
            for sample in trial.samples
        )
        found.append(trial.model_copy(update={"samples": samples}))
    return found


def _leaves(answers: Mapping[str, list[int]], base: Mapping[str, list[int]], prompt_id: str) -> int | None:
    mine, other = answers.get(prompt_id), base.get(prompt_id)
    if mine is None or other is None or mine == other:
        return None
    return next((i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b), min(len(mine), len(other)))


def sample(reply: Reply, content_class: str) -> RequestSample:
    """What is kept of one reply: counts, times and a hash of the answer's ids. No text."""
    record = reply.record
    ids = record.output_token_ids
    return RequestSample(
        prompt_id=record.id,
        content_class=content_class,
        prompt_tokens=record.usage.prompt_tokens,
        output_tokens=record.usage.completion_tokens,
        ttft_s=record.timing.ttft_s if record.timing else None,
        latency_s=record.timing.latency_s if record.timing else None,
        finish_reason=record.finish_reason,
        error=record.error,
        output_sha256=hashlib.sha256(canonical(ids).encode()).hexdigest()[:16] if ids else None,
        drafts=record.spec.drafts if record.spec else None,
        accepted_tokens=record.spec.accepted_tokens if record.spec else None,
        cached_tokens=record.usage.cached_tokens,
    )
