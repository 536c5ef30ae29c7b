"""What a comparison fixes once and keeps: its prompts, when they are sent, and how they are sampled."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.base import canonical
from draftsmith.contract.compare_config import CompareConfig
from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError
from draftsmith.contract.jobs import ComparePlan
from draftsmith.contract.measure import Arm, OperatingPoint
from draftsmith.corpus.prompts import (
    Prompt,
    PromptSet,
    general_prompts,
    heldout_prompts,
    read_prompts,
    tuning_prompts,
    write_prompts,
)
from draftsmith.corpus.redaction import Redactor
from draftsmith.engines.earlier_answers import earlier_answers
from draftsmith.kit.files import read_json, sha256_file, write_json
from draftsmith.traffic.importers import read_records
from draftsmith.trainers.lint_files import weights_sha256
from draftsmith.trainers.weights import weight_files
from draftsmith.work.job import Job

GENERAL_TOKENS = 32
ARRIVALS = "arrivals.json"
NUMERIC = (
    "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "length_penalty", "seed", "min_tokens",
)  # fmt: skip


def pin_prompts(job: Job[ComparePlan]) -> dict[str, PromptSet]:
    """The prompts of this comparison, chosen once and kept: held out, for tuning, and of general traffic.

    They come from the corpus, or from the files that the plan names. Private: they hold text.
    """
    plan, config = job.plan, job.plan.config
    settings = config.compare
    pinned: dict[str, PromptSet] = {}
    for kind in ("own", "tuning", "general"):
        path = job.workdir / f"prompts-{kind}.jsonl"
        if path.exists():
            pinned[kind] = read_prompts(path) if path.stat().st_size else PromptSet(prompts=(), sha256="")
            continue
        if named := plan.prompts.get(kind):
            pinned[kind] = read_prompts(Path(named))
        elif kind == "general" and settings.general_prompts:
            pinned[kind] = _general(config)
        elif kind != "general" and plan.corpus is not None:
            choose = heldout_prompts if kind == "own" else tuning_prompts
            count = pool(settings) if kind == "own" else settings.tuning_prompts
            pinned[kind] = choose(Path(plan.corpus), count, config.corpus.seed, max_tokens=settings.max_tokens)
        else:
            pinned[kind] = PromptSet(prompts=(), sha256="")
        write_prompts(path, pinned[kind])
    if not pinned["own"].prompts:
        raise InputError("there are no prompts to compare on", "give a prompts file or a corpus with held-out rows")
    return pinned


def _general(config: Config) -> PromptSet:
    """Prompts of the configured log, redacted if redaction is on; without a log, the built-in ones."""
    settings = config.compare
    log: Iterable[AccessRecord] | None = read_records([settings.general_log]) if settings.general_log else None
    if log is not None and config.corpus.redact:
        redactor = Redactor()
        log = [redactor.prompt(record)[0] for record in log]
    return general_prompts(log, settings.general_prompts, config.corpus.seed, max_tokens=GENERAL_TOKENS)


def pool(settings: CompareConfig) -> int:
    """How many held-out prompts there are use for: as many as the preset number of blocks could ask."""
    return settings.prompts * max(settings.blocks, settings.thresholds.max_blocks)


def pin_points(job: Job[ComparePlan], prompts: int) -> list[OperatingPoint]:
    """The operating points of the plan, with the times at which a block's `prompts` are sent in an open loop.

    The one that replays the log's arrivals gets them here, once. One with a rate gets random intervals, of the seed.
    """
    config, recorded = job.plan.config, job.plan.arrivals
    points = [_at_rate(point, prompts, config.corpus.seed) for point in job.plan.points]
    require_points(config.compare.deciding, points)
    if recorded is None:
        return [_first_times(point, prompts) for point in points]
    path = job.workdir / ARRIVALS
    if not path.exists():
        times = (record.timing.start_unix_s for record in read_records(recorded.sources) if record.timing)
        write_json(path, typical_window(times, prompts, recorded.speed))
    times_s = tuple(read_json(path))
    if len(times_s) != prompts:
        raise InputError(
            f"{ARRIVALS} holds {len(times_s)} times for {prompts} prompts",
            "remove the comparison's folder and run again",
        )
    return [p.model_copy(update={"arrivals_s": times_s}) if p.name == recorded.point else p for p in points]


def require_points(deciding: Iterable[str], points: Sequence[OperatingPoint]) -> None:
    """Raise InputError if a point that shall decide is not compared."""
    names = [point.name for point in points]
    strangers = [name for name in deciding if name not in (*names, "all")]
    if strangers:
        raise InputError(
            f"compare.deciding names no operating point: {', '.join(strangers)}", f"name some of {', '.join(names)}"
        )


def _first_times(point: OperatingPoint, prompts: int) -> OperatingPoint:
    """Of arrivals that were given for more prompts than a block has, its own."""
    return point.model_copy(update={"arrivals_s": point.arrivals_s[:prompts]}) if point.arrivals_s else point


def _at_rate(point: OperatingPoint, prompts: int, seed: int) -> OperatingPoint:
    """Requests that come at random do not come evenly: exponential intervals, the same in every block."""
    if point.rate_per_s is None or point.arrivals_s:
        return point
    chance = random.Random(f"{seed}/{point.name}")  # noqa: S311 - no secret hangs on it
    times = itertools.accumulate(chance.expovariate(point.rate_per_s) for _ in range(prompts - 1))
    return point.model_copy(update={"arrivals_s": (0.0, *(round(time, 4) for time in times))})


def typical_window(times: Iterable[float], count: int, speed: float = 1.0) -> list[float]:
    """`count` consecutive arrivals of the log, in seconds from the first: of all such windows the one of median length.

    `speed` 2 sends them twice as fast. Raises InputError if the log has fewer arrivals, or all at one moment.
    """
    import numpy as np

    ordered = np.sort(np.fromiter((time for time in times if time > 0), dtype=np.float64))
    if len(ordered) < count or ordered[-1] == ordered[0]:
        raise InputError(
            f"recorded arrivals need {count} requests with their start times, the log has {len(ordered)}"
            + (" at one moment" if len(ordered) >= count else ""),
            'set compare.arrivals = "closed", or give a log with start times',
        )
    spans = ordered[count - 1 :] - ordered[: len(ordered) - count + 1]
    first = int(np.argsort(spans, kind="stable")[len(spans) // 2])
    window = (ordered[first : first + count] - ordered[first]) / speed
    return [round(float(time), 4) for time in window]


def sampling_seen(prompts: Sequence[Prompt], point: OperatingPoint) -> dict[str, dict[str, int]]:
    """Numeric sampling parameters that the requests carry, for the record: name -> value -> prompts. Never text."""
    table: dict[str, dict[str, int]] = {}
    for prompt in prompts:
        for name, value in (prompt.params | point.sampling).items():
            if name in NUMERIC and isinstance(value, int | float):
                row = table.setdefault(name, {})
                row[f"{value:g}"] = row.get(f"{value:g}", 0) + 1
    return {name: dict(sorted(row.items(), key=lambda item: -item[1])[:12]) for name, row in sorted(table.items())}


def set_aside(prompts: Sequence[Prompt], count: int) -> tuple[tuple[Prompt, ...], tuple[Prompt, ...]]:
    """(prompts that decide, prompts for choices): the last `count`, at most a third, never decide."""
    aside = min(count, len(prompts) // 3)
    return tuple(itertools.islice(prompts, len(prompts) - aside)), tuple(prompts[len(prompts) - aside :])


def require_apart(arms: Iterable[Arm], prompts: Iterable[Prompt]) -> None:
    """Raise InputError for an arm that drafts from the answers to the very prompts that it is compared on.

    Seen where the corpus holds its prompts too, as an access log does; answers alone do not show what they answer.
    """
    canonical_prompts = {canonical(prompt.messages) for prompt in prompts if prompt.messages}
    for arm in arms:
        corpus = arm.speculation.corpus if arm.speculation else None
        same = len(canonical_prompts & earlier_answers(Path(corpus)).asked) if corpus else 0
        if same:
            raise InputError(
                f"the corpus of arm {arm.name} holds {same} of the compared prompts with their answers: it would draft from memory",
                "leave those records out of the corpus, or compare on other prompts",
            )


def with_weights(arm: Arm) -> Arm:
    """The arm with the identity of its draft's weights, where they lie here: other weights under its path are another arm.

    A corpus of earlier answers counts as its draft.
    """
    corpus = Path((arm.speculation.corpus if arm.speculation else None) or "-")
    if arm.draft_sha256 is None and corpus.is_file():
        return arm.model_copy(update={"draft_sha256": sha256_file(corpus)})
    model = Path((arm.speculation.draft if arm.speculation else None) or "-")
    if arm.draft_sha256 is not None or not model.is_dir() or not weight_files(model):
        return arm
    return arm.model_copy(update={"draft_sha256": weights_sha256(model)})
