"""Which spilled rows enter which split, and why the others do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from draftsmith.contract.config import CorpusConfig
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.corpus import dedup, matching, splits
from draftsmith.corpus.rows import Ids, key64
from draftsmith.corpus.spill import Spill, ragged

if TYPE_CHECKING:
    import polars as pl

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Decision:
    """Per spilled row, by its number: the name to keep, its conversation, its split (None = dropped) and its weight."""

    ids: list[str]
    conversations: list[str]
    splits: list[str | None]
    weights: list[float]
    dropped: Counter[str]
    class_weights: dict[str, float]
    length_weights: dict[str, dict[str, float]]


def select(
    spill: Spill,
    config: CorpusConfig,
    *,
    specials: frozenset[int],
    profile: WorkloadProfile | None,
    hard_share: float,
    drawn: int,
    on_progress: Progress,
) -> Decision:
    """Decide over all rows. Those from `drawn` on were mined: they can only train. Raises InputError when there are too few conversations, or a split ends up empty."""
    frame = spill.numbers()
    shares = splits.Shares(config.validation_share, config.heldout_share, config.seed)
    reason: list[str | None] = [None] * len(frame)
    ids = _distinct_ids(frame, reason)
    templates, mark = _learn(spill, frame, specials)
    kept = [place for place, why in enumerate(reason) if why is None]
    names = splits.conversations(_with_token_parents(spill, frame, mark)[kept])
    times = frame["time_s"][kept].to_list()
    own = sum(place < drawn for place in kept)
    split_of = splits.assign(names[:own], times[:own], shares)
    conversation = [""] * len(frame)
    split: list[str | None] = [None] * len(frame)
    for place, name in zip(kept, names, strict=True):
        conversation[place], split[place] = name, split_of.get(name, splits.TRAIN)
        if place >= drawn and split[place] != splits.TRAIN:
            split[place], reason[place] = None, "hard_elsewhere"
    _exact(frame, split, reason)
    _near(spill, split, reason, templates, config.near_duplicate_threshold, on_progress)
    classes = frame["content_class"].to_list()
    mix = profile.content_class_mix if profile else None
    weights = matching.class_weights(
        Counter(c for c, s, w in zip(classes, split, reason, strict=True) if s == splits.TRAIN and not w), mix
    )
    before = _weights(frame, split, reason, profile)
    lengths = _length_weights(frame, split, reason, before, profile) if profile else {}
    _limit(frame, split, reason, config, weights if mix else {}, before, hard_share)
    final = [None if why else name for name, why in zip(split, reason, strict=True)]
    splits.require_all(Counter(name for name in final if name), shares)
    after = _weights(frame, split, reason, profile)
    return Decision(ids, conversation, final, after, Counter(why for why in reason if why), weights, lengths)


def _weights(
    frame: pl.DataFrame, split: list[str | None], reason: list[str | None], profile: WorkloadProfile | None
) -> list[float]:
    """Of every row: what it counts, so that the live training rows have the profile's classes and lengths; 1 for all others."""
    weights = [1.0] * len(split)
    live = [p for p, name in enumerate(split) if name == splits.TRAIN and not reason[p]]
    if profile is None or not live:
        return weights
    classes, prompts, answers = (
        frame[name].gather(live).to_list() for name in ("content_class", "prompt_tokens", "answer_tokens")
    )
    for place, weight in zip(live, matching.row_weights(classes, prompts, answers, profile).tolist(), strict=True):
        weights[place] = round(weight, 6)
    return weights


def _length_weights(
    frame: pl.DataFrame,
    split: list[str | None],
    reason: list[str | None],
    weights: list[float],
    profile: WorkloadProfile,
) -> dict[str, dict[str, float]]:
    """Mean weight of the live training rows of every length bucket of the profile that has any."""
    weights_by_split: dict[str, dict[str, float]] = {}
    sides = (("input", "prompt_tokens", profile.isl_buckets), ("output", "answer_tokens", profile.osl_buckets))
    for side, column, buckets in sides:
        lengths = frame[column].to_list()
        sums: dict[int, list[float]] = {}
        for place, name in enumerate(split):
            live = name == splits.TRAIN and not reason[place]
            at = matching.bucket_of(lengths[place], buckets) if live else None
            if at is not None:
                sums.setdefault(at, []).append(weights[place])
        weights_by_split[side] = {
            f"{buckets[at].low}-{buckets[at].high or ''}": round(sum(total) / len(total), 6)
            for at, total in sorted(sums.items())
        }
    return {side: table for side, table in weights_by_split.items() if table}


def _distinct_ids(frame: pl.DataFrame, reason: list[str | None]) -> list[str]:
    """Names, made distinct. The same id with the same tokens is the same request; other tokens, another log's counter."""
    seen: dict[str, set[int]] = {}
    ids = []
    for place, (name, key) in enumerate(frame.select("id", "row_key").iter_rows()):
        keys = seen.setdefault(name, set())
        if key in keys:
            reason[place] = "duplicate_id"
        keys.add(key)
        ids.append(name if len(keys) == 1 else f"{name}~{len(keys)}")
    return ids


