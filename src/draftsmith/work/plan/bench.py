"""Measuring what a step costs: a plain server stays up, one speculating server after another comes beside it.

Each speculating server and the plain one take the same prompts in turn, so that the drift of the machine cancels in their
ratio. Every finished pair is two lines of trials.jsonl and is never measured again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import Field

from draftsmith import wiring
from draftsmith.contract.base import Frozen, canonical
from draftsmith.contract.config import Config
from draftsmith.contract.errors import EngineError
from draftsmith.contract.jobs import ForecastPlan
from draftsmith.contract.measure import EngineFacts, OperatingPoint, Trial
from draftsmith.contract.plan import StepSample
from draftsmith.contract.profile import BenchShape
from draftsmith.engines.base import Server, ServerSpec
from draftsmith.kit.files import append_line, read_json, read_lines, write_atomic, write_json
from draftsmith.work.compare.fleet import Fleet
from draftsmith.work.compare.trial import Endpoint, Slot, measure
from draftsmith.work.job import Job
from draftsmith.work.plan.prompts import plan_prompts
from draftsmith.work.servers import one, serving

PLAIN = "no-spec"
WARM_TOKENS = 16
START_CREDIT_CAP = 0.9  # credit of a start that is under way: never more than this share of what it is expected to take


class MeasuredArm(Frozen):
    """One speculating server of a plan. `spec_config` names the draft's folder."""

    name: str
    method: str = Field(description="draft or ngram")
    k: int
    spec_config: dict[str, Any]
    asked_al: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Effort:
    """What is still to be done, in seconds, before it is begun. Starts include the plain server's."""

    starts: int
    trials: int
    seconds: float


class Progress:
    """Tells a job's progress as one whole, in expected seconds, whatever stage the parts name."""

    def __init__(self, job: Job[ForecastPlan], effort: Effort) -> None:
        self.job, self.total = job, effort.seconds
        self.done, self.credit = 0.0, 0.0
        self.began = time.monotonic()
        self.workdir, self.plan = job.workdir, job.plan

    def progress(self, stage: str, done: float = 0, total: float | None = None, unit: str = "", note: str = "") -> None:
        """As Job.progress; the stage becomes part of the note."""
        under_way = min(time.monotonic() - self.began, START_CREDIT_CAP * self.credit)
        text = f"{stage}: {note}" if note else stage
        self.job.progress("measuring step costs", self.done + under_way, self.total, "s of expected work", text)

    def say(self, sentence: str) -> None:
        """See Watched."""
        self.job.say(sentence)

    def begin(self, seconds: float, stage: str) -> None:
        """Begin a part that is expected to take `seconds`."""
        self.credit, self.began = seconds, time.monotonic()
        self.progress(stage)

    def end(self) -> None:
        """It is done."""
        self.done, self.credit = self.done + self.credit, 0.0


