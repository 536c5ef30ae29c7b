"""Campaigns: the arms of a run, or any others, measured at the shapes of a profile, a cell each."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

import draftsmith
from draftsmith import wiring
from draftsmith.api.comparisons import Comparison, ComparisonRequest, compare
from draftsmith.api.frontiers import learn_from_comparison, quietly
from draftsmith.api.traffic import read_profile
from draftsmith.contract.campaign import CampaignCell, CampaignRecord, Focus
from draftsmith.contract.cluster import plain_slug
from draftsmith.contract.config import Config, parse_config
from draftsmith.contract.errors import InputError
from draftsmith.contract.jobs import ComparePlan
from draftsmith.contract.measure import ComparisonPlan
from draftsmith.contract.profile import BenchShape
from draftsmith.kit.files import private_dir, read_json, write_atomic, write_json
from draftsmith.loop.base import QUIET, Console
from draftsmith.store.runs import Run, Store

if TYPE_CHECKING:
    from draftsmith.corpus.prompts import Prompt

FOLDER, RECORD, LABEL = "campaigns", "campaign.json", "label.json"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,120}")
THROUGHPUT = 8  # requests in flight where neither the profile nor the operator says how many


@dataclass(frozen=True)
class Campaign:
    """A campaign and the folder that holds it."""

    folder: Path
    record: CampaignRecord

    def place(self, cell: CampaignCell) -> Path:
        """Where a cell is measured."""
        return self.folder / "cells" / cell.name


@dataclass(frozen=True)
class CampaignRequest:
    """What `campaign_init` is to settle. What is None comes from the run that `experiment_id` names.

    `arms`, `standing` and `candidates` as in ComparisonRequest; `prompts`: a JSON-lines file of real prompts, of which those of
    every length are made; `concurrency`: requests in flight, the first decides (None = 1 for latency, the profile's for
    throughput).
    """

    experiment_id: str
    focus: Focus = "latency"
    profile: Path | None = None
    prompts: Path | None = None
    arms: tuple[str, ...] = ()
    standing: str | None = None
    candidates: tuple[str, ...] | None = None
    concurrency: tuple[int, ...] = ()


def campaign_init(config: Config, request: CampaignRequest) -> Campaign:
    """Settle a campaign in `<workspace>/campaigns/<experiment id>`; nothing is measured. The same request finds it again.

    Raises InputError where something is missing or another campaign has that id.
    """
    if not NAME.fullmatch(request.experiment_id):
        raise InputError(
            f"{request.experiment_id!r} cannot name a campaign", "use letters, digits, dot, dash and underscore"
        )
    folder = Path(config.workspace).resolve() / FOLDER / request.experiment_id
    run = _run(config, request.experiment_id)
    config = parse_config(run.record.config, "run.json") if run else config
    words = request.arms, request.standing, request.candidates
    arms, standing, candidates = words if request.arms else _arms_of(run)
    profile = read_profile(request.profile or _made_by(run, "profile"))
    if not profile.bench_shapes:
        raise InputError(
            "the profile has no bench shapes", "profile a log with lengths, or give --aa-shapes to `profile`"
        )
    prompts = request.prompts or _made_by(run, "prompts")
    record = CampaignRecord(
        campaign=request.experiment_id,
        focus=request.focus,
        cells=_cells(profile.bench_shapes, request),
        arms=tuple(arms),
        standing=standing or arms[0].partition("=")[0],
        candidates=candidates,
        profile_sha256=profile.sha256,
        prompts=str(prompts.resolve()),
        config=config.model_dump(mode="json"),
        created_unix_s=time.time(),
        draftsmith_version=draftsmith.__version__,
    )
    _require_context(config, record.cells)
    path = folder / RECORD
    if path.exists():
        before = open_campaign(folder).record
        changed = [
            name for name in ("focus", "cells", "arms", "standing") if getattr(before, name) != getattr(record, name)
        ]
        if changed:
            raise InputError(
                f"campaign {request.experiment_id} was begun with others ({', '.join(changed)})",
                "give another experiment id",
            )
        return Campaign(folder, before)
    write_json(private_dir(folder) / RECORD, record)
    return Campaign(folder, record)


def open_campaign(place: Path) -> Campaign:
    """The campaign in a folder. Raises InputError if there is none."""
    try:
        return Campaign(place, CampaignRecord.model_validate(read_json(place / RECORD)))
    except FileNotFoundError:
        raise InputError(f"{place.name} holds no campaign", "begin one with `draftsmith campaign init`") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{place.name}/{RECORD} cannot be read ({type(error).__name__}): torn, or of another version",
            "use the version of draftsmith that wrote it, or begin another campaign",
        ) from None


def known_campaign(config: Config, campaign: str | Path | None = None) -> Campaign | None:
    """By folder or id; the newest without one; None if there is no such. Raises InputError for one that cannot be read."""
    if campaign is not None and (Path(campaign) / RECORD).is_file():
        return open_campaign(Path(campaign).resolve())
    known = _records(config)
    if campaign is None:
        return open_campaign(known[-1].parent) if known else None
    named = [path for path in known if path.parent.name == str(campaign)]
    return open_campaign(named[0].parent) if named else None


def find_campaign(config: Config, campaign: str | Path | None = None) -> Campaign:
    """The same. Raises InputError that lists the ids where there is none."""
    result = known_campaign(config, campaign)
    if result is not None:
        return result
    names = ", ".join(path.parent.name for path in _records(config)[-5:]) or "none"
    raise InputError(
        f"no campaign {str(campaign)!r} in this workspace" if campaign else "this workspace has no campaign",
        f"known: {names}; `draftsmith campaign init` begins one",
    )


def _records(config: Config) -> list[Path]:
    """The records of the workspace's campaigns, the newest last."""
    root = Path(config.workspace).resolve() / FOLDER
    return sorted(root.glob(f"*/{RECORD}"), key=lambda path: path.stat().st_mtime)


