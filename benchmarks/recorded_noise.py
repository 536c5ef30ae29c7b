"""The noise of real A/A campaigns: taken from their raw trials, and drawn again for simulated ones.

File: {"campaigns": [{"name", "context", "set_aside", "pairs": [{"block", "log_ratio", "starts"}], "levels": [...]}]}.
A pair is two trials of equal arms in one block: the baseline and its own twin on one server (one start), or two servers
of the same command (two starts). `levels`: log of the baseline's median TPOT in seconds, in block order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from draftsmith.contract.measure import Arm, ComparisonPlan, Trial
from draftsmith.kit.files import read_json, read_lines, write_json
from draftsmith.verdict.estimate import by_prompt, cells, tpot, tpot_logs
from draftsmith.verdict.first.floor import aa_logs
from draftsmith.verdict.first.sequential import BlockLog, start_groups
from draftsmith.verdict.validate import valid_trials

Array = npt.NDArray[np.float64]
PLANS = ("plan-frozen.json", "plan.json")


@dataclass(frozen=True)
class Recorded:
    """What equal servers showed. Log ratios: `residuals` within starts, one run of blocks after another, and `jumps`
    between two starts. `steps`: log change of the machine's level from block to block.

    A jump is the mean of the blocks on one pair of starts, so some noise between blocks is in it too.
    """

    residuals: tuple[tuple[float, ...], ...]
    jumps: tuple[float, ...]
    steps: tuple[float, ...]

    @classmethod
    def read(cls, path: Path) -> Recorded:
        """From a file of recorded campaigns."""
        runs: list[tuple[float, ...]] = []
        jumps: list[float] = []
        steps: list[float] = []
        for campaign in json.loads(path.read_text())["campaigns"]:
            pairs = [BlockLog(p["block"], p["log_ratio"], tuple(p["starts"])) for p in campaign["pairs"]]
            runs.append(tuple(pair.value for pair in pairs if len(pair.starts) == 1))
            for group in start_groups([pair for pair in pairs if len(pair.starts) > 1]):
                mean, size = sum(group) / len(group), len(group)
                jumps.append(mean)
                if size > 1:  # deviations from a group's own mean are too small by this factor
                    runs.append(tuple((value - mean) * math.sqrt(size / (size - 1)) for value in group))
            steps += np.diff(campaign["levels"]).tolist()
        if not any(runs):
            raise SystemExit(
                f"{path.name}: no two trials of equal arms on one pair of servers; give servers more blocks"
            )
        return cls(tuple(run for run in runs if run), tuple(jumps), tuple(steps))

    @property
    def block_sd(self) -> float:
        """Between blocks, of one pair of servers. The true mean is zero, and so it is taken about zero."""
        return _rms([value for run in self.residuals for value in run])

    @property
    def start_sd(self) -> float:
        """Between starts; 0 if every pair shared one server."""
        return _rms(self.jumps)

    @property
    def total_sd(self) -> float:
        """Of one block on servers of its own."""
        return math.hypot(self.block_sd, self.start_sd)

    def scaled(self, total_sd: float) -> Recorded:
        """The same shape with another size."""
        factor = total_sd / self.total_sd
        return Recorded(
            tuple(tuple(value * factor for value in run) for run in self.residuals),
            tuple(value * factor for value in self.jumps),
            self.steps,
        )

    def draw_blocks(self, rng: np.random.Generator, blocks: int) -> Array:
        """Log ratios of consecutive blocks: pieces of recorded runs, so that neighbours stay neighbours, sign random."""
        drawn: list[float] = []
        while len(drawn) < blocks:
            run = self.residuals[rng.integers(len(self.residuals))]
            piece = run[rng.integers(len(run)) :]
            sign = rng.choice((-1.0, 1.0))
            drawn += [sign * value for value in piece]
        return np.asarray(drawn[:blocks])

    def draw_starts(self, rng: np.random.Generator, starts: int) -> Array:
        """Log ratios between pairs of starts, sign random: which of two equal servers came first means nothing."""
        if not self.jumps:
            return np.zeros(starts)
        return np.asarray(rng.choice(self.jumps, starts) * rng.choice((-1.0, 1.0), starts))

    def draw_levels(self, rng: np.random.Generator, blocks: int) -> Array:
        """How the machine drifts under both arms: recorded steps, added up."""
        return np.cumsum(rng.choice(self.steps or (0.0,), blocks) * rng.choice((-1.0, 1.0), blocks))

    def describe(self) -> str:
        """The figures of the page, in one sentence. Log ratios, in per cent."""
        values = [value for run in self.residuals for value in run]
        kurtosis = float(np.mean(np.square(np.square(values)))) / self.block_sd**4 if self.block_sd else math.nan
        return (
            f"recorded: {len(values)} log ratios on the same servers, sd {_percent(self.block_sd)}, largest "
            f"{_percent(max(map(abs, values)))}, kurtosis {kurtosis:.1f} (3 = normal); pairs of starts: {len(self.jumps)}, "
            f"sd {_percent(self.start_sd)}; level from block to block: sd {_percent(_rms(self.steps))}"
        )


def record(folders: Sequence[Path], out: Path) -> None:
    """Write the A/A pairs of measured campaigns, each a folder with plan and samples.jsonl. No text, no machine's name."""
    write_json(out, {"campaigns": [_campaign(folder) for folder in folders]})


def _campaign(folder: Path) -> dict[str, Any]:
    plan = ComparisonPlan.model_validate(read_json(next(folder / n for n in PLANS if (folder / n).exists())))
    trials = [Trial.model_validate_json(line) for line in read_lines(folder / "samples.jsonl")]
    good, notes = valid_trials(plan, trials)
    point = next((p for p in plan.points if p.primary), plan.points[0])
    own = cells(good, point.name, "own")
    base = next(arm for arm in plan.arms if arm.name == plan.baseline)
    logs = aa_logs(plan, good, point.name)
    for twin in _equal(base, plan.arms):
        logs += tpot_logs(own.get(base.name, {}), own.get(twin.name, {}))
    names: dict[str, str] = {}
    pairs = [
        {
            "block": log.block,
            "log_ratio": round(log.value, 6),
            "starts": [names.setdefault(s, f"{folder.name}/{len(names)}") for s in log.starts],
        }
        for log in logs
    ]
    medians = [np.median(list(by_prompt(cell, tpot).values())) for _, cell in sorted(own[base.name].items())]
    context = {
        "concurrency": point.concurrency,
        "max_tokens": point.max_tokens,
        "prompts": plan.n_prompts,
        "versions": {name: plan.versions[name] for name in sorted(plan.versions)},
    }
    return {
        "name": folder.name,
        "context": context,
        "set_aside": len(notes),
        "pairs": pairs,
        "levels": [round(math.log(value), 6) for value in medians],
    }


def _equal(base: Arm, arms: Sequence[Arm]) -> Iterator[Arm]:
    """Arms that run the same command as the baseline."""
    ignored = {"name", "role"}
    for arm in arms:
        if arm.name != base.name and arm.model_dump(exclude=ignored) == base.model_dump(exclude=ignored):
            yield arm


def _rms(numbers: Sequence[float]) -> float:
    return math.sqrt(sum(value * value for value in numbers) / len(numbers)) if numbers else 0.0


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
