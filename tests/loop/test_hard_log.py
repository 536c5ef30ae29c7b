"""`corpus.hard_log`: what a served draft predicted worst, by its own log, joins the training rows of the next run."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from loop_world import World, answered_log

from draftsmith.contract.access import SpecStats
from draftsmith.contract.base import canonical


def served(world: World, *, measured: bool) -> Path:
    """A later log of the same target; request n had n of its 60 drafted tokens accepted."""
    path = world.base / "served.jsonl"
    lines = []
    for number, record in enumerate(answered_log(world.target, 20, seed=11)):
        spec = SpecStats(drafts=20, draft_tokens=60, accepted_tokens=number) if measured else None
        record = record.model_copy(update={"id": f"served-{number}", "spec": spec})
        lines.append(canonical(record.model_dump(mode="json", by_alias=True)) + "\n")
    path.write_text("".join(lines))
    return path


def test_the_least_accepted_requests_of_a_served_draft_train(world: World) -> None:
    world.configure(corpus={"hard_log": str(served(world, measured=True)), "hard_share": 0.2})
    world.call("corpus")
    assert world.done("corpus")["result"]["figures"]["mined"] == 4
    rows = pl.read_parquet(next(world.folder().glob("phases/corpus/corpus/rows.parquet")))
    mined = rows.filter(pl.col("id").str.starts_with("served-"))
    assert 1 <= len(mined) <= 4
    assert set(mined["id"]) <= {f"served-{number}" for number in range(4)}
    assert set(mined["split"]) == {"train"}


def test_a_log_that_does_not_tell_what_was_accepted_is_refused(world: World) -> None:
    world.configure(corpus={"hard_log": str(served(world, measured=False)), "hard_share": 0.2})
    done = world.call("corpus", code=None)
    assert done.returncode != 0
    assert "no request of corpus.hard_log tells how its drafts were accepted" in done.stderr
    assert "--per-request-spec-decode-metrics" in done.stderr
