"""Every format arrives by every way: named or recognised, plain or compressed, file, glob, folder, pipe or object store."""

from __future__ import annotations

import gzip
import io
import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.errors import InputError
from draftsmith.profiling.profile import build_profile
from draftsmith.traffic.importers import CATALOG, detect, read_records

from .conftest import request
from .written import DEFAULT, FORMATS


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# Format -> one file of it that holds two requests.
FILES: dict[str, str] = {name: one.write(DEFAULT) for name, one in FORMATS.items()}


def squeezed(path: Path, kind: str) -> Path:
    """The file, or a compressed copy whose name does not tell."""
    if kind == "plain":
        return path
    if kind == "gzip":
        packed = gzip.compress(path.read_bytes())
    else:
        packed = pytest.importorskip("zstandard").ZstdCompressor().compress(path.read_bytes())
    copy = path.with_name(f"{path.stem}-{kind}.dat")
    copy.write_bytes(packed)
    path.unlink()
    return copy


def as_file(path: Path, patch: pytest.MonkeyPatch) -> str:
    return str(path)


def as_folder(path: Path, patch: pytest.MonkeyPatch) -> str:
    return str(path.parent)


def as_glob(path: Path, patch: pytest.MonkeyPatch) -> str:
    return str(path.parent / "*")


def as_pipe(path: Path, patch: pytest.MonkeyPatch) -> str:
    patch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(path.read_bytes()))))
    return "-"


def as_object(path: Path, patch: pytest.MonkeyPatch) -> str:
    return f"{store(path)}/{path.name}"


def as_objects(path: Path, patch: pytest.MonkeyPatch) -> str:
    return store(path)


def as_object_glob(path: Path, patch: pytest.MonkeyPatch) -> str:
    return f"{store(path)}/log*"


def store(path: Path) -> str:
    """A bucket in memory that holds the file."""
    system = pytest.importorskip("fsspec").filesystem("memory")
    bucket = f"/{uuid.uuid4().hex}"
    system.pipe_file(f"{bucket}/{path.name}", path.read_bytes())
    return f"memory:/{bucket}"


Way = Callable[[Path, pytest.MonkeyPatch], str]
WAYS: tuple[Way, ...] = (as_file, as_folder, as_glob, as_pipe, as_object, as_objects, as_object_glob)


def test_every_format_has_a_sample() -> None:
    assert set(FILES) == set(CATALOG)


@pytest.mark.parametrize("kind", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_format_by_every_way(way: Way, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in FILES.items():
        (tmp_path / name).mkdir()
        path = tmp_path / name / "log.txt"
        path.write_text(content)
        source = way(squeezed(path, kind), monkeypatch)
        assert len(list(read_records([source]))) == 2, name


@pytest.mark.parametrize("name", FILES)
def test_a_named_format_reads_what_is_recognised_by_itself(name: str, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(FILES[name])
    found = [record.model_dump() for record in read_records([str(path)])]
    assert found == [record.model_dump() for record in read_records([str(path)], format=name)]
    if name != "tgi-stream":  # a chunk alone is no request yet
        assert detect(FILES[name].split("\n")) == name


@pytest.mark.parametrize("name", FILES)
def test_a_profile_says_which_format_it_read(name: str, tmp_path: Path, tokenizer: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(FILES[name])
    for wanted in (None, name):
        found = build_profile([str(path)], tokenizer=tokenizer, format=wanted)
        assert [one.format for one in found.provenance] == [name]


def test_a_named_format_wins_over_what_a_line_looks_like(write: Any, tokenizer: Path) -> None:
    path = write("log.jsonl", [{**request(n), "prompt_tokens": 5, "completion_tokens": 6} for n in range(4)])
    assert build_profile([str(path)], tokenizer=tokenizer).provenance[0].format == "native"
    found = build_profile([str(path)], format="precounted")
    assert (found.provenance[0].format, found.token_counts, found.output_tokens.p50) == ("precounted", "usage", 6)


def test_an_object_store_that_does_not_answer_is_an_input_error() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(InputError, match=r"nothing to read|cannot"):
        list(read_records(["memory://nobody/put/this.jsonl"]))


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A log with a line of 200 MB between two good ones; packed, as it would not fit a test otherwise."""
    path = tmp_path / "log.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(lines(request(0)).encode() + b'{"completion": "')
        for _ in range(50):
            out.write(b"x" * (4 << 20))
        out.write(b'"}\n' + lines(request(1)).encode())
    return path


@pytest.mark.parametrize("way", [as_file, as_pipe], ids=lambda way: way.__name__)
def test_a_line_of_two_hundred_megabytes_is_passed_over(
    way: Way, endless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tracemalloc

    skipped: list[tuple[str, str, int]] = []
    source = way(endless, monkeypatch)
    tracemalloc.start()
    made = list(read_records([source], on_skip=lambda reason, where, raw: skipped.append((reason, where, len(raw)))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [record.id for record in made] == ["r0", "r1"]
    name = "stdin" if way is as_pipe else endless.name
    assert skipped == [("line too long", f"{name}:2", 4096)]
    assert peak < 160 << 20, "at most the longest line allowed is held, and a copy of it"
