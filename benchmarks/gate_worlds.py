"""Worlds whose truth is known: servers, prompts and a machine, as raw trials that the gate decides on.

One request takes (first token + tokens x time per token) x what the machine does at that moment. Times are logs here; a
request's place in time is its number in the order in which a block asks. Arms take turns every few prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt
from recorded_noise import Recorded

from draftsmith.contract.base import digest
from draftsmith.contract.compare_config import BlockThresholds
from draftsmith.contract.measure import (
    Arm,
    ComparisonPlan,
    EngineFacts,
    OperatingPoint,
    RequestSample,
    SpecCounters,
    Thresholds,
    Trial,
)
from draftsmith.verdict.rule import Rule

Array = npt.NDArray[np.float64]

BASE, TWIN, CAND = 0, 1, 2
NAMES = ("standing", "standing#b", "tailored")
TPOT_S, TTFT_S = 0.03, 0.1
MODES = math.log(1.65)


@dataclass(frozen=True)
class World:
    """What is true. `gain`: of the candidate over the traffic, a fraction.

    `noise`: sd of one block's log ratio of two arms, half of its variance on each. `tau`: spread over prompts of the log
    ratio. `start`: sd of a server's level from start to start; `slow`: share of starts in a mode 1.65x slower.
    `machine`: log level over the requests of a block, shared by all arms. `hit`: (rng, slots) -> log level of each arm's
    requests, `slots` being the arm of each request in order. `tail`: share of the candidate's requests that are `tail_x`
    slower. `recorded`: block noise drawn from a recording instead of `noise`.
    """

    name: str
    gain: float = 0.0
    noise: float = 0.02
    tau: float = 0.0
    start: float = 0.0
    slow: float = 0.0
    request: float = 0.03
    heavy: bool = False
    machine: Callable[[np.random.Generator, int], Array] | None = None
    hit: Callable[[np.random.Generator, Array], Array] | None = None
    short: tuple[float, float] | None = None
    tail: float = 0.0
    tail_x: float = 1.0
    first_token: float = 1.0
    general: float | None = None
    held_out: int = 400
    one_start: bool = False
    recorded: Recorded | None = field(default=None, repr=False)
    aim: str = ""


@cache
def plan_for(held_out: int, prompts: int) -> ComparisonPlan:
    """The plan of every campaign: one candidate against what serves, in the preset of the second edition."""
    return ComparisonPlan(
        schema="draftsmith_comparison_v2",
        arms=(
            Arm(name="standing", role="standing"),
            Arm(name="tailored", role="candidate", spec_config={"method": "eagle3", "num_speculative_tokens": 3}),
        ),
        baseline="standing",
        points=(OperatingPoint(name="c1", concurrency=1, primary=True),),
        prompts_sha256="p",
        general_prompts_sha256="g",
        n_prompts=held_out,
        thresholds=Thresholds(max_blocks=BlockThresholds().max_blocks),
        primary="cost",
        block_prompts=min(prompts, held_out),
        visit_prompts=3,
    )


FACTS = EngineFacts(start_id="", version="1", device="d", dtype="t", enforce_eager=False, runner="r")


class Lab:
    """One campaign of one world: gives blocks, on the same servers or on new ones."""

    def __init__(self, world: World, rng: np.random.Generator, *, prompts: int = 8, visit: int = 3) -> None:
        self.world, self.rng, self.visit = world, rng, visit
        self.plan = plan_for(world.held_out, prompts)
        self.sha = digest(self.plan)
        self.prompts = self.plan.block_prompts or prompts
        self.facts: list[tuple[str, EngineFacts]] = []
        self.starts = self.blocks = 0
        self.left: list[int] = []
        number = world.held_out
        self.length = rng.normal(0, 0.15, number)  # how fast a prompt is for any arm
        self.tokens = rng.choice((20, 200), number) if world.short else rng.integers(30, 70, number)
        # Prompt effects whose mean over the traffic, not over these prompts, leaves the stated gain as it is.
        self.liking = rng.normal(-(world.tau**2) / 2, world.tau, number) if world.tau else np.zeros(number)
        self.noise: list[Array] | None = None
        if world.recorded is not None:
            self.noise = [world.recorded.draw_blocks(rng, 64) for _ in range(2)]
        self.restart()

    def restart(self) -> None:
        """New servers for both arms; the twin is a second pass over the baseline's."""
        world, rng = self.world, self.rng
        self.starts += 1
        level = rng.normal(0, world.start, 2) if world.start else np.zeros(2)
        level = level + MODES * (rng.random(2) < world.slow)
        if world.recorded is not None:
            level = level + np.array([0.0, world.recorded.draw_starts(rng, 1)[0]])
        self.level = np.array([level[0], level[0], level[1]])
        for arm in ("standing", "tailored"):
            self.facts.append((arm, FACTS.model_copy(update={"start_id": f"{arm}@{self.starts}"})))

    @property
    def rule(self) -> Rule:
        """The gate's own rule for the candidate of this campaign."""
        return Rule.of(self.plan.thresholds)

    def block(self) -> list[Trial]:
        """One more block on the present servers."""
        world, rng, number = self.world, self.rng, self.prompts
        chosen = self._next_prompts(number)
        slots = self._slots(number)
        logs = self._times(slots)
        gain = math.log1p(world.gain)
        trials = []
        for arm in (BASE, TWIN, CAND):
            own_logs = logs[slots == arm]
            per_token = self.length[chosen] + own_logs
            if arm == CAND:
                per_token = per_token - gain + self.liking[chosen]
                if world.short:
                    per_token = (
                        per_token + gain - np.log(np.where(self.tokens[chosen] < 100, world.short[0], world.short[1]))
                    )
                if world.tail:
                    per_token = per_token + math.log(world.tail_x) * (rng.random(number) < world.tail)
            first = TTFT_S * np.exp(own_logs)
            if arm == CAND:
                first = first * (world.first_token if world.first_token != 1.0 or world.short else math.exp(-gain))
            trials.append(self._trial(arm, "aa" if arm == TWIN else "own", chosen, per_token, first))
        if self.blocks < 3:
            slower = math.log(world.general) if world.general else 0.0
            for arm in (BASE, CAND):
                noise = rng.normal(0, 0.03, number) + self.level[arm]
                per_token = noise + (slower if arm == CAND else 0.0)
                general = np.arange(number) + 10_000
                trials.append(self._trial(arm, "general", general, per_token, TTFT_S * np.exp(noise)))
        self.blocks += 1
        return trials

    def _next_prompts(self, number: int) -> npt.NDArray[np.int64]:
        if len(self.left) < number:
            self.left = [int(i) for i in self.rng.permutation(self.world.held_out)]
        chosen, self.left = self.left[:number], self.left[number:]
        return np.asarray(chosen)

    def _slots(self, number: int) -> npt.NDArray[np.int64]:
        """Which arm each request of a block goes to, in time: visits of a few prompts, the order turning."""
        order: list[int] = []
        done, turn = 0, self.blocks
        while done < number:
            size = min(self.visit, number - done)
            for step in range(3):
                order += [(step + turn) % 3 if turn % 2 else (-step + turn) % 3] * size
            done, turn = done + size, turn + 1
        return np.asarray(order)

    def _times(self, slots: npt.NDArray[np.int64]) -> Array:
        world, rng = self.world, self.rng
        count = len(slots)
        logs = rng.normal(0, world.request, count)
        if world.heavy:
            logs = rng.standard_t(3, count) * 0.3 / math.sqrt(3)
        logs = logs + self.level[slots]
        if self.noise is not None:
            shift = np.array([0.0, self.noise[0][self.blocks], self.noise[1][self.blocks]])
        else:
            shift = rng.normal(0, world.noise / math.sqrt(2), 3)
        logs = logs + shift[slots]
        if world.machine is not None:
            logs = logs + world.machine(rng, count)
        if world.hit is not None:
            logs = logs + world.hit(rng, slots.astype(float))
        return np.asarray(logs)

    def _trial(self, arm: int, traffic: str, chosen: npt.NDArray[np.int64], per_token: Array, first: Array) -> Trial:
        ids = [f"p{i}" for i in chosen.tolist()]
        lengths = [50] * len(ids) if traffic == "general" else self.tokens[chosen].tolist()
        firsts = first.tolist()
        per = (TPOT_S * np.exp(per_token)).tolist()
        samples = tuple(
            RequestSample(
                prompt_id=p, output_tokens=n, ttft_s=f, latency_s=f + (n - 1) * t, finish_reason="stop", error=None
            )
            for p, n, f, t in zip(ids, lengths, firsts, per, strict=True)
        )
        total, wall = sum(lengths), sum(s.latency_s or 0.0 for s in samples)
        start = f"{NAMES[arm].split('#')[0]}@{self.starts}"
        return Trial(
            plan_sha256=self.sha,
            trial_id=f"c1/{self.blocks}/{NAMES[arm]}/{traffic}",
            block=self.blocks,
            order=arm,
            arm=NAMES[arm],
            point="c1",
            traffic=traffic,
            node="n",
            engine_start_id=start,
            started_unix_s=1.0e9 + self.blocks,
            wall_s=wall + 0.01,
            peak_concurrency=1,
            samples=samples,
            kv_tokens=1000,
            counters=_counters(arm == CAND, total, len(ids), sum(per)),
            invalid=None,
            visit=0,
        )


def _counters(drafts: bool, tokens: int, requests: int, server_s: float) -> SpecCounters:
    steps = tokens // 3
    return SpecCounters(
        present=drafts,
        drafts=steps if drafts else 0,
        draft_tokens=3 * steps if drafts else 0,
        accepted_tokens=2 * steps if drafts else 0,
        accepted_per_position=(),
        generation_tokens=tokens,
        requests=requests,
        server_tpot_sum_s=server_s,
        server_tpot_count=requests,
    )
