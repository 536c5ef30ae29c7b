"""One visit: a few prompts over one arm, with the engine's counters before and after, and what else the machine did.

The ids of the answers are kept in memory until the block is complete, to say where an arm leaves the baseline's answer;
what is written holds a hash of them and no text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from draftsmith.client.replay import Pacing, Reply, Request, Target, replay
from draftsmith.contract.base import canonical
from draftsmith.contract.errors import EngineLostError
from draftsmith.contract.measure import OperatingPoint, RequestSample, SpecCounters, Trial
from draftsmith.corpus.prompts import Prompt
from draftsmith.engines.base import Engine, Snapshot
from draftsmith.kit import hardware
from draftsmith.kit.clock import Clock, SteadyClock
from draftsmith.verdict.visits import Traffic
from draftsmith.work.compare.meter import Meter

JUMP_S = 1.0  # the wall clock may be corrected by less than this while a visit lasts


@dataclass(frozen=True)
class Endpoint:
    """A running server, as a trial sees it.

    `counted`: it publishes the engine's counters. `process_start`: the start time that they carry, where another one
    would mean another server. `node`: where it runs, if that is not this machine. `engine`: what it is read with, where that
    is not the comparison's own. `asks`: what its requests ask for beside the answer. `method`: by which it speculates, of a server
    that was started here.
    """

    url: str
    model: str
    start_id: str
    kv_tokens: int | None = None
    counted: bool = True
    process_start: str | None = None
    api_key: str | None = field(default=None, repr=False)
    node: str | None = None
    engine: Engine | None = field(default=None, repr=False)
    asks: Mapping[str, Any] = field(default_factory=dict)
    method: str | None = None
    processes: tuple[psutil.Process, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Slot:
    """Where a trial stands in the campaign. `visit`: None in the first edition, where an arm has one visit in a block."""

    plan_sha256: str
    block: int
    order: int
    arm: str
    traffic: Traffic = "own"
    visit: int | None = None
    attempt: int = 0

    def trial_id(self, point: str) -> str:
        """Unique in the campaign."""
        name = f"{point}/{self.block}/{self.arm}" + ("" if self.traffic == "own" else f"/{self.traffic}")
        if self.visit is None:
            return name
        return f"{name}/{self.visit}" + (f".{self.attempt}" if self.attempt else "")


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
    """One visit without the ids of its answers; see Visitor."""
    return Visitor(engine, dcgm_url).measure(endpoint, prompts, point, slot)[0]


class Visitor:
    """Measures visits, one after the other. `own_processes`: see Meter; it changes with the servers that are up."""

    def __init__(self, engine: Engine, dcgm_url: str | None = None, clock: Clock | None = None) -> None:
        self.engine, self.dcgm_url, self.clock = engine, dcgm_url, clock or SteadyClock()
        self.own_processes: Sequence[psutil.Process] | None = None
        self._last: dict[str, Snapshot] = {}

    def measure(
        self, endpoint: Endpoint, prompts: Sequence[Prompt], point: OperatingPoint, slot: Slot
    ) -> tuple[Trial, Answers]:
        """One visit. Raises EngineLostError if the server goes away or is replaced meanwhile; nothing is recorded then."""
        classes = {prompt.prompt_id: prompt.content_class for prompt in prompts}
        samples: dict[str, RequestSample] = {}
        answers: Answers = {}

        def keep(reply: Reply) -> None:
            samples[reply.record.id] = sample(reply, classes[reply.record.id])
            if reply.record.output_token_ids and not reply.record.error:
                answers[reply.record.id] = reply.record.output_token_ids

        before = self._before(endpoint)
        if before and endpoint.process_start and before.start_id != endpoint.process_start:
            raise EngineLostError(
                f"the server of {slot.arm} was replaced while the comparison ran", "run again: finished blocks are kept"
            )
        began = self.clock.unix()
        pacing = Pacing(point.concurrency, open_loop=point.open_loop)
        target = Target(endpoint.url, endpoint.model, api_key=endpoint.api_key, again=False, extra=dict(endpoint.asks))
        with Meter(self.dcgm_url, node=endpoint.node, own_processes=self.own_processes) as meter:
            wall_s, peak, lag_s = replay(requests_of(prompts, point), target, pacing, keep)
        counters = SpecCounters()
        if before:
            engine = endpoint.engine or self.engine
            self._last[endpoint.url] = engine.counters(endpoint.url)
            counters = engine.diff(before, self._last[endpoint.url])
        trial = Trial(
            plan_sha256=slot.plan_sha256,
            trial_id=slot.trial_id(point.name),
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
            invalid=_jumped(meter.moved_s),
            hardware=meter.summary(),
            visit=slot.visit or 0,
            contention=meter.contention(lag_s),
        )
        return trial, answers

    def _before(self, endpoint: Endpoint) -> Snapshot | None:
        """The counters before a visit. Those that settled after the last visit are still valid if no request was sent since."""
        if not endpoint.counted:
            return None
        engine, last = endpoint.engine or self.engine, self._last.get(endpoint.url)
        if last is not None and engine.reading(endpoint.url) == last:
            return last
        return engine.counters(endpoint.url)


def _jumped(moved_s: float) -> str | None:
    """Durations are monotonic and do not mind, but the order of visits in time is evidence, and a machine may have slept."""
    if abs(moved_s) < JUMP_S:
        return None
    return f"the clock jumped: the wall clock moved by {moved_s:+.1f} s against the monotonic one during the visit"


def with_divergence(measured: Iterable[tuple[Trial, Answers]], baseline: str) -> list[Trial]:
    """The trials of one block; each answer that differs says at which token it leaves the baseline's at the same point."""
    rows = list(measured)
    baseline_answers: dict[str, Answers] = {}
    for trial, answers in rows:
        if trial.arm == baseline and trial.traffic == "own":
            baseline_answers.setdefault(trial.point, {}).update(answers)
    trials = []
    for trial, answers in rows:
        base = baseline_answers.get(trial.point, {}) if trial.traffic in ("own", "aa") else {}
        samples = tuple(
            sample.model_copy(update={"first_divergence_hint": _leaves(answers, base, sample.prompt_id)})
            for sample in trial.samples
        )
        trials.append(trial.model_copy(update={"samples": samples}))
    return trials


def _leaves(answers: Mapping[str, list[int]], base: Mapping[str, list[int]], prompt_id: str) -> int | None:
    own_answer, other = answers.get(prompt_id), base.get(prompt_id)
    if own_answer is None or other is None or own_answer == other:
        return None
    return next(
        (i for i, (a, b) in enumerate(zip(own_answer, other, strict=False)) if a != b), min(len(own_answer), len(other))
    )


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
