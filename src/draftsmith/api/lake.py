"""The lake: bundles published to it, and questions to it."""

from __future__ import annotations

from pathlib import Path

from draftsmith.api.campaigns import find_campaign
from draftsmith.api.runs import get_run
from draftsmith.api.shipping import remember
from draftsmith.contract.config import Config
from draftsmith.contract.errors import ConfigError, InputError
from draftsmith.lake.contents import Snapshot, compact
from draftsmith.lake.places import open_place
from draftsmith.lake.put import Shipped, put
from draftsmith.lake.query import Answer, ask
from draftsmith.lake.rows import rows_of
from draftsmith.store.bundle_check import bundle_of


def ship(bundle: str | Path, to: str, *, strict: bool = False) -> Shipped:
    """Publish a bundle (a finished one, or the folder of a run or comparison that holds it) to a lake.

    `to`: `file:///path` or `s3://bucket/prefix`. The same bundle is published once; a broken upload goes on. `strict`
    refuses tier `draft`. Raises EvidenceError if it does not verify, BackendError if the place breaks off.
    """
    result, place = bundle_in(Path(bundle)), open_place(to)
    if place.local and Path(place.root).is_relative_to(result.resolve()):
        raise ConfigError("this lake lies in the bundle, which could not be verified any more", "name another folder")
    sent = put(rows_of(result, strict=strict), place)
    remember(result, to, sent)
    return sent


def ship_run(config: Config, to: str, run_id: str | None = None, *, strict: bool = False) -> Shipped:
    """Publish the bundle of a run (the newest without an id). Raises InputError if there is none; see ship."""
    return ship(get_run(config, run_id).folder, to, strict=strict)


def ship_campaign(
    config: Config, to: str, campaign: str | Path | None = None, *, strict: bool = False
) -> tuple[Shipped, ...]:
    """Publish every measured cell of a campaign. Raises InputError if none is measured; see ship."""
    result = find_campaign(config, campaign)
    places = [result.place(cell) for cell in result.record.cells if bundle_of(result.place(cell))]
    if not places:
        raise InputError(f"campaign {result.record.campaign} has no measured cell", "measure one: draftsmith cell run")
    return tuple(ship(place, to, strict=strict) for place in places)


def ask_lake(url: str, question: str) -> Answer:
    """A ready question by name, or SQL over campaigns, arms and pairs. Raises InputError for what DuckDB refuses."""
    return ask(open_place(url), question)


def compact_lake(url: str) -> Snapshot:
    """Write a snapshot of every campaign that is in a lake, so that questions open three objects. Nothing is altered or deleted.

    Raises InputError for an empty lake, EvidenceError for a torn object, BackendError if the place breaks off.
    """
    return compact(open_place(url))


def bundle_in(path: Path) -> Path:
    """The bundle at a path, or in the folder of a run or comparison. Raises InputError if there is none."""
    if (path / "MANIFEST.json").is_file():
        return path
    inside = bundle_of(path)
    if inside is None:
        raise InputError(f"{path} holds no finished bundle", "`draftsmith report` writes one")
    return inside
