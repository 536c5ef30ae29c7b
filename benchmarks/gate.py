"""How often the gate is wrong, on campaigns whose truth is known: raw samples through `decide` itself.

    python benchmarks/gate.py                                          the tables of docs/gate.md
    python benchmarks/gate.py --only 'A/A' --campaigns 200             some of its rows
    python benchmarks/gate.py --recorded benchmarks/aa-cpu.json        noise drawn from recorded A/A campaigns
    python benchmarks/gate.py --record aa.json FOLDER...               make such a file: folders of `campaigns.py aa`

Every campaign does what `Decision.need` says: more blocks, or new starts of the servers, until the answer is there.
Promoted means WIN at tier `verdict`. Noise is the sd of one block's log ratio of two arms.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from gate_rivals import first_edition, mann_whitney, peeking_t, sequence
from gate_worlds import BASE, CAND, NAMES, TWIN, Array, Lab, World
from recorded_noise import Recorded, record

from draftsmith.contract.measure import Trial
from draftsmith.contract.verdict import Decision
from draftsmith.verdict.decide import decide
from draftsmith.verdict.measures import BlockPair, measure_of, pair_block
from draftsmith.verdict.rule import Look

BLOCK_LIMIT = 60


def drift(sd: float, memory: float) -> partial[Array]:
    """A machine whose level wanders and comes back (OU): sd of the level, memory in requests."""
    return partial(_ou, sd=sd, memory=memory)


def _ou(rng: np.random.Generator, count: int, *, sd: float, memory: float) -> Array:
    keep = math.exp(-1 / memory)
    steps = rng.normal(0, sd * math.sqrt(1 - keep * keep), count).tolist()
    level, result = float(rng.normal(0, sd)), []
    for step in steps:
        level = keep * level + step
        result.append(level)
    return np.asarray(result)


def walk(rng: np.random.Generator, count: int) -> Array:
    """A random walk of 3 % a request."""
    return np.cumsum(rng.normal(0, 0.03, count))


def ramp(rng: np.random.Generator, count: int) -> Array:
    """30 % slower from the first to the last request of a block."""
    return np.linspace(0, 0.3, count)


def cold(rng: np.random.Generator, count: int) -> Array:
    """Warm-up left over: 40 % slower at first, gone after 20 requests."""
    return 0.4 * np.exp(-np.arange(count) / 7)


def bursts(rng: np.random.Generator, count: int) -> Array:
    """A neighbour: a fifth of the time everything takes twice as long, for 10 requests at a time."""
    busy = np.repeat(rng.random(count // 10 + 1) < 0.2, 10)[:count]
    return np.where(busy, math.log(2), 0.0)


def one_arm(rng: np.random.Generator, slots: Array) -> Array:
    """In a quarter of the blocks one arm alone, any of the three, takes 1.3 times as long."""
    hit = rng.integers(3) if rng.random() < 0.25 else -1
    return np.where(slots == hit, math.log(1.3), 0.0)


def baseline_only(rng: np.random.Generator, slots: Array) -> Array:
    """In a quarter of the blocks the baseline's first pass alone takes 1.3 times as long."""
    return np.where(slots == 0, math.log(1.3) * (rng.random() < 0.25), 0.0)


def both_passes(rng: np.random.Generator, slots: Array) -> Array:
    """In a quarter of the blocks both passes of the baseline take 1.3 times as long: the candidate never."""
    return np.where(slots < 2, math.log(1.3) * (rng.random() < 0.25), 0.0)