def cell_run(
    config: Config, campaign: str | Path | None = None, cell: str | None = None, *, console: Console = QUIET
) -> Comparison:
    """Measure a cell (the next open one without a name), or go on with it: a comparison at its shape, with its own bundle.

    Runs on this machine, as `compare` does. Raises InputError if the campaign has no such cell, or none is open.
    """
    result = find_campaign(config, campaign)
    chosen = _choose(result, cell)
    settled = _at(parse_config(result.record.config, RECORD), chosen)
    place = private_dir(result.place(chosen))
    write_json(place / LABEL, {"campaign": result.record.campaign, "cell": chosen.name, "lake": config.lake.url})
    console.note(
        f"cell     {chosen.name}: {chosen.isl} tokens in, {chosen.osl} out, of campaign {result.record.campaign}"
    )
    request = ComparisonRequest(
        arms=list(result.record.arms),
        standing=result.record.standing,
        candidates=list(result.record.candidates) if result.record.candidates is not None else None,
        concurrency=list(chosen.concurrency),
    )
    measured = compare(settled, _prompts(result, chosen, settled), request, place, console=console)
    quietly(lambda: learn_from_comparison(config, place))
    return measured


def _choose(campaign: Campaign, name: str | None) -> CampaignCell:
    cells = {cell.name: cell for cell in campaign.record.cells}
    if name is not None:
        if name not in cells:
            raise InputError(
                f"campaign {campaign.record.campaign} has no cell {name!r}", f"its cells: {', '.join(cells)}"
            )
        return cells[name]
    still = [cell for cell in cells.values() if not (campaign.place(cell) / "verdict.json").exists()]
    if not still:
        raise InputError("every cell of this campaign is measured", "next: draftsmith atlas aggregate")
    return still[0]


def _at(config: Config, cell: CampaignCell) -> Config:
    """The settings of a cell: servers hold its prompts and answers whole."""
    needed = max(config.engine.max_model_len, cell.isl + cell.osl)
    return config.model_copy(update={"engine": config.engine.model_copy(update={"max_model_len": needed})})


def _prompts(campaign: Campaign, cell: CampaignCell, config: Config) -> Path:
    """The prompts of a cell, made once and kept; private, for they hold text as token ids."""
    from draftsmith.corpus.cell_prompts import prompts_of
    from draftsmith.work.compare.pinning import pool

    path = campaign.place(cell) / "prompts-cell.jsonl"
    if path.exists():
        return path
    count = pool(config.compare) + config.compare.tuning_prompts
    made = prompts_of(cell, _sources(Path(campaign.record.prompts), config), count)
    lines = [
        orjson.dumps(
            {
                "id": item.prompt_id,
                "route": item.content_class,
                "prompt_token_ids": item.prompt_token_ids,
                "params": item.params,
                "max_tokens": item.max_tokens,
            }
        )
        for item in made
    ]
    return write_atomic(path, b"\n".join(lines) + b"\n")