class Bench:
    """One measurement, from its design to samples."""

    def __init__(
        self,
        job: Job[ForecastPlan],
        config: Config,
        target: str,
        weight_bytes: int,
        arms: Sequence[MeasuredArm],
        concurrencies: Sequence[int],
        shapes: Sequence[BenchShape],
        *,
        sha256: str,
        repeats: int,
        tokens: int,
        vocab: int,
    ) -> None:
        self.job, self.config, self.target = job, config, target
        self.arms, self.concurrencies, self.repeats, self.sha256 = arms, concurrencies, repeats, sha256
        self.engine = wiring.engine(config, Path(job.plan.registry))
        beside = config.compare.model_copy(update={"resident": "auto"})  # a pair is always two servers together
        together = config.model_copy(update={"compare": beside})
        self.fleet = Fleet(job, together, self.engine, target, weight_bytes)
        self.trials_file, self.facts_file = job.workdir / "trials.jsonl", job.workdir / "facts.json"
        self.prompts = {c: plan_prompts(shapes, c, tokens, vocab, config.engine.max_model_len) for c in concurrencies}
        self.starts_file = job.workdir / "starts.json"
        self.facts: dict[str, EngineFacts] = {}
        self.trials: list[Trial] = []
        self.start_seconds: list[float] = []
        self._resume()

    # -- what is there and what is missing -------------------------------------------------------------------------

    def _resume(self) -> None:
        read = [Trial.model_validate(orjson.loads(line)) for line in read_lines(self.trials_file)]
        self.trials = [t for t in read if t.plan_sha256 == self.sha256 and t.invalid is None]
        if self.facts_file.exists():
            self.facts = {arm: EngineFacts.model_validate(fact) for arm, fact in read_json(self.facts_file).items()}
        if self.starts_file.exists():
            self.start_seconds = list(read_json(self.starts_file))
        lines = (canonical(t.model_dump(mode="json", by_alias=True)) + "\n" for t in self.trials)
        write_atomic(self.trials_file, "".join(lines))  # a torn last line must not swallow the next one

    def missing(self, arm: MeasuredArm) -> list[tuple[int, int]]:
        """(concurrency, repeat) of pairs that are not complete."""
        block = self.arms.index(arm) * self.repeats
        have = {(t.point, t.block, t.arm) for t in self.trials}
        return [
            (c, repeat)
            for c in self.concurrencies
            for repeat in range(self.repeats)
            if not {(f"c{c}", block + repeat, name) for name in (arm.name, PLAIN)} <= have
        ]

    def effort(self, start_s: float, plain_tpot_s: float) -> Effort:
        """What is left to do, by an expected start and plain time per token."""
        arms = [arm for arm in self.arms if self.missing(arm)]
        pairs = [(arm, c) for arm in arms for c, _ in self.missing(arm)]
        seconds = sum(self._pair_s(c, plain_tpot_s) for _, c in pairs)
        starts = len(arms) + bool(arms)
        return Effort(starts=starts, trials=2 * len(pairs), seconds=seconds + starts * start_s)

    def _pair_s(self, concurrency: int, plain_tpot_s: float) -> float:
        tokens = sum(prompt.max_tokens for prompt in self.prompts[concurrency])
        return 2 * tokens / concurrency * plain_tpot_s * (1 + 0.05 * concurrency) + 1.0

    # -- doing it --------------------------------------------------------------------------------------------------

    def run(self, start_s: float, plain_tpot_s: float) -> list[StepSample]:
        """Measure what is missing, and return all samples. Raises EngineStartError or EngineLostError; finished pairs stay."""
        effort = self.effort(start_s, plain_tpot_s)
        whole = Progress(self.job, effort)
        arms = [arm for arm in self.arms if self.missing(arm)]
        if arms and not self.fleet.fits(2):
            raise EngineError(
                "two servers do not fit this machine's memory together, and costs are measured side by side",
                "lower engine.cpu_kv_gib (or engine.gpu_kv_gib), or stop other work",
            )
        if arms:
            with self._up(whole, PLAIN, None, (), start_s) as plain:
                self._warm(whole, PLAIN, plain)
                for arm in arms:
                    with self._up(whole, arm.name, arm.spec_config, arm.flags, start_s) as server:
                        self._warm(whole, arm.name, server)
                        self._pairs(whole, arm, plain, server, plain_tpot_s)
        return samples(self.trials, self.arms, self.repeats)

    @contextmanager
    def _up(
        self, whole: Progress, name: str, spec_config: dict[str, Any] | None, flags: tuple[str, ...], start_s: float
    ) -> Iterator[Endpoint]:
        whole.begin(start_s, f"starting {name}")
        spec: ServerSpec = wiring.server_spec(
            self.config, self.target, spec_config=spec_config, flags=flags, residents=2, cold=True
        )
        with serving(whole, self.engine, {name: spec}, self.config.engine.start_timeout_s) as servers:
            server: Server = one(servers)
            self.start_seconds.append(time.monotonic() - whole.began)
            write_json(self.starts_file, self.start_seconds)
            whole.end()
            self.facts[name] = self.engine.facts(server)
            write_json(self.facts_file, {arm: fact.model_dump(mode="json") for arm, fact in self.facts.items()})
            yield Endpoint(server.url, server.spec.served_name, server.start_id, self.facts[name].kv_tokens)

    def _warm(self, whole: Progress, name: str, endpoint: Endpoint) -> None:
        """Every batch size once, unmeasured: the first one of a size can be slower."""
        for c in self.concurrencies:
            whole.progress("warming up", note=f"{name} at concurrency {c}")
            self._trial(endpoint, c, Slot(self.sha256, 0, 0, name, "tuning"), WARM_TOKENS)

    def _pairs(self, whole: Progress, arm: MeasuredArm, plain: Endpoint, server: Endpoint, plain_tpot_s: float) -> None:
        block = self.arms.index(arm) * self.repeats
        for number, (c, repeat) in enumerate(self.missing(arm)):
            whole.begin(self._pair_s(c, plain_tpot_s), f"{arm.name} at concurrency {c}, repeat {repeat + 1}")
            pair = [(arm.name, server), (PLAIN, plain)]
            if number % 2:
                pair.reverse()
            done = [
                self._trial(endpoint, c, Slot(self.sha256, block + repeat, order, name))
                for order, (name, endpoint) in enumerate(pair)
            ]
            for trial in done:
                usable(trial)
            for trial in done:
                append_line(self.trials_file, canonical(trial.model_dump(mode="json", by_alias=True)))
                self.trials.append(trial)
            whole.end()

    def _trial(self, endpoint: Endpoint, concurrency: int, slot: Slot, tokens: int | None = None) -> Trial:
        point = OperatingPoint(name=f"c{concurrency}", concurrency=concurrency, max_tokens=tokens)
        return measure(self.engine, endpoint, self.prompts[concurrency], point, slot)


