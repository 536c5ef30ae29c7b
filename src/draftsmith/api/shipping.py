"""Publishing that remembers: what of a workspace is in its lake, what waits, and what was refused. A lake that is away fails nothing."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Literal

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.config import Config
from draftsmith.contract.errors import DraftsmithError, EvidenceError, NoVerdictError, RefusedError
from draftsmith.kit.files import read_json, sha256_file, write_json
from draftsmith.lake.places import open_place
from draftsmith.lake.put import Shipped, put
from draftsmith.lake.rows import rows_of
from draftsmith.loop.base import QUIET, Console
from draftsmith.store.bundle_check import MANIFEST, bundle_of, manifest_sha256_of
from draftsmith.store.runs import Store

NOTE = "shipped.json"
ShipState = Literal["published", "waiting", "refused"]


class Shipment(Frozen):
    """One bundle and one lake. `waiting`: the lake was away or full, and it is tried again; `refused`: it never will be."""

    lake: str
    manifest_sha256: str
    state: ShipState
    at_unix_s: float
    address: str | None = None
    why: str | None = None


class Shipments(Frozen):
    """shipped.json: what became of the bundles of a run or a cell, newest last."""

    shipments: tuple[Shipment, ...] = Field(())


def shipments(folder: Path) -> tuple[Shipment, ...]:
    """What is remembered of a folder; empty if nothing is, or if it cannot be read: then it is published again, which is harmless."""
    try:
        return Shipments.model_validate(read_json(folder / NOTE)).shipments
    except (OSError, ValueError):
        return ()


def addresses_of(folder: Path) -> tuple[str, ...]:
    """Where the present bundle of a run or a cell is published."""
    sha256 = manifest_sha256_of(folder)
    return tuple(
        shipment.address for shipment in shipments(folder) if shipment.address and shipment.manifest_sha256 == sha256
    )


def remember(bundle: Path, to: str, sent: Shipped) -> None:
    """Note beside a bundle where it was published; a bundle that lies alone has no such place."""
    if bundle.parents[1].name == "bundle":
        _note(bundle.parents[2], Shipment(
            lake=to, manifest_sha256=sent.manifest_sha256, state="published", at_unix_s=time.time(), address=sent.address
        ))  # fmt: skip


def ship_waiting(config: Config, *, console: Console = QUIET) -> tuple[Shipment, ...]:
    """Publish to `[lake] url` every finished bundle of the workspace that is not there yet: runs and cells of campaigns.

    What the lake or the gate says no to is noted and returned, never raised. Nothing is done without a url.
    """
    url = config.lake.url
    if url is None:
        return ()
    workspace = Path(config.workspace).resolve()
    folders = [run.folder for run in Store(workspace).runs()]
    folders += sorted(path for path in (workspace / "campaigns").glob("*/cells/*") if path.is_dir())
    done: list[Shipment] = []
    for folder in folders:
        bundle = bundle_of(folder)
        if bundle is None or not (bundle / "verdict.json").is_file():
            continue
        sha256 = sha256_file(bundle / MANIFEST)
        if any((s.lake, s.manifest_sha256) == (url, sha256) and s.state != "waiting" for s in shipments(folder)):
            continue
        shipment = _try(bundle, url, sha256, strict=config.lake.strict)
        with contextlib.suppress(OSError):  # a full disk fails no run; it is published again, which is harmless
            _note(folder, shipment)
        done.append(shipment)
        console.note(
            f"lake     {bundle.name}: {shipment.state}{f', {shipment.address}' if shipment.address else f', {shipment.why}'}"
        )
        if shipment.state == "waiting":
            break  # one that is away is away for the others too; they wait as well
    return tuple(done)


def _try(bundle: Path, url: str, sha256: str, *, strict: bool) -> Shipment:
    state: ShipState
    address = why = None
    try:
        address, state = put(rows_of(bundle, strict=strict), open_place(url)).address, "published"
    except (RefusedError, NoVerdictError, EvidenceError) as error:
        state, why = "refused", error.message
    except DraftsmithError as error:
        state, why = "waiting", error.message
    return Shipment(lake=url, manifest_sha256=sha256, state=state, at_unix_s=time.time(), address=address, why=why)


def _note(folder: Path, shipment: Shipment) -> None:
    kept = [s for s in shipments(folder) if (s.lake, s.manifest_sha256) != (shipment.lake, shipment.manifest_sha256)]
    write_json(folder / NOTE, Shipments(shipments=(*kept, shipment)))