ONE = "<= 1 %"
NOTHING = (ONE, "0")  # aims of worlds in which nothing should be promoted
A_A = (
    World("A/A, quiet (2 %)", aim=ONE),
    World("A/A, 5 % noise", noise=0.05, aim=ONE),
    World("A/A, 30 % noise", noise=0.3, aim=ONE),
    World("A/A, prompts differ 10 %", tau=0.1, aim=ONE),
    World("A/A, prompts differ 20 %", tau=0.2, aim=ONE),
    World("A/A, prompts differ 30 %", tau=0.3, aim=ONE),
    World("A/A, prompts differ 25 %, only 24 of them", tau=0.25, held_out=24, aim=ONE),
    World("A/A, prompts differ 25 %, only 10 of them", tau=0.25, held_out=10, aim=ONE),
    World("A/A, starts differ 5 %", start=0.05, aim=ONE),
    World("A/A, starts differ 20 %", start=0.2, aim=ONE),
    World("A/A, starts differ 40 %", start=0.4, aim=ONE),
    World("A/A, starts differ 80 %", start=0.8, aim=ONE),
    World("A/A, starts differ 40 %, 30 % noise", start=0.4, noise=0.3, aim=ONE),
    World("A/A, 1 start in 10 is 1.65x slower", slow=0.1, aim=ONE),
    World("A/A, 1 start in 3 is 1.65x slower", slow=1 / 3, aim=ONE),
    World("A/A, 1 start in 2 is 1.65x slower", slow=0.5, aim=ONE),
    World("A/A, 1 start in 2 is 1.65x slower, 10 % noise", slow=0.5, noise=0.1, aim=ONE),
    World("A/A, drift (OU 10 %, 40 requests)", machine=drift(0.1, 40), aim=ONE),
    World("A/A, drift (OU 30 %, 40 requests)", machine=drift(0.3, 40), aim=ONE),
    World("A/A, random walk, 3 % a request", machine=walk, aim=ONE),
    World("A/A, ramp of 30 % in every block", machine=ramp, aim=ONE),
    World("A/A, warm-up left over (40 %)", machine=cold, aim=ONE),
    World("A/A, neighbour: 2x in a fifth of the time", machine=bursts, aim=ONE),
    World("A/A, heavy tails (t with 3 degrees, 30 % a request)", heavy=True, aim=ONE),
    World("A/A, bursts on one arm only, 1 block in 4", hit=one_arm, aim=ONE),
    World("A/A, neighbour hits the baseline's first pass only", hit=baseline_only, aim=ONE),
    World("A/A, neighbour hits both passes of the baseline only", hit=both_passes, aim=ONE),
    World("A/A, one start for all, 1 in 2 is 1.65x slower", slow=0.5, one_start=True, aim=ONE),
)
TRUE = (
    World("5 % slower, 2 % noise", gain=-0.05, aim="0"),
    World("5 % slower, prompts differ 25 %", gain=-0.05, tau=0.25, aim=ONE),
    World("5 % faster, 2 % noise", gain=0.05, aim=">= 90 %"),
    World("10 % faster, 5 % noise", gain=0.1, noise=0.05, aim=">= 90 %"),
    World("10 % faster, prompts differ 25 %", gain=0.1, tau=0.25),
    World("10 % faster, starts differ 5 %", gain=0.1, start=0.05),
    World("1.5x, 2 % noise", gain=0.5, aim=">= 90 %"),
    World("1.5x, 30 % noise", gain=0.5, noise=0.3, aim=">= 90 %"),
    World("1.5x, neighbour: 2x in a fifth of the time", gain=0.5, machine=bursts),
    World("2x, 2 % noise", gain=1.0, aim=">= 95 % in 3 starts"),
    World("2x, 30 % noise", gain=1.0, noise=0.3, aim=">= 95 % in 3 starts"),
    World("2x, 1 start in 2 is 1.65x slower", gain=1.0, slow=0.5),
    World("2x, one start for all", gain=1.0, one_start=True),
    World("20 % faster, 3 % of its requests 5x slower", gain=0.2, tail=0.03, tail_x=5.0),
    World("20 % faster, 8 % of its requests 3x slower", gain=0.2, tail=0.08, tail_x=3.0),
    World("20 % faster, general traffic 1.5x slower", gain=0.2, general=1.5),
    World("20 % faster, first token 1.5x later", gain=0.2, first_token=1.5),
    World("Simpson: short answers 1.6x faster, long 1.25x slower", short=(1.6, 0.8), aim=ONE),
    World("Simpson: short answers 1.6x faster, long 5 % slower", short=(1.6, 0.95), aim=ONE),
)


@dataclass
class Tally:
    """Counts over campaigns. `gains`: (published, corrected, true) log gains of the promoted."""

    campaigns: int = 0
    promoted: int = 0
    early: int = 0
    lost: int = 0
    drafts: int = 0
    blocks: int = 0
    starts: int = 0
    rivals: int = 0
    first: int = 0
    peeking: int = 0
    ranks: int = 0
    sequences: int = 0
    gains: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take another tally in."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def share(self, name: str) -> float:
        """A count as a share of campaigns."""
        return float(getattr(self, name)) / self.campaigns

    def selection(self) -> tuple[float, float] | None:
        """Median of published and of corrected gain over the true one, as fractions; None with few promoted."""
        if len(self.gains) < 20:
            return None
        rows = np.asarray(self.gains)
        return (
            math.expm1(float(np.median(rows[:, 0] - rows[:, 2]))),
            math.expm1(float(np.median(rows[:, 1] - rows[:, 2]))),
        )


