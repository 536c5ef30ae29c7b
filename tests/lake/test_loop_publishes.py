"""`[lake] url` through the loop, by command: a run publishes itself to a folder, then to a bucket; one that is away fails nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lake_world import make_bucket, moto_command, s3_server
from loop_world import World

from draftsmith import api

MOTO = moto_command()
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}
pytestmark = pytest.mark.story


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def shipped(world: World) -> list[tuple[str, str]]:
    told = json.loads((world.folder() / "shipped.json").read_text())["shipments"]
    return [(one["lake"], one["state"]) for one in told]


def told(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


@pytest.mark.skipif(MOTO is None, reason="no moto_server here: .ci/foreign.sh installs it")
def test_a_run_publishes_itself_and_no_lake_fails_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, bucket = f"file://{world.base}/lake", "s3://perf-lake/drafts"
    world.configure(lake={"url": folder})
    said = world.run(DRAFTSMITH_LOG_FORMAT="json")
    run_id = world.folder().name
    assert f"{run_id}: published, {folder}/campaigns/" in said.stderr
    for phase in ("corpus", "capture", "train", "compare"):
        lines = told(world.folder() / "phases" / phase / "stderr.log")
        assert {line["run_id"] for line in lines} == {run_id}
        assert [line["event"] for line in lines][-1] == "ended", phase
    asked = "SELECT campaign, outcome, tier FROM campaigns"
    [(campaign, outcome, tier)] = api.ask_lake(folder, asked).rows
    assert (campaign, tier) == (run_id, "draft")
    bundle = Path(world.done("publish")["result"]["outputs"]["bundle"])
    for name in ("SOURCE.md", "summary.md"):
        text = (bundle / name).read_text()
        assert run_id in text, name
        assert folder in text, name

    assert MOTO
    with s3_server(MOTO, world.base / "moto.log") as endpoint:
        make_bucket(endpoint, "perf-lake")
        world.configure(lake={"url": bucket})
        world.run(AWS_ENDPOINT_URL=endpoint, **KEYS)
        assert shipped(world) == [(folder, "published"), (bucket, "published")]
        for name, value in {"AWS_ENDPOINT_URL": endpoint, **KEYS}.items():
            monkeypatch.setenv(name, value)
        assert api.ask_lake(bucket, asked).rows == ((run_id, outcome, tier),)

    world.configure(lake={"url": "s3://perf-lake/later"})  # the server is gone by now
    world.run(AWS_ENDPOINT_URL=endpoint, **KEYS)
    assert shipped(world)[-1] == ("s3://perf-lake/later", "waiting")
    assert world.runs() == [world.folder()], "nothing was run again"
