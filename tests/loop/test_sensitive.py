"""Secrets planted in the traffic are looked for in every stored byte, as text and as the token ids that stand for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from loop_world import World
from tokenizers import Tokenizer

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
    return [text.encode(), json.dumps(ids)[1:-1].encode(), ",".join(map(str, ids)).encode(), *arrays]


def found(world: World, folder: Path) -> list[str]:
    """Where any of them is. Parquet hides its bytes by compression, so its columns are looked at as well."""
    wanted = {secret: traces(world, secret) for secret in (MAIL, TOKEN)}
    hits = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
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


def test_after_a_run_with_zero_retention_no_byte_tells_of_the_traffic(world: World) -> None:
    plant(world, routes=True)
    world.configure(corpus={"retention": "zero"})
    world.run()
    assert [e["kind"] for e in world.events()][-1] == "finished"
    assert found(world, world.workspace) == []
    stored = b"".join(path.read_bytes() for path in world.workspace.rglob("*") if path.is_file())
    assert not [text for text in world.text_of_traffic() if text.encode() in stored]
    assert list(world.folder().glob("bundle/*/*/report.html"))
    assert list(world.folder().glob("phases/train/draft/*.safetensors"))


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