def _learn(spill: Spill, frame: pl.DataFrame, specials: frozenset[int]) -> tuple[dedup.Templates, Ids]:
    """What prompts share, and what comes before every answer, from a sample of distinct prompts drawn by hash."""
    import polars as pl

    drawn = frame.sort("prompt_key", "seq").unique("prompt_key", keep="first", maintain_order=True).head(dedup.SAMPLE)
    wanted = set(drawn["seq"].to_list())
    prompts: list[Ids] = []
    for chunk in spill.chunks():
        part = chunk.filter(pl.col("seq").is_in(wanted))
        flat, at = ragged(part)
        for row, tokens in enumerate(part["prompt_tokens"].to_list()):
            prompts.append(flat[at[row] : at[row] + tokens].copy())
    return dedup.learn_templates(prompts, specials), dedup.common_ending(prompts)


def _with_token_parents(spill: Spill, frame: pl.DataFrame, mark: Ids) -> pl.DataFrame:
    """Fill parent_keys of rows whose log had no messages: the places where an answer may have begun earlier."""
    import polars as pl

    if not frame["by_tokens"].any():
        return frame
    parents = frame["parent_keys"].to_list()
    for chunk in spill.chunks():
        flat, at = ragged(chunk)
        for row, (seq, tokens, by_tokens) in enumerate(chunk.select("seq", "prompt_tokens", "by_tokens").iter_rows()):
            if by_tokens:
                prompt = flat[at[row] : at[row] + tokens]
                earlier = dedup.continued(prompt, mark)
                parents[seq] = [key64(prompt[:length].tobytes()) for length in reversed(earlier)]
    return frame.with_columns(pl.Series("parent_keys", parents, dtype=pl.List(pl.Int64)))


def _exact(frame: pl.DataFrame, split: list[str | None], reason: list[str | None]) -> None:
    """Keep prompts and rows of held-out out of the other splits, and collapse equal rows (training keeps the first)."""
    keys = list(frame.select("prompt_key", "row_key").iter_rows())
    heldout = {prompt for (prompt, _), name in zip(keys, split, strict=True) if name == splits.HELDOUT}
    seen: set[int] = set()
    for wanted in (splits.TRAIN, splits.VALIDATION):
        for place, (prompt, row) in enumerate(keys):
            if split[place] != wanted or reason[place]:
                continue
            if prompt in heldout:
                reason[place] = "repeats_heldout"
            elif row in seen:
                reason[place] = "duplicate"
            seen.add(row)


def _near(
    spill: Spill,
    split: list[str | None],
    reason: list[str | None],
    templates: dedup.Templates,
    threshold: float,
    on_progress: Progress,
) -> None:
    index = dedup.NearIndex(threshold)
    for _, row in _shingled(spill, templates, lambda seq: split[seq] == splits.HELDOUT):
        index.add(row)
    others = _shingled(spill, templates, lambda seq: split[seq] not in (None, splits.HELDOUT))
    for done, (seq, row) in enumerate(others, start=1):
        if reason[seq] is None and index.near(row):
            reason[seq] = "near_duplicate"
        if done % 1000 == 0:
            on_progress("near-duplicates", done, len(split))


def _shingled(
    spill: Spill, templates: dedup.Templates, wanted: Callable[[int], bool]
) -> Iterator[tuple[int, dedup.Shingles]]:
    for chunk in spill.chunks():
        flat, at = ragged(chunk)
        for row, (seq, tokens) in enumerate(chunk.select("seq", "prompt_tokens").iter_rows()):
            if wanted(seq):
                ids = flat[at[row] : at[row + 1]]
                yield seq, dedup.shingles(ids[:tokens], ids[tokens:], templates)


def _limit(
    frame: pl.DataFrame,
    split: list[str | None],
    reason: list[str | None],
    config: CorpusConfig,
    weights: Mapping[str, float],
    row_weights: list[float],
    hard_share: float,
) -> None:
    """Cut down to max_rows, every split and class keeping its share; training follows the profile's classes and lengths."""
    live = [place for place, name in enumerate(split) if name and not reason[place]]
    if config.max_rows is None or len(live) <= config.max_rows:
        return
    room = matching.quotas(Counter(split[p] or "" for p in live), {}, config.max_rows)
    classes, names, hard = frame["content_class"].to_list(), frame["id"].to_list(), frame["acceptance"].to_list()
    for name in splits.SPLITS:
        places = [p for p in live if split[p] == name]
        train = name == splits.TRAIN
        chosen = matching.choose(
            [classes[p] for p in places],
            [names[p] for p in places],
            max(room.get(name, 0), min(1, len(places))),
            config.seed,
            weight=weights if train else None,
            odds=[row_weights[p] for p in places] if train else None,
            first=[hard[p] for p in places] if train else None,
            first_share=hard_share if train else 0.0,
        )
        kept = {places[c] for c in chosen}
        for place in places:
            if place not in kept:
                reason[place] = "over_max_rows"
