"""The workload profile: one pass over the traffic, aggregates out."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from draftsmith import __version__
from draftsmith.contract.base import digest
from draftsmith.contract.errors import InputError
from draftsmith.contract.profile import (
    ClassProfile,
    ExpectedAcceptance,
    LoadSlice,
    Skipped,
    Source,
    WorkloadProfile,
)
from draftsmith.profiling import lengths as dist
from draftsmith.profiling import observe
from draftsmith.profiling import parameters as asked
from draftsmith.profiling.acceptance import expected
from draftsmith.profiling.gather import Gathered
from draftsmith.profiling.observe import Sampling
from draftsmith.profiling.recommend import Evidence, has_mtp, recommend
from draftsmith.profiling.scan import Job, OnProgress, Skips, scan
from draftsmith.profiling.shapes import parse_shapes, representative, shapes_profile
from draftsmith.traffic.classes import CLASSES
from draftsmith.traffic.importers import no_usable_record
from draftsmith.traffic.importers.stream import OpenFile, open_files
from draftsmith.traffic.tokens import load_counter

EXACT_UP_TO = 64 << 20
"""Logs up to this many bytes are tokenised exactly by default."""
COUNT_SAMPLE, IDS_SAMPLE = 20_000, 2_500

Counts = Literal["exact", "estimated", "usage", "shapes"]


def build_profile(
    sources: Sequence[str],
    *,
    tokenizer: Path | None = None,
    format: str | None = None,
    exact: bool | None = None,
    aa_shapes: str | None = None,
    limit: int | None = None,
    rejects: Path | None = None,
    on_progress: OnProgress | None = None,
    target_config: dict[str, Any] | None = None,
    workers: int | None = None,
    rename: Callable[[str], str] | None = None,
) -> WorkloadProfile:
    """Profile the traffic in `sources` (see importers), or, with `aa_shapes`, the named bench shapes.

    `exact` True counts every token, False estimates large logs from a sample, None decides by size. `rejects` names a file
    for lines that could not be used. `rename` gives routes the names that are shown. Large logs are read by several processes
    (`workers`), which are spawned: a script that calls this needs a main guard. Raises InputError if nothing usable is there,
    or the tokenizer is missing or foreign.
    """
    if aa_shapes is not None:
        return sealed(shapes_profile(parse_shapes(aa_shapes), target_config))
    counter = load_counter(tokenizer) if tokenizer else None
    files = open_files(sources, format)
    sampling = _sampling(files, exact)
    skips = Skips()
    gathered = Gathered(
        on_skip=lambda reason, file, line, raw: skips(reason, f"{files[file].file.name}:{line}", raw),
        can_guess=counter is not None and not sampling.exact,
    )
    job = Job(tokenizer, sampling, keep_raw=rejects is not None, format=format)
    with _aside(rejects) as aside:
        skips.aside = aside
        provenance = scan(files, job, gathered, skips, limit=limit, workers=workers, on_progress=on_progress)
    if counter is not None:
        gathered.ids.judge(counter.vocab_size)
    if not gathered.n:
        raise no_usable_record(
            dict(skips.reasons), next((file.reader.strange for file in files if file.reader.strange), ())
        )
    _require_counts(gathered, counter is not None)
    profile = _assemble(gathered, skips, provenance, counter.name if counter else None, target_config)
    return sealed(_renamed(profile, rename or (lambda name: name)))


_PERSON = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")


def _renamed(workload_profile: WorkloadProfile, rename: Callable[[str], str]) -> WorkloadProfile:
    """The profile with the names that are shown. An address of a person is never shown: gateways name routes by them."""

    def shown(name: str) -> str:
        if _PERSON.search(name):
            name = f"name-{hashlib.blake2b(name.encode('utf-8', 'replace'), digest_size=6).hexdigest()}"
        return rename(name)

    def counted(names: dict[str, int]) -> dict[str, int]:
        made: Tally[str] = Tally()
        for name, times in names.items():
            made[shown(name)] += times
        return dict(made)

    routes = tuple(route.model_copy(update={"name": shown(route.name)}) for route in workload_profile.routes)
    return workload_profile.model_copy(
        update={
            "routes": routes,
            "models": counted(workload_profile.models),
            "adapters": counted(workload_profile.adapters),
        }
    )


def sealed(profile: WorkloadProfile) -> WorkloadProfile:
    """The profile with its own hash, which is over everything else but the time it was made."""
    body = profile.model_dump(mode="json", by_alias=True, exclude={"sha256", "created_unix_s"})
    return profile.model_copy(update={"sha256": digest(body)})


def _aside(path: Path | None) -> Any:
    import os
    from contextlib import nullcontext

    if path is None:
        return nullcontext(None)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _sampling(files: Sequence[OpenFile], exact: bool | None) -> Sampling:
    """How much to look at, from the size of the sources (compressed text is about five times larger inside)."""
    size = sum((file.file.size or 0) * (5 if file.file.compression else 1) for file in files)
    unknown = any(file.file.size is None for file in files)
    all_exact = exact if exact is not None else (size <= EXACT_UP_TO and not unknown)
    if unknown:
        return Sampling(exact=all_exact, count_share=0.1, ids_share=0.02)
    guessed = max(1.0, size / 2500)
    return Sampling(
        exact=all_exact, count_share=min(1.0, COUNT_SAMPLE / guessed), ids_share=min(1.0, IDS_SAMPLE / guessed)
    )


def _require_counts(gathered: Gathered, has_tokenizer: bool) -> None:
    counted = any(gathered.sources[f"{name}_{kind}"] for name in ("usage", "ids") for kind in ("in", "out"))
    if not has_tokenizer and not counted:
        raise InputError(
            "the traffic has text but no token counts, and no tokenizer was given",
            "give --tokenizer the served model's folder or tokenizer.json",
        )


def _assemble(
    gathered: Gathered,
    skips: Skips,
    provenance: tuple[Source, ...],
    tokenizer: str | None,
    target: dict[str, Any] | None,
) -> WorkloadProfile:
    histograms = _Histograms(gathered)
    replay = expected(gathered.samples, gathered.routes)
    overall = replay.overall
    classes = _classes(gathered, histograms, replay.by_class)
    n, flags = gathered.n, gathered.flags
    text = flags[observe.TEXT]
    times = gathered.clock.summary()
    shapes = representative(histograms.joint(), times["concurrency_mean"])
    evidence = Evidence.of(gathered, overall, replay.by_class, histograms.all("out"), times, has_mtp(target))
    return WorkloadProfile(
        n_requests=n,
        skipped=tuple(
            Skipped(reason=reason, count=count, lines=tuple(skips.places[reason]))
            for reason, count in skips.reasons.most_common()
        ),
        tokenizer=tokenizer if gathered.sources["counted_in"] or gathered.sources["counted_out"] else None,
        token_counts=_how(gathered),
        input_tokens=dist.distribution(*histograms.all("in")),
        output_tokens=dist.distribution(*histograms.all("out")),
        content_class_mix={group.name: group.share for group in classes},
        classes=classes,
        routes=_routes(gathered, replay.by_route),
        models=dict(gathered.models.most_common()),
        adapters=dict(gathered.adapters.most_common()),
        media={kind: times for kind, times in gathered.media.most_common() if times},
        isl_buckets=dist.buckets(*histograms.all("in")),
        osl_buckets=dist.buckets(*histograms.all("out")),
        bench_shapes=shapes,
        sampling_parameters=_parameters(gathered),
        rejected_by_speculation=asked.refused(gathered.parameters),
        **times,
        load_over_time=_load(gathered),
        multi_turn_share=gathered.continued / n if text else None,
        prefix_reuse_share=_reuse(gathered),
        tool_share=flags[observe.TOOL] / n if text else None,
        structured_output_share=flags[observe.STRUCTURED] / n if gathered.parameters or text else None,
        languages=_shares(gathered.languages),
        repetition_loop_share=flags[observe.LOOP] / flags[observe.ANSWER] if flags[observe.ANSWER] else None,
        token_histogram=gathered.fingerprint.table(),
        expected_acceptance=overall,
        recommended_spec_decode=recommend(evidence),
        not_available=_not_available(gathered, times, overall),
        provenance=provenance,
        created_unix_s=time.time(),
        draftsmith_version=__version__,
    )


class _Histograms:
    """Length histograms by kind and class, computed once."""

    def __init__(self, gathered: Gathered) -> None:
        self._parts: dict[tuple[str, int], Any] = {}
        for kind in ("in", "out"):
            everything = [pair for (k, _), value in gathered.lengths.items() if k == kind for pair in value.pairs]
            for (k, code), lengths in gathered.lengths.items():
                if k == kind:
                    enough = sum(map(len, lengths.pairs)) >= 20
                    self._parts[k, code] = lengths.histogram(None if enough else everything)
        self._gathered = gathered

    def of(self, kind: str, code: int) -> Any:
        """Values and weights of one class."""
        return self._parts.get((kind, code), dist.merged([]))

    def all(self, kind: str) -> Any:
        """Values and weights of the whole traffic."""
        return dist.merged([part for (k, _), part in self._parts.items() if k == kind])

    def joint(self) -> list[tuple[str, int, Any, Any]]:
        """(class, requests, input histogram, output histogram) of every class that has both."""
        return [
            (CLASSES[code], count, self.of("in", code), self.of("out", code))
            for code, count in self._gathered.classes.most_common()
        ]


def _classes(
    gathered: Gathered, histograms: _Histograms, acceptance: dict[str, tuple[ExpectedAcceptance, ...]]
) -> tuple[ClassProfile, ...]:
    return tuple(
        ClassProfile(
            name=CLASSES[code],
            share=count / gathered.n,
            n_requests=count,
            input_tokens=dist.distribution(*histograms.of("in", code)),
            output_tokens=dist.distribution(*histograms.of("out", code)),
            expected_acceptance=acceptance.get(CLASSES[code], ()),
        )
        for code, count in gathered.classes.most_common()
    )


def _routes(gathered: Gathered, acceptance: dict[str, tuple[ExpectedAcceptance, ...]]) -> tuple[ClassProfile, ...]:
    pooled_pairs = {
        kind: [pair for (k, _), lengths in gathered.lengths.items() if k == kind for pair in lengths.pairs]
        for kind in ("in", "out")
    }
    routes = []
    for name, table in gathered.routes.items():
        spread = {
            kind: dist.distribution(*table[kind].histogram(None if table[kind].pairs else pooled_pairs[kind]))
            for kind in ("in", "out")
        }
        count = max(spread["in"].count, spread["out"].count)
        routes.append(
            ClassProfile(
                name=name,
                share=count / gathered.n,
                n_requests=count,
                input_tokens=spread["in"],
                output_tokens=spread["out"],
                expected_acceptance=acceptance.get(name, ()),
            )
        )
    return tuple(sorted(routes, key=lambda route: -route.n_requests))


def _load(gathered: Gathered) -> tuple[LoadSlice, ...]:
    return tuple(
        LoadSlice(
            start_unix_s=start,
            seconds=length,
            requests_per_s=round(rate, 6),
            concurrency=None if at_once is None else round(at_once, 4),
        )
        for start, length, rate, at_once in gathered.clock.slices()
    )


def _how(gathered: Gathered) -> Counts:
    made = gathered.sources
    if made["guessed_in"] or made["guessed_out"]:
        return "estimated"
    usage = made["usage_in"] + made["usage_out"]
    other = made["ids_in"] + made["ids_out"] + made["counted_in"] + made["counted_out"]
    return "usage" if usage > other else "exact"


def _parameters(gathered: Gathered) -> dict[str, dict[str, int]]:
    """Parameter -> value -> requests; rare values of continuous parameters pooled."""
    table: dict[str, dict[str, int]] = {}
    for (key, value), times in gathered.parameters.most_common():
        values = table.setdefault(key, {})
        if len(values) >= 12 and value not in values:
            value = "(others)"
        values[value] = values.get(value, 0) + times
    return dict(sorted(table.items()))


def _reuse(gathered: Gathered) -> float | None:
    """Share of prompt tokens a prefix cache would hold: the engine's own count if it is in the log, else by replay."""
    cached, total = gathered.cached
    if total and cached:
        return cached / total
    return gathered.reused / gathered.prefixed if gathered.prefixed else None


def _shares(counts: Any) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in counts.most_common()} if total else {}


def _not_available(
    gathered: Gathered, times: dict[str, float | None], overall: Sequence[ExpectedAcceptance]
) -> tuple[str, ...]:
    """What the source could not give."""
    flags, made = gathered.flags, gathered.sources
    missing = {
        "prompt text": not flags[observe.TEXT],
        "answer text": not flags[observe.ANSWER],
        "token ids": not flags[observe.IDS],
        "input lengths": not any(made[f"{name}_in"] for name in ("usage", "ids", "counted", "guessed")),
        "output lengths": not any(made[f"{name}_out"] for name in ("usage", "ids", "counted", "guessed")),
        "parameters": not gathered.parameters,
        "arrivals": times["arrival_rate_per_s"] is None,
        "latency and concurrency": times["concurrency_mean"] is None,
        "expected acceptance (needs prompts and answers with token ids or a tokenizer)": not overall,
    }
    return tuple(name for name, absent in missing.items() if absent)