def campaign(world: World, rng: np.random.Generator) -> tuple[Decision, Lab]:
    """One campaign by the gate, from the first block to its answer."""
    lab = Lab(world, rng)
    trials: list[Trial] = []
    looked, measure = 0, measure_of(lab.plan)
    pairs: list[BlockPair] = []
    while True:
        trials += (new := lab.block())
        cells = {t.arm: (t,) for t in new if t.traffic != "general"}
        pair = pair_block(lab.blocks - 1, cells[NAMES[BASE]], cells[NAMES[TWIN]], cells[NAMES[CAND]], measure)
        pairs += [pair] if pair else []
        # Between two looks the verdict stands, and the rule alone says what to measure: it is what `decide` asks.
        look = lab.rule.look(pairs)
        need = lab.rule.need(pairs)
        if (look.share and look.blocks > looked) or lab.blocks >= BLOCK_LIMIT:
            looked = look.blocks
            if world.aim in NOTHING and _undecided(lab, pairs, look):
                # Asking `decide` at every look as well could only end such a campaign earlier, as a LOSS by a guard.
                if need == "start" and not world.one_start:
                    lab.restart()
                continue
            decision = decide(lab.plan, trials, lab.facts, samples_sha256="-")
            if decision.need == "done" or lab.blocks >= BLOCK_LIMIT:
                return decision, lab
            need = decision.need or need
        if need == "start" and not world.one_start:
            lab.restart()


def _undecided(lab: Lab, pairs: Sequence[BlockPair], look: Look) -> bool:
    """Whether the rule alone would neither end here nor promote."""
    estimate = lab.rule.estimate(pairs[: look.blocks])
    waits = lab.blocks < BLOCK_LIMIT and not look.final
    return waits and estimate is not None and lab.rule.settle(estimate, look).call == "open"


def run(world: World, campaigns: int, seed: int, rivals: int = 0) -> Tally:
    """Judge `campaigns` campaigns of one world by the gate, and the first `rivals` of them by the rules beside it."""
    rng = np.random.default_rng([seed, *world.name.encode()])
    tally = Tally()
    for number in range(campaigns):
        decision, lab = campaign(world, rng)
        pair = decision.pairs[0]
        won = decision.outcome == "WIN" and decision.tier == "verdict"
        tally.campaigns += 1
        tally.promoted += won
        tally.early += won and lab.starts <= 3
        tally.lost += decision.outcome == "LOSS"
        tally.drafts += decision.outcome == "WIN" and not won
        tally.blocks += pair.blocks
        tally.starts += lab.starts
        if won and pair.speedup and pair.corrected:
            tally.gains.append((math.log(pair.speedup.value), math.log(pair.corrected), math.log1p(world.gain)))
        if number < rivals:
            tally.rivals += 1
            tally.first += first_edition(world, rng)
            logs, requests = _blocks(world, rng)
            tally.peeking += peeking_t(logs)
            tally.ranks += mann_whitney(*requests)
            tally.sequences += sequence(logs)
    return tally


def _blocks(world: World, rng: np.random.Generator) -> tuple[Array, tuple[Array, Array]]:
    """24 blocks on eight starts: log cost ratios for rules that look at blocks, times of three blocks for those at requests."""
    lab = Lab(world, rng)
    logs, base, cand = [], [], []
    for number in range(24):
        if number and number % 3 == 0 and not world.one_start:
            lab.restart()
        own = {t.arm: t for t in lab.block() if t.traffic == "own"}
        costs = [
            sum(s.latency_s or 0 for s in own[a].samples) / sum(s.output_tokens or 0 for s in own[a].samples)
            for a in ("standing", "tailored")
        ]
        logs.append(math.log(costs[0] / costs[1]))
        if number < 3:
            base += [s.tpot_s or 0.0 for s in own["standing"].samples]
            cand += [s.tpot_s or 0.0 for s in own["tailored"].samples]
    return np.asarray(logs), (np.asarray(base), np.asarray(cand))


