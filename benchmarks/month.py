"""A month of a served model in simulated time, through the controller's real laws, beside simpler policies.

    python benchmarks/month.py [--months 20] [--json]

Traffic is a mix of four kinds of requests, with daily waves and two shifts to kinds that were hardly there before: one over night,
one over two days. A draft learns each kind with diminishing returns from its share of the training rows, and knows nothing of
what it never saw (measured for such a draft: acceptance length 2.92 on its own kind and 1.02 on another); one training in twelve
goes wrong. Comparisons, live figures and windows carry noise; what a run costs is paid. The gain is what is saved of the server's decode time against no
speculation, less what the runs cost, and is told as a share of an oracle's, who has the right draft at every moment and pays
for one run a shift. A promotion is wrong if what was promoted is in truth slower than what stood, on the traffic of that hour.

Everything but the world is real: `tick`, `decide`, the folded journal, the sequential test, the guards of a share.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from dataclasses import dataclass, field
from typing import Any

from draftsmith.contract import control as c
from draftsmith.contract.policy import Policy
from draftsmith.controller.acceptance import Wealth, bet
from draftsmith.controller.journal import ChangedMeanwhileError
from draftsmith.controller.memory import fold
from draftsmith.controller.tick import tick

HOUR, DAY = 3600.0, 86400.0
START = 1_800_000_000.0 - 1_800_000_000.0 % DAY
DAYS = 30
STEP_S = 600.0
RUN_S, RUN_HOURS = 3 * HOUR, 2.0
K = 3
COST = 1.55  # a step with a draft takes so many times a plain one: what the acceptance length must beat
PLAIN_TPOT_S = 0.040
LEVEL, LEARNED = 1.02, 1.90  # acceptance length on what a draft never saw, and what full knowledge adds
ENOUGH = 0.04  # share of the training rows at which half of a kind is learned
KINDS = 4
BAD_TRAININGS = 1 / 12
GATE_ERROR = 0.02  # standard error of a compared speedup
WINDOW_REQUESTS = 400
POLICY = Policy(
    mode="auto", window_s=HOUR, drift_windows=3, min_requests=2000, runs_per_day=2, gpu_hours_per_day=8, run_gpu_hours=2,
    cooldown_s=3 * HOUR, share_s=1200, share_requests=100, fallback_after_s=1200, fallback_hold_s=2 * HOUR,
)  # fmt: skip
PLAIN: dict[str, Any] | None = None


def mix(at: float) -> tuple[float, ...]:
    """Shares of the kinds of requests, `at` seconds after the start."""
    day = at / DAY
    first = 1.0 if day >= 9 else 0.0  # over night
    second = min(1.0, max(0.0, (day - 19) / 2))  # over two days
    b = 0.80 * first - 0.70 * second
    c_ = 0.75 * second
    a = 0.90 - 0.80 * first - 0.05 * second
    return a, b, c_, 1 - a - b - c_


def load(at: float) -> float:
    """Share of the time in which the server decodes: a wave a day, quieter at the week's end."""
    wave = 0.55 + 0.40 * math.sin(2 * math.pi * (at / DAY - 0.3))
    return max(0.08, wave * (0.7 if (at // DAY) % 7 >= 5 else 1.0))


@dataclass
class Draft:
    """What was trained: the mix that it knows, and how well the training went."""

    name: str
    knows: tuple[float, ...]
    quality: float = 1.0

    def length(self, at: float) -> float:
        """Acceptance length on the traffic of a moment."""
        skill = [(1 + ENOUGH) * share / (share + ENOUGH) for share in self.knows]
        known = sum(served * served_share for served, served_share in zip(mix(at), skill, strict=True))
        return LEVEL + LEARNED * known * self.quality

    def speedup(self, at: float) -> float:
        """Against no speculation."""
        return self.length(at) / COST

    @property
    def config(self) -> dict[str, Any]:
        return {"method": "eagle3", "model": self.name, "num_speculative_tokens": K}


def trained(chance: random.Random, name: str, at: float, replay: float = 0.2) -> Draft:
    """A draft for the traffic of a moment, with a share of what came before."""
    old = mix(max(0.0, at - 5 * DAY))
    knows = tuple((1 - replay) * now + replay * then for now, then in zip(mix(at), old, strict=True))
    bad = chance.random() < BAD_TRAININGS
    return Draft(name, knows, chance.uniform(0.1, 0.5) if bad else chance.gauss(1.0, 0.03))


@dataclass
class World:
    """The simulated served model: see tick.Hands and tick.Book."""

    seed: int
    chance: random.Random = field(init=False)
    now: float = 0.0
    events: list[c.ControlEvent] = field(default_factory=list)
    remembered: c.Memory = field(default_factory=c.Memory)
    drafts: dict[str, Draft] = field(default_factory=dict)
    standing: dict[str, Any] | None = PLAIN
    sides: list[tuple[dict[str, Any] | None, float]] = field(default_factory=lambda: [(PLAIN, 1.0)])
    run: tuple[float, str] | None = None
    requests: float = 0.0
    marked: float = 0.0
    known: tuple[float, ...] | None = None
    training: tuple[float, ...] | None = None
    latest: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)
    moved: int = 0
    window: int = -1
    wealth: Wealth = field(default_factory=Wealth)
    below_since: float | None = None
    share_since: float = 0.0
    saved: float = 0.0
    spent: float = 0.0
    promotions: int = 0
    wrong: int = 0
    switches: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    # -- the journal -------------------------------------------------------------------------------------------------

    def memory(self) -> c.Memory:
        self.remembered = fold(self.events[self.remembered.last :], self.remembered)
        return self.remembered

    def append(self, kind: c.EventKind, sentence: str, *, after: int | None = None, **data: Any) -> c.ControlEvent:
        if after is not None and after != len(self.events):
            raise ChangedMeanwhileError
        event = c.ControlEvent(
            number=len(self.events) + 1, at_unix_s=START + self.now, kind=kind, sentence=sentence, data=data
        )
        self.events.append(event)
        return event

    def tell(self, event: c.ControlEvent, memory: c.Memory) -> None:
        return

    # -- what passes in a step ---------------------------------------------------------------------------------------

    def pass_time(self) -> None:
        """Ten minutes of serving: what they save, and what they leave to be seen."""
        for config, share in self.sides:
            if config is not None:
                speedup = self.drafts[config["model"]].speedup(self.now)
                self.saved += share * load(self.now) * STEP_S / HOUR * (1 - 1 / speedup)
        self.requests += load(self.now) * 900
        self.now += STEP_S
        if int(self.now / POLICY.window_s) != self.window:
            self.window = int(self.now / POLICY.window_s)
            self._close_window()

    def _close_window(self) -> None:
        counts = self.chance.choices(range(KINDS), mix(self.now), k=WINDOW_REQUESTS)
        seen = tuple(counts.count(kind) / WINDOW_REQUESTS for kind in range(KINDS))
        if self.known is None:
            self.known = seen
        distance = _divergence(seen, self.known)
        floor = 3 * 2 / WINDOW_REQUESTS  # as profiling.drift has it: three times what two halves of one window show
        self.moved = self.moved + 1 if distance > max(floor, 0.005) else 0
        self.latest = seen
        memory = self.memory()
        serving = self.sides[0][0]
        if memory.champion and memory.champion.config and serving == memory.champion.config:
            promised = (memory.champion.acceptance_length or 1.0) - 1
            real = self.drafts[serving["model"]].length(self.now) - 1
            self.wealth = bet(self.wealth, self._noisy(real / K, 0.02), promised / K, POLICY.fall_margin)

    def _noisy(self, value: float, spread: float) -> float:
        return min(1.0, max(0.0, self.chance.gauss(value, spread)))

    # -- looking and acting ------------------------------------------------------------------------------------------

    def look(self, memory: c.Memory) -> c.Moment:
        rollout = memory.rollout
        new = rollout.config if rollout else self.sides[0][0]
        live = self._side(new, rollout.share / 100 if rollout else 1.0, memory)
        old = self.sides[-1][0] if rollout else None
        return c.Moment(
            now_unix_s=START + self.now,
            traffic=c.TrafficSeen(
                identity=f"{self.requests:.0f}:0", new=int(self.requests - self.marked), moved=self.moved,
                drift="the mix moved" if self.moved else "no drift",
            ),
            live=live,
            beside=self._side(old, 1 - rollout.share / 100 if rollout.share < 100 else 0.5, memory) if rollout else None,
            run=self._run() if memory.run and memory.run.concluded is None else None,
            standing=self.standing, target_sha256="t", engine="e", free_gib=100.0, can_shift=True,
        )  # fmt: skip

    def _side(self, config: dict[str, Any] | None, share: float, memory: c.Memory) -> c.LiveSeen:
        length = self.drafts[config["model"]].length(self.now) if config else None
        tpot = PLAIN_TPOT_S * (COST / length if length else 1.0) * self.chance.gauss(1.0, 0.01)
        floor = memory.champion.floor_al if memory.champion else None
        seen = length * self.chance.gauss(1.0, 0.01) if length else None
        below = ""
        if seen is not None and floor is not None and memory.rollout is None and seen < floor:
            below = f"acceptance length is {seen:.2f}, and pays from {floor:.2f} on"
        self.below_since = (self.below_since if self.below_since is not None else self.now) if below else None
        since = max(STEP_S, self.now - self.share_since)
        evidence = self.wealth.evidence >= 1 / POLICY.fall_alpha
        return c.LiveSeen(
            requests=int(load(self.now) * 900 * share * since / STEP_S),
            acceptance_length=seen, tpot_s=tpot, ttft_s=0.3 * self.chance.gauss(1.0, 0.03), busy_share=load(self.now),
            below=below, below_s=self.now - self.below_since if self.below_since is not None else 0.0, below_requests=500,
            fell="acceptance fell below what was promoted" if evidence and memory.rollout is None else None,
        )  # fmt: skip

    def _run(self) -> c.RunSeen:
        assert self.run is not None
        until, name = self.run
        if self.now < until:
            return c.RunSeen(alive=True, phase="train")
        draft = self.drafts[name]
        speedup_standing = self.drafts[self.standing["model"]].speedup(self.now) if self.standing else 1.0
        seen = draft.speedup(self.now) / speedup_standing * math.exp(self.chance.gauss(0.0, GATE_ERROR))
        low = seen * math.exp(-2.2 * GATE_ERROR)
        won = low > 1.0
        outcome: c.Outcome = "WIN" if won else "LOSS" if seen * math.exp(2.2 * GATE_ERROR) < 1 else "INCONCLUSIVE"
        return c.RunSeen(
            alive=False, run_id=name, outcome=outcome, tier="verdict", why=f"{seen:.3f} times as fast", gpu_hours=RUN_HOURS,
            config=draft.config, floor_al=COST * math.exp(self.chance.gauss(0.0, GATE_ERROR)),
        )  # fmt: skip

    def perform(self, act: c.Act, memory: c.Memory) -> dict[str, Any]:
        if isinstance(act, c.StartRun):
            name = f"draft-{len(self.drafts)}"
            self.drafts[name] = trained(self.chance, name, self.now)
            self.run, self.marked, self.training = (self.now + RUN_S, name), self.requests, self.latest
            self.spent += RUN_HOURS
        elif isinstance(act, c.Shift | c.Restore):
            config = act.config if isinstance(act, c.Shift) else memory.champion.config if memory.champion else None
            previous = PLAIN if memory.fallback else self.standing
            self._switch([(config, act.share / 100), (previous, 1 - act.share / 100)])
        elif isinstance(act, c.TakeBack):
            self._switch([(PLAIN if memory.fallback else self.standing, 1.0)])
        elif isinstance(act, c.FallBack):
            self._switch([(PLAIN, 1.0)])
        elif isinstance(act, c.Settle):
            self._switch([(self.standing, 1.0)])
        elif isinstance(act, c.Promote):
            return self._promote(memory)
        return {}

    def _promote(self, memory: c.Memory) -> dict[str, Any]:
        assert memory.rollout is not None
        assert memory.rollout.config is not None
        draft = self.drafts[memory.rollout.config["model"]]
        speedup_before = self.drafts[self.standing["model"]].speedup(self.now) if self.standing else 1.0
        self.promotions += 1
        self.wrong += draft.speedup(self.now) < speedup_before
        self.standing, self.known, self.moved, self.wealth = draft.config, self.training or self.latest, 0, Wealth()
        self._switch([(draft.config, 1.0)])
        return {
            "promoted": True, "config": draft.config, "target_sha256": "t", "engine": "e",
            "acceptance_length": draft.length(self.now) * self.chance.gauss(1.0, 0.01),
        }  # fmt: skip

    def _switch(self, sides: list[tuple[dict[str, Any] | None, float]]) -> None:
        if sides != self.sides:
            self.switches += 1
        self.sides, self.share_since, self.below_since = sides, self.now, None


def _divergence(p: tuple[float, ...], q: tuple[float, ...]) -> float:
    middle = [(x + y) / 2 for x, y in zip(p, q, strict=True)]

    def relative(shares: tuple[float, ...]) -> float:
        return sum(x * math.log2(x / m) for x, m in zip(shares, middle, strict=True) if x > 0)

    return (relative(p) + relative(q)) / 2


# -- policies ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Month:
    """What came of one month. `gain` in server hours, less what runs cost."""

    gain: float
    runs: int
    promotions: int
    wrong: int
    switches: int
    fallbacks: int = 0


def controlled(seed: int) -> tuple[Month, World]:
    """The month under the real laws."""
    world = World(seed)
    while world.now < DAYS * DAY:
        world.pass_time()
        for _ in range(8):
            if isinstance(tick(world, POLICY, world), c.Wait):
                break
    back = sum(event.kind == "effect" and event.data["act"]["kind"] == "fall_back" for event in world.events)
    done = Month(world.saved - world.spent, len(world.drafts), world.promotions, world.wrong, world.switches, back)
    return done, world


def scheduled(seed: int, every_s: float | None, *, gated: bool, cost: float = RUN_HOURS) -> Month:
    """A draft every so often, compared first or pushed as it is; None = never one."""
    chance = random.Random(seed)
    serving: Draft | None = None
    saved, spent, runs, promotions, wrong, at = 0.0, 0.0, 0, 0, 0, 0.0
    due = HOUR
    while at < DAYS * DAY:
        saved += (load(at) * STEP_S / HOUR * (1 - 1 / serving.speedup(at))) if serving else 0.0
        at += STEP_S
        if every_s is not None and at >= due:
            due += every_s
            runs, spent = runs + 1, spent + cost
            draft = trained(chance, f"d{runs}", max(0.0, at - RUN_S))
            speedup_now = serving.speedup(at) if serving else 1.0
            ratio = draft.speedup(at) / speedup_now
            if gated and ratio * math.exp(chance.gauss(0.0, GATE_ERROR) - 2.2 * GATE_ERROR) <= 1.0:
                continue
            promotions += 1
            wrong += ratio < 1
            serving = draft
    return Month(saved - spent, runs, promotions, wrong, promotions)


def oracle() -> float:
    """Gain of one who has the right draft at every moment and pays for a run a shift and the first."""
    saved, at = 0.0, 0.0
    while at < DAYS * DAY:
        saved += load(at) * STEP_S / HOUR * (1 - 1 / Draft("o", mix(at)).speedup(at))
        at += STEP_S
    return saved - 3 * RUN_HOURS


def table(months: int) -> dict[str, dict[str, float]]:
    """Every policy over so many months: medians, worst, and sums of promotions."""
    best = oracle()
    ways = {
        "never": lambda seed: scheduled(seed, None, gated=False),
        "weekly, gated": lambda seed: scheduled(seed, 7 * DAY, gated=True),
        "weekly, not gated": lambda seed: scheduled(seed, 7 * DAY, gated=False),
        "always, gated": lambda seed: scheduled(seed, RUN_S, gated=True),
        "every N steps, not gated": lambda seed: scheduled(seed, HOUR, gated=False, cost=RUN_HOURS / 3),
        "the controller": lambda seed: controlled(seed)[0],
    }
    result = {}
    for name, way in ways.items():
        done = [way(seed) for seed in range(months)]
        promotions = sum(item.promotions for item in done)
        result[name] = {
            "share_of_oracle": statistics.median(item.gain for item in done) / best,
            "worst_month": min(item.gain for item in done) / best,
            "runs": statistics.mean(item.runs for item in done),
            "promotions": statistics.mean(item.promotions for item in done),
            "wrong_share": sum(item.wrong for item in done) / promotions if promotions else 0.0,
            "switches": statistics.mean(item.switches for item in done),
            "fallbacks": statistics.mean(item.fallbacks for item in done),
        }
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--months", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--log", type=int, help="print the journal of the month with this seed")
    options = parser.parse_args()
    if options.log is not None:
        from draftsmith.controller.words import story

        print("\n".join(story(controlled(options.log)[1].events)))
        return
    result = table(options.months)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(
        "| policy | gain, of the oracle's | worst month | runs | promotions | wrong | switches | fallbacks |\n|---|---|---|---|---|---|---|---|"
    )
    for name, row in result.items():
        print(
            f"| {name} | {row['share_of_oracle']:.0%} | {row['worst_month']:.0%} | {row['runs']:.0f} | "
            f"{row['promotions']:.1f} | {row['wrong_share']:.1%} | {row['switches']:.0f} | {row['fallbacks']:.1f} |"
        )


if __name__ == "__main__":
    main()