def usable(trial: Trial) -> None:
    """Raise EngineError if a trial cannot give the time of a step."""
    errors = sorted({s.error for s in trial.samples if s.error})
    if errors or step_s(trial) is None:
        raise EngineError(
            f"{trial.arm} at {trial.point} gave no time of a step ({', '.join(errors) or 'no decode steps counted'})",
            "see the server's log in servers/, then run again: finished points are kept",
        )


def step_s(trial: Trial) -> float | None:
    """Seconds of one decode step: median TPOT times the tokens that a step gives. A plain step gives one."""
    times = [s.tpot_s for s in trial.samples if s.tpot_s is not None]
    tokens = trial.counters.tokens_per_step or (None if trial.counters.present else 1.0)
    return statistics.median(times) * tokens if times and tokens else None


def samples(trials: Sequence[Trial], arms: Sequence[MeasuredArm], repeats: int) -> list[StepSample]:
    """Pairs of trials as samples, in the order of the arms."""
    by_place = {(t.point, t.block, t.arm): t for t in trials}
    made = []
    for index, arm in enumerate(arms):
        for (point, block, name), trial in sorted(by_place.items()):
            plain = by_place.get((point, block, PLAIN))
            if name != arm.name or plain is None or block // repeats != index:
                continue
            slow, fast = step_s(plain), step_s(trial)
            if slow is None or fast is None:
                continue
            counters = trial.counters
            made.append(
                StepSample(
                    arm=arm.name,
                    method="ngram" if arm.method == "ngram" else "draft",
                    concurrency=int(point[1:]),
                    k=arm.k,
                    repeat=block % repeats,
                    plain_step_s=slow,
                    step_s=fast,
                    tokens_per_step=counters.tokens_per_step or 1.0,
                    draft_rate=min(1.0, counters.drafts / counters.decode_steps) if counters.decode_steps else 1.0,
                    asked_al=arm.asked_al,
                )
            )
    return made
