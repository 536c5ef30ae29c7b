"""Which rows belong to one conversation, and which conversations are held out. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from draftsmith.contract.errors import InputError

if TYPE_CHECKING:
    import polars as pl

TRAIN, VALIDATION, HELDOUT = "train", "validation", "heldout"
SPLITS = (TRAIN, VALIDATION, HELDOUT)

# One prompt that so many different requests seem to continue is a template with worked examples, not a dialogue.
MAX_BRANCHES = 8


@dataclass(frozen=True)
class Shares:
    """Shares of conversations. `heldout` are the latest ones, `validation` is drawn by hash from the rest."""

    validation: float
    heldout: float
    seed: int = 0

    def needed(self) -> int:
        """Fewest conversations of which each wanted share is at least one, and one is left for training."""
        wanted = [math.ceil(1 / share) for share in (self.validation, self.heldout) if share > 0]
        return max([*wanted, 1 + len(wanted)])


def conversations(frame: pl.DataFrame) -> list[str]:
    """A conversation name per row of `frame` (columns conversation, own_key, parent_keys).

    A named conversation stays as it is. Other rows belong together when their prompts are equal, or when one continues
    the other; rows that only share a system prompt or worked examples do not. The name is then the key of the first prompt.
    A row without a name joins the named conversation it continues.
    """
    own: list[int] = frame["own_key"].to_list()
    named: list[str | None] = frame["conversation"].to_list()
    parent = _parents(own, frame["parent_keys"].to_list(), named)
    name_of: dict[int, str] = {}
    for key, name in zip(own, named, strict=True):
        if name is not None:
            name_of.setdefault(key, name)
    result = []
    for key, name in zip(own, named, strict=True):
        root = key
        while name is None and root in parent and root not in name_of:
            root = parent[root]
        result.append(name if name is not None else name_of.get(root, f"{root:016x}"))
    return result


def _parents(own: Sequence[int], ancestors: Sequence[Sequence[int]], named: Sequence[str | None]) -> dict[int, int]:
    """key of a prompt -> key of the prompt it continues directly, templates left out."""
    candidates: dict[int, Sequence[int]] = {
        key: chain for key, chain, name in zip(own, ancestors, named, strict=True) if chain and name is None
    }
    known = set(own) if candidates else set()
    templates: set[int] = set()
    while True:
        parent: dict[int, int] = {}
        branches: dict[int, int] = {}
        for key, chain in candidates.items():
            for ancestor in chain:
                if ancestor in known and ancestor not in templates:
                    parent[key] = ancestor
                    branches[ancestor] = branches.get(ancestor, 0) + 1
                    break
        crowded = {key for key, count in branches.items() if count > MAX_BRANCHES}
        if not crowded:
            return parent
        templates |= crowded


def assign(names: Sequence[str], times: Sequence[float | None], shares: Shares) -> dict[str, str]:
    """conversation -> split. Held out are the conversations that started last.

    Without any time the order of appearance decides. Where only some have a time, one without cannot be shown to be
    late and is never held out. Raises InputError when there are too few conversations for the shares.
    """
    first: dict[str, tuple[float, int]] = {}
    timed = any(time is not None for time in times)
    for place, (name, time) in enumerate(zip(names, times, strict=True)):
        started = (time if time is not None else -math.inf) if timed else 0.0
        seen = first.get(name)
        if seen is None:
            first[name] = (started, place)
        elif started > -math.inf and (seen[0] == -math.inf or started < seen[0]):
            first[name] = (started, seen[1])
    _enough(len(first), shares)
    ordered = sorted(first, key=lambda name: first[name])
    late = ordered[len(ordered) - round(len(ordered) * shares.heldout) :] if shares.heldout else []
    late = [name for name in late if not timed or first[name][0] > -math.inf] or ordered[-1:] * bool(shares.heldout)
    split = dict.fromkeys(ordered, TRAIN) | dict.fromkeys(late, HELDOUT)
    split |= dict.fromkeys(_by_hash([n for n in ordered if split[n] == TRAIN], len(ordered), shares), VALIDATION)
    return split


def _by_hash(rest: Sequence[str], total: int, shares: Shares) -> list[str]:
    # By threshold, not by rank: a conversation in validation stays there when the log grows.
    if not shares.validation or not rest:
        return []
    draws = {name: unit_hash(name, shares.seed) for name in rest}
    threshold = shares.validation * total / len(rest)
    return [name for name in rest if draws[name] < threshold] or [min(rest, key=lambda name: draws[name])]


def unit_hash(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on the text and the seed alone."""
    raw = hashlib.blake2b(f"{seed}\x1f{text}".encode(), digest_size=8).digest()
    return int.from_bytes(raw, "big") / 2**64


def _enough(number: int, shares: Shares) -> None:
    if number < shares.needed():
        raise InputError(
            f"{number} conversations cannot be split: at least {shares.needed()} are needed for a validation share of "
            f"{shares.validation:g} and a held-out share of {shares.heldout:g}",
            "record more traffic, or raise corpus.validation_share and corpus.heldout_share",
        )


def require_all(rows: Mapping[str, int], shares: Shares) -> None:
    """Raise InputError when a wanted split has no row left after duplicates were taken out."""
    wanted = [TRAIN, *[VALIDATION] * (shares.validation > 0), *[HELDOUT] * (shares.heldout > 0)]
    empty = [name for name in wanted if not rows.get(name)]
    if empty:
        raise InputError(
            f"no row is left for {' and '.join(empty)} once duplicates are removed: the traffic repeats itself",
            "record more varied traffic, or raise corpus.near_duplicate_threshold",
        )