def table(tallies: Sequence[tuple[World, Tally]]) -> str:
    """Markdown, as in docs/gate.md."""
    head = (
        "| campaign | promoted | aim | of them within 3 starts | LOSS | WIN at `draft` only | blocks | starts |"
        " published / corrected gain | first edition | t with peeking | Mann-Whitney | confidence sequence |"
    )
    rows = [head, "|---|---:|---|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|"]
    for world, tally in tallies:
        cells = [world.name, _share(tally.share("promoted")), world.aim, _share(tally.share("early"))]
        cells += [_share(tally.share("lost")), _share(tally.share("drafts"))]
        cells += [f"{tally.share('blocks'):.1f}", f"{tally.share('starts'):.1f}"]
        chosen = tally.selection()
        cells.append(f"{100 * chosen[0]:+.1f} / {100 * chosen[1]:+.1f} %" if chosen else "")
        beside = [getattr(tally, name) for name in ("first", "peeking", "ranks", "sequences")]
        cells += [_share(count / tally.rivals) if tally.rivals else "" for count in beside]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def recorded(path: Path) -> tuple[World, ...]:
    """Worlds whose noise is drawn from recorded A/A campaigns, as they were and with the size that the aims speak of."""
    noise = Recorded.read(path)
    label = f"noise of {path.stem} ({100 * noise.total_sd:.2g} % a block)"
    each = World("", recorded=noise, request=0.0)
    calm = replace(each, recorded=noise.scaled(0.02))
    return (
        replace(each, name=f"A/A, {label}", aim=ONE),
        replace(calm, name=f"A/A, {label}, scaled to 2 %", aim=ONE),
        replace(each, name=f"5 % slower, {label}", gain=-0.05, aim=ONE),
        replace(calm, name=f"5 % slower, {label}, scaled to 2 %", gain=-0.05, aim="0"),
        replace(calm, name=f"5 % faster, {label}, scaled to 2 %", gain=0.05),
        replace(each, name=f"1.5x, {label}", gain=0.5),
        replace(each, name=f"2x, {label}", gain=1.0),
    )


def reached(world: World, tally: Tally) -> bool:
    """Whether a world's aim is met."""
    promoted = tally.share("promoted")
    return {
        "": True,
        "0": promoted == 0,
        ONE: promoted <= 0.01,
        ">= 90 %": promoted >= 0.9,
        ">= 95 % in 3 starts": tally.share("early") >= 0.95,
    }[world.aim]


def spread_out(worlds: Sequence[World], campaigns: int, seed: int, jobs: int, rivals: int) -> list[tuple[World, Tally]]:
    """Every world in turn, its campaigns over several processes; each piece has a seed of its own."""
    pieces = max(1, jobs)
    sizes = [campaigns // pieces + (i < campaigns % pieces) for i in range(pieces)]
    spreads = []
    with ProcessPoolExecutor(pieces) as pool:
        parts = [
            [pool.submit(run, world, size, seed + 1000 * i, rivals // pieces) for i, size in enumerate(sizes)]
            for world in worlds
        ]
        for world, waiting in zip(worlds, parts, strict=True):
            total = Tally()
            for part in waiting:
                total.add(part.result())
            spreads.append((world, total))
            print(table([(world, total)]).splitlines()[-1], file=sys.stderr, flush=True)
    return spreads


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--rivals", type=int, default=300, help="campaigns of a world that are also judged by other rules"
    )
    parser.add_argument("--only", default="", help="rows whose name has this in it; several by ;")
    parser.add_argument("--recorded", nargs="+", type=Path, default=[])
    parser.add_argument("--record", nargs="+", type=Path, metavar=("OUT", "FOLDER"))
    options = parser.parse_args(arguments)
    if options.record:
        record(options.record[1:], options.record[0])
        return 0
    worlds = [world for path in options.recorded for world in recorded(path)] or [*A_A, *TRUE]
    for path in options.recorded:
        print(f"{path.stem}: {Recorded.read(path).describe()}\n")
    chosen = [world for world in worlds if any(part in world.name for part in options.only.split(";"))]
    tallies = spread_out(chosen, options.campaigns, options.seed, options.jobs, options.rivals)
    print(table(tallies))
    missed = [world.name for world, tally in tallies if not reached(world, tally)]
    print("\n" + (f"aims missed: {', '.join(missed)}" if missed else "every aim is reached"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
