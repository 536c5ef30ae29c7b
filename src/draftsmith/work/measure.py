"""One trial: the pinned prompts once over one arm, with the engine's counters before and after."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from draftsmith.contract.base import canonical
from draftsmith.contract.measure import OperatingPoint, RequestSample, SpecCounters, Trial
from draftsmith.engines.vllm import VllmEngine
from draftsmith.kit import hardware
from draftsmith.traffic.prompts import Prompt
from draftsmith.traffic.replay import Pacing, Reply, Request, Target, replay
from draftsmith.work.meter import Meter

Traffic = Literal["own", "general", "tuning", "aa"]


@dataclass(frozen=True)
class Endpoint:
    """A running server, as a trial sees it."""

    url: str
    model: str
    start_id: str
    kv_tokens: int | None = None


@dataclass(frozen=True)
class Slot:
    """Where a trial stands in the campaign."""

    plan_sha256: str
    block: int
    order: int
    arm: str
    traffic: Traffic = "own"


def requests_of(prompts: Sequence[Prompt], point: OperatingPoint) -> list[Request]:
    """The same requests for every arm. The point's sampling parameters and limit win over the prompt's own."""
    return [
        Request(
            prompt.prompt_id,
            messages=prompt.messages,
            prompt_token_ids=prompt.prompt_token_ids,
            params=prompt.params | point.sampling,
            max_tokens=min(prompt.max_tokens, point.max_tokens) if point.max_tokens else prompt.max_tokens,
            arrival_s=index / point.rate_per_s if point.rate_per_s else None,
        )
        for index, prompt in enumerate(prompts)
    ]


def measure(
    engine: VllmEngine,
    endpoint: Endpoint,
    prompts: Sequence[Prompt],
    point: OperatingPoint,
    slot: Slot,
    dcgm_url: str | None = None,
) -> Trial:
    """Run one trial. Raises EngineLostError if the server goes away meanwhile; nothing is recorded then."""
    classes = {prompt.prompt_id: prompt.content_class for prompt in prompts}
    samples: dict[str, RequestSample] = {}

    def keep(reply: Reply) -> None:
        samples[reply.record.id] = sample(reply, classes[reply.record.id])

    before = engine.counters(endpoint.url)
    began = time.time()
    pacing = Pacing(point.concurrency, open_loop=point.rate_per_s is not None)
    with Meter(dcgm_url) as meter:
        wall_s, peak = replay(requests_of(prompts, point), Target(endpoint.url, endpoint.model), pacing, keep)
    counters: SpecCounters = engine.diff(before, engine.counters(endpoint.url))
    suffix = "" if slot.traffic == "own" else f"/{slot.traffic}"
    return Trial(
        plan_sha256=slot.plan_sha256,
        trial_id=f"{point.name}/{slot.block}/{slot.arm}{suffix}",
        block=slot.block,
        order=slot.order,
        arm=slot.arm,
        point=point.name,
        traffic=slot.traffic,
        node=hardware.node(),
        engine_start_id=endpoint.start_id,
        started_unix_s=began,
        wall_s=wall_s,
        peak_concurrency=peak,
        samples=tuple(samples[prompt.prompt_id] for prompt in prompts if prompt.prompt_id in samples),
        counters=counters,
        kv_tokens=endpoint.kv_tokens,
        hardware=meter.summary(),
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
    )
