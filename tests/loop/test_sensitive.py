"""Secrets planted in the traffic are looked for in every stored byte, as text and as the token ids that stand for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest
from loop_world import FAKES, World, wait_for
from tokenizers import Tokenizer

from draftsmith.kit import processes

MAIL, TOKEN = "anna.kovacs@example.org", "ghp_a1B2c3D4e5F6g7H8i9J0a1B2c3D4e5F6g7H8"


def tokenizer(world: World) -> Any:
    return Tokenizer.from_file(str(world.target / "tokenizer.json"))


def encoded(world: World, text: str) -> list[int]:
    return list(tokenizer(world).encode(text, add_special_tokens=False).ids)


def plant(world: World, *, routes: bool = False) -> dict[str, int]:
    """A mail address in every seventh prompt, a token in every seventh answer, both with their ids and names."""
    planted = {MAIL: 0, TOKEN: 0}
    lines = []
    for number, line in enumerate(world.log.read_text().rstrip("\n").split("\n")):
        value = json.loads(line)
        if number % 7 == 2:
            value["messages"][0]["content"] += f" {MAIL}"
            value["prompt_token_ids"][3:3] = encoded(world, f" {MAIL}")
            value["conversation"] = f"{MAIL}-{number}"
            value["params"] |= {"user": MAIL}
            value["route"] = MAIL if routes else value["route"]
            planted[MAIL] += 1
        elif number % 7 == 5:
            value["completion"] = f"{TOKEN} {value['completion']}"
            value["output_token_ids"] = encoded(world, f"{TOKEN} ") + value["output_token_ids"]
            planted[TOKEN] += 1
        lines.append(json.dumps(value) + "\n")
    world.log.write_text("".join(lines))
    return planted


def traces(world: World, text: str) -> list[bytes]:
    """`text` as it could lie in a file: itself, and its ids in JSON and in arrays of every usual width."""
    ids = encoded(world, text)
    arrays = [np.array(ids, kind).tobytes() for kind in ("<i2", "<i4", "<i8", "<f4")]
    return [text.encode(), ",".join(map(str, ids)).encode(), *arrays]


def found(world: World, folder: Path) -> list[str]:
    """Where any of them is. Parquet hides its bytes by compression, so its columns are looked at as well."""
    wanted = {secret: traces(world, secret) for secret in (MAIL, TOKEN)}
    hits = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        data += data.translate(None, b" \n")  # JSON may be indented
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
            data += "\n".join(str(row) for row in frame.rows()).encode()
            if "input_ids" in frame.columns:
                texts = [tokenizer(world).decode(ids.to_list()) for ids in frame["input_ids"]]
                data += "\n".join(texts).encode()
        hits += [
            f"{path.relative_to(folder)}: {secret}" for secret, forms in wanted.items() if any(f in data for f in forms)
        ]
    return hits


def test_with_redaction_on_nothing_of_it_is_stored_at_any_time(world: World) -> None:
    pytest.importorskip("datafog_core")
    pytest.importorskip("detect_secrets")
    planted = plant(world, routes=True)
    world.configure(corpus={"redact": True})
    world.call("corpus")
    assert found(world, world.workspace) == []
    figures = world.done("corpus")["result"]["figures"]
    assert figures["dropped"]["redacted_answer"] == planted[TOKEN]
    assert figures["redacted_prompts"] == figures["regenerated"] == planted[MAIL]
    rows = pl.read_parquet(next(world.folder().glob("phases/corpus/corpus/rows.parquet")))
    asked = [messages for messages in rows["messages"] if "[EMAIL]" in messages]
    assert len(asked) > planted[MAIL] / 2, "what was redacted still trains, with a new answer"
    assert len(list(world.folder().glob("phases/capture/states/*.safetensors"))) <= len(rows)


def test_without_redaction_the_same_search_finds_it(world: World) -> None:
    plant(world)
    world.call("corpus")
    assert {hit.rpartition(": ")[2] for hit in found(world, world.workspace)} == {MAIL, TOKEN}


def probing(world: World, *arguments: str) -> tuple[Popen[str], psutil.Process]:
    """A command that is in the middle of the capture's probe, and the probe."""
    driver = world.start(*arguments, FAKE_PROBE="hold")

    def probe() -> psutil.Process | None:
        for registry in world.workspace.glob("runs/*/processes"):
            for _, record in processes.records(registry):
                for process in processes.members(record):
                    words = process.cmdline()
                    if words[1:2] == [str(FAKES / "fake_engine_python.py")] and "draftsmith.work.inside.probe" in words:
                        return process
        return None

    found: psutil.Process = wait_for(probe, "the probe", 120)
    return driver, found


def ids_of_traffic(world: World, folder: Path) -> set[str]:
    """Files in which the token ids of an answer stand, in JSON of any form or as an array. A few ids alone are just numbers."""
    lines = world.log.read_text().rstrip("\n").split("\n")
    answers = [ids for ids in (json.loads(line)["output_token_ids"] for line in lines) if len(ids) > 8]
    listed = [json.dumps(ids, separators=(",", ":"))[1:-1].encode() for ids in answers]
    arrays = [np.array(ids, kind).tobytes() for ids in answers for kind in ("<i2", "<i4", "<i8")]
    hits = set()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        bare = data.translate(None, b" \n")
        if any(ids in bare for ids in listed) or any(ids in data for ids in arrays):
            hits.add(path.name)
    return hits


def test_after_a_run_with_zero_retention_no_byte_tells_of_the_traffic(world: World) -> None:
    """Not even after kill -9 of everything while the probe was reading its request."""
    plant(world, routes=True)
    world.configure(corpus={"retention": "zero"})
    driver, _ = probing(world, "run", "--yes")
    everything = psutil.Process(driver.pid).children(recursive=True)
    for process in everything:
        process.suspend()  # a keeper whose parent dies gives the job the time to clear up
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):  # it goes with its keeper
            process.kill()
    world.kill(driver)
    assert "probe-request.json" in ids_of_traffic(world, world.workspace), "nobody was left to remove it"
    world.run()
    assert [e["kind"] for e in world.events()][-1] == "finished"
    assert found(world, world.workspace) == []
    assert ids_of_traffic(world, world.workspace) == set()
    stored = b"".join(path.read_bytes() for path in world.workspace.rglob("*") if path.is_file())
    assert not [text for text in world.text_of_traffic() if text.encode() in stored]
    assert list(world.folder().glob("bundle/*/*/report.html"))
    assert list(world.folder().glob("phases/train/draft/*.safetensors"))


def test_a_probe_that_is_killed_leaves_no_request_and_a_purge_leaves_no_ids(world: World) -> None:
    world.configure(corpus={"retention": "zero"})
    driver, probe = probing(world, "capture")
    os.kill(probe.pid, signal.SIGKILL)
    said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 5, said
    assert "the probe ended with exit code" in said
    assert ids_of_traffic(world, world.folder() / "phases" / "capture" / "probe") == set()
    world.call("teardown", "--purge")
    assert ids_of_traffic(world, world.workspace) == set()
    assert not list(world.workspace.rglob("*.parquet")), "rows are compressed: their bytes could not be searched"


def test_a_missing_library_is_named_before_anything_starts(world: World, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['datafog_core'] = None\n")
    world.configure(corpus={"redact": True})
    environment = world.environment()
    done = world.call("corpus", code=3, PYTHONPATH=f"{hidden}:{environment['PYTHONPATH']}")
    assert "datafog_core is not installed" in done.stderr
    assert "draftsmith[redaction]" in done.stderr
    assert not world.runs()