def _sources(path: Path, config: Config) -> list[Prompt]:
    """Real prompts with their token ids: as they were kept, or rendered by the target's own template and tokenizer."""
    from draftsmith.client.log import read_requests
    from draftsmith.corpus.prompts import Prompt
    from draftsmith.traffic.tokens import load_counter

    counter = None
    prompts = []
    for number, request in enumerate(read_requests(path, None, None)):
        ids = request.prompt_token_ids
        if ids is None and request.messages and config.target:
            counter = counter or load_counter(Path(config.target))
            ids = counter.encode(counter.render(request.messages))
        prompts.append(
            Prompt(
                prompt_id=f"p{number:05d}",
                content_class=request.route or "all",
                prompt_token_ids=ids,
                params=request.params,
                max_tokens=request.max_tokens or 1,
            )
        )
    return prompts


def _cells(shapes: Sequence[BenchShape], request: CampaignRequest) -> tuple[CampaignCell, ...]:
    made: dict[str, CampaignCell] = {}
    for shape in shapes:
        loads = request.concurrency or ((1,) if request.focus == "latency" else (shape.concurrency or THROUGHPUT,))
        lengths = f"isl{shape.isl}-osl{shape.osl}"
        name = lengths if shape.name == lengths else f"{plain_slug(shape.name)}-{lengths}"
        cell = CampaignCell(name=name, isl=max(2, shape.isl), osl=shape.osl, weight=shape.weight, concurrency=loads)
        free = next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(shapes) + 2))) if n not in made)
        made[free] = cell.model_copy(update={"name": free})
    return tuple(made.values())


def _require_context(config: Config, cells: Sequence[CampaignCell]) -> None:
    """A target that cannot hold a cell is refused now, not after the cells before it. Nothing is cut short to fit."""
    if not config.target:
        return
    most = wiring.target(config, Path(config.target).resolve()).max_position_embeddings
    long = [cell.name for cell in cells if cell.isl + cell.osl > most]
    if long:
        raise InputError(
            f"the target holds {most:,} tokens, too few for {', '.join(long)}",
            "give a profile with shorter shapes: `draftsmith profile --aa-shapes ISL:OSL,...`",
        )


def _run(config: Config, run_id: str) -> Run | None:
    """The run of this name, if there is one: run, experiment and campaign have one id."""
    folder = Path(config.workspace).resolve() / "runs" / run_id
    return Store(folder.parent.parent).get(run_id) if (folder / "run.json").is_file() else None


def _arms_of(run: Run | None) -> tuple[tuple[str, ...], str | None, tuple[str, ...] | None]:
    """The arms that a run compared, with the places of their drafts; of lengths that were tried, the one that was chosen."""
    if run is None:
        raise InputError(
            "no arms are given, and no run has this id", "give --arm twice, or the id of a run that compared"
        )
    place = run.folder / "phases" / "compare"
    try:
        plan = ComparePlan.model_validate(read_json(place / "plan.json"))
        frozen = ComparisonPlan.model_validate(read_json(place / "plan-frozen.json"))
    except (OSError, ValueError):
        raise InputError(
            f"{run.record.run_id} has not compared anything yet", "let it go on: `draftsmith run`"
        ) from None
    kept = {arm.name for arm in frozen.arms}
    arms = [arm for arm in plan.arms if arm.name in kept]
    words = tuple(
        f"{arm.name}={arm.engine}:{json.dumps(arm.spec_config) if arm.spec_config else 'none'}" for arm in arms
    )
    return words, plan.baseline, tuple(arm.name for arm in arms if arm.role == "candidate") or None


def _made_by(run: Run | None, title: str) -> Path:
    """A file of a run: its profile, or the held-out prompts of its comparison."""
    if run is None:
        raise InputError(f"no {title} given, and no run has this id", f"give --{title} FILE, or the id of a run")
    phases = run.folder / "phases"
    if title == "profile":
        result = next(iter(sorted(phases.glob("profile/**/workload-profile.json"))), None)
    else:
        result = phases / "compare" / "prompts-own.jsonl"
    if result is None or not result.is_file():
        raise InputError(f"{run.record.run_id} holds no {title} (any more)", f"give --{title} FILE")
    return result
