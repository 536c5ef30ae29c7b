"""Which readings of the GPU belong to which arm: those whose whole time of averaging lies inside one of its trials. Pure."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Iterable, Sequence

from draftsmith.contract.counters import FIELDS, Counted, GpuCounters, GpuSample, Source
from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import Trial
from draftsmith.verdict.samples import bundle_digest

ENOUGH = 5  # readings of an arm at a point, for its mean to stand beside its times
IDLE = 0.01  # a GPU that never worked more than this share was another's


def correlate(
    trials: Sequence[Trial], samples: Iterable[GpuSample], source: Source, host: str | None = None
) -> GpuCounters:
    """The counters of each arm at each point.

    `host`: whose readings count; None = those of the trials' nodes, where the readings name a host. Clocks of the two machines
    must agree. Raises InputError where the readings are another machine's, or of another time.
    """
    own = [trial for trial in trials if trial.traffic == "own" and trial.invalid is None]
    if not own:
        raise InputError("there is no usable trial to set counters beside", "compare first")
    kept = _of_hosts(list(samples), {trial.node for trial in own}, host)
    start = min(trial.started_unix_s for trial in own)
    end = max(trial.started_unix_s + trial.wall_s for trial in own)
    during = [reading for reading in kept if start <= reading.at_unix_s <= end]
    if not during:
        raise InputError(
            "no reading lies in the time of these trials",
            "keep readings while the comparison runs, with both clocks right",
        )
    every = _spacing(during)
    inside = _inside(own, during, every)
    busy = {(reading.host, reading.gpu) for readings in inside.values() for reading in readings if reading.value > IDLE}
    rows = []
    for arm, point in dict.fromkeys((trial.arm, trial.point) for trial in own):
        own_trials = [trial for trial in own if (trial.arm, trial.point) == (arm, point)]
        readings = [
            reading for trial in own_trials for reading in inside[trial.trial_id] if (reading.host, reading.gpu) in busy
        ]
        means = {
            name: statistics.fmean(values)
            if (values := [reading.value for reading in readings if reading.counter == name])
            else None
            for name in FIELDS.values()
        }
        rows.append(
            Counted(
                arm=arm,
                point=point,
                samples=len({reading.at_unix_s for reading in readings if reading.counter == "dram_active"}),
                trials=sum(
                    any((reading.host, reading.gpu) in busy for reading in inside[trial.trial_id])
                    for trial in own_trials
                ),
                of=len(own_trials),
                **means,
            )
        )
    lacking = _lacking(rows, every)
    return GpuCounters(
        source=source,
        samples_sha256=bundle_digest(list(trials)),
        gpus=len(busy),
        hosts=tuple(sorted({reading.host for reading in during if reading.host})),
        every_s=round(every, 3),
        rows=tuple(rows),
        complete=not lacking,
        lacking=lacking,
    )


def _of_hosts(samples: list[GpuSample], nodes: set[str], host: str | None) -> list[GpuSample]:
    if host is not None:
        of_host = [sample for sample in samples if sample.host == host]
    else:
        of_host = [sample for sample in samples if not sample.host or sample.host in nodes]
    if samples and not of_host:
        seen = ", ".join(sorted({sample.host for sample in samples})[:5])
        raise InputError(
            f"these readings are of {seen}, the trials ran on {', '.join(sorted(nodes))}",
            "give the readings of that machine, or say with --host which of them it is",
        )
    return of_host


def _spacing(samples: list[GpuSample]) -> float:
    """Seconds between two readings of one counter: the time over which the exporter averages."""
    series: dict[tuple[str, str, str], list[float]] = {}
    for sample in samples:
        series.setdefault((sample.host, sample.gpu, sample.counter), []).append(sample.at_unix_s)
    steps = [
        b - a for times in series.values() for a, b in zip(sorted(times), sorted(times)[1:], strict=False) if b > a
    ]
    return statistics.median(steps) if steps else 0.0


def _inside(trials: Sequence[Trial], samples: list[GpuSample], every_s: float) -> dict[str, list[GpuSample]]:
    """By trial: readings that tell of nothing but it."""
    ordered = sorted(samples)
    times = [reading.at_unix_s for reading in ordered]
    return {
        trial.trial_id: ordered[
            bisect.bisect_left(times, trial.started_unix_s + every_s) : bisect.bisect_right(
                times, trial.started_unix_s + trial.wall_s
            )
        ]
        for trial in trials
    }


def _lacking(rows: Sequence[Counted], every_s: float) -> tuple[str, ...]:
    few = [f"{row.arm} at {row.point} has {row.samples} readings of its own" for row in rows if row.samples < ENOUGH]
    if not few:
        return ()
    return (
        *few,
        f"at least {ENOUGH} are needed; readings come every {every_s:.3g} s: let the exporter collect every second",
    )
