"""Following a recorder's folder: nothing is read twice, nothing is lost, whatever happens to the files."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from draftsmith.contract.errors import ConfigError, InputError
from draftsmith.contract.policy import Policy
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.controller.cursor import Place, added, files, moved_to, require_local, settle
from draftsmith.controller.traffic import TrafficReader
from draftsmith.profiling.profile import build_profile

NOW = 1_800_000_000.0
POLICY = Policy(window_s=100, window_requests=200, replay_share=0.2)


def record(number: int, kind: str = "chat") -> bytes:
    text = {
        "chat": "Tell me about the sea and its ships please",
        "code": "def f(x):\n    return [x * 2 for x in range(9)]",
    }[kind]
    chance = random.Random(number)
    words = " ".join(chance.choices(text.split(), k=chance.randint(4, 30)))
    value = {
        "schema": "draftsmith_access_v1", "id": f"{kind}-{number}", "model": "m", "messages": [{"role": "user", "content": words}],
        "completion": " ".join(chance.choices(text.split(), k=chance.randint(5, 40))),
        "usage": {"prompt_tokens": len(words.split()), "completion_tokens": chance.randint(5, 40)},
    }  # fmt: skip
    return json.dumps(value).encode() + b"\n"


def reader(folder: Path, log: Path, policy: Policy = POLICY) -> TrafficReader:
    def profile(path: Path) -> WorkloadProfile:
        return build_profile([str(path)])

    return TrafficReader(folder / "controller", [str(log)], policy, profile)


def append(path: Path, lines: list[bytes]) -> None:
    with path.open("ab") as out:
        out.write(b"".join(lines))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def test_only_what_is_new_is_read_and_a_restart_forgets_nothing(tmp_path: Path, log: Path) -> None:
    one = log / "access-1.jsonl"
    append(one, [record(n) for n in range(10)])
    assert reader(tmp_path, log).look(NOW).new == 10
    append(one, [record(n) for n in range(10, 15)])
    append(one, [b'{"half of a li'])
    again = reader(tmp_path, log)
    assert again.look(NOW + 1).new == 15
    append(one, [b'ne": 1}\n'])
    append(log / "access-2.jsonl", [record(99)])
    assert again.look(NOW + 2).new == 17
    assert again.look(NOW + 3).identity == again.look(NOW + 4).identity


def test_a_renamed_file_goes_on_and_a_compressed_one_is_passed_over(tmp_path: Path, log: Path) -> None:
    one = log / "access.log"
    append(one, [record(n) for n in range(5)])
    follows = reader(tmp_path, log)
    follows.look(NOW)
    one.rename(log / "access.log.1")
    append(log / "access.log.1", [record(6)])
    append(one, [record(7), record(8)])
    (log / "access.log.2.gz").write_bytes(b"\x1f\x8b")
    (log / ".counts-1.json").write_text("{}")
    assert follows.look(NOW + 1).new == 8


def test_a_file_that_was_cut_is_read_from_its_start_and_it_is_said(tmp_path: Path, log: Path) -> None:
    one = log / "access.log"
    append(one, [record(n) for n in range(5)])
    follows = reader(tmp_path, log)
    follows.look(NOW)
    one.write_bytes(record(7))
    seen = follows.look(NOW + 1)
    assert seen.new == 6
    assert seen.trouble is not None
    assert "shrank" in seen.trouble


def test_a_file_that_was_cut_and_grew_past_its_old_size_is_known_by_its_head(tmp_path: Path, log: Path) -> None:
    one = log / "access.log"
    append(one, [record(1)])
    follows = reader(tmp_path, log)
    follows.look(NOW)
    with one.open("r+b") as out:  # the same inode, as copytruncate leaves it
        out.truncate(0)
        out.write(b"".join(record(n, "code") for n in range(20)))
    seen = follows.look(NOW + 1)
    assert seen.new == 21
    assert "another file" in str(seen.trouble)


def test_a_folder_that_is_away_is_no_empty_folder(tmp_path: Path, log: Path) -> None:
    follows = reader(tmp_path, log)
    append(log / "a.jsonl", [record(1)])
    follows.look(NOW)
    log.rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="No such file"):
        follows.look(NOW + 1)
    (tmp_path / "elsewhere").rename(log)
    assert follows.look(NOW + 2).new == 1


def test_sources_that_cannot_be_followed_are_refused_at_once() -> None:
    for source in ("s3://bucket/log", "-"):
        with pytest.raises(ConfigError, match="cannot follow"):
            require_local([source])
    with pytest.raises(ConfigError, match="no traffic"):
        require_local([])


def test_windows_without_drift_move_nothing_and_drift_is_counted_window_by_window(tmp_path: Path, log: Path) -> None:
    follows, one, now = reader(tmp_path, log), log / "a.jsonl", NOW
    moved = []
    for window in range(7):
        kind = "chat" if window < 3 else "code"
        append(one, [record(1000 * window + n, kind) for n in range(300)])
        follows.look(now)
        now += 101
        moved.append(follows.look(now).moved)
    assert moved == [0, 0, 0, 1, 2, 3, 4]
    assert "moved" in follows.seen().drift
    assert not (tmp_path / "controller" / ".window.jsonl").exists()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "controller").rglob("*") if path.is_file())
    assert b"ships" not in kept


def test_a_window_of_nothing_usable_says_so(tmp_path: Path, log: Path) -> None:
    follows = reader(tmp_path, log)
    append(log / "a.jsonl", [b'{"nothing": 1}\n'] * 100)
    follows.look(NOW)
    seen = follows.look(NOW + 200)
    assert seen.windows == 0
    assert "could not be profiled" in str(seen.trouble)


def test_the_traffic_of_a_run_is_the_new_and_a_share_of_the_old(tmp_path: Path, log: Path) -> None:
    follows, one = reader(tmp_path, log), log / "a.jsonl"
    append(one, [record(n) for n in range(4000)])
    first = follows.look(NOW)
    follows.snapshot(tmp_path / "run1", first.identity)
    follows.begun(first.identity)
    append(one, [record(n, "code") for n in range(1000)])
    second = follows.look(NOW + 1)
    assert second.new == 1000
    path = follows.snapshot(tmp_path / "run2", second.identity)
    lines = path.read_bytes().splitlines()
    new = sum(b'"code-' in line for line in lines)
    assert new == 1000
    assert 0.15 < 1 - new / len(lines) < 0.25
    assert path.stat().st_mode & 0o077 == 0
    assert follows.snapshot(tmp_path / "run2", second.identity).read_bytes() == path.read_bytes()
    follows.begun(second.identity)
    follows.begun(second.identity)
    assert follows.look(NOW + 2).new == 0


def test_a_run_is_given_no_more_than_its_cap(tmp_path: Path, log: Path) -> None:
    follows = reader(tmp_path, log, POLICY.model_copy(update={"snapshot_mib": 0.1}))
    append(log / "a.jsonl", [record(n) for n in range(3000)])
    path = follows.snapshot(tmp_path / "run", follows.look(NOW).identity)
    assert 0.05 * 2**20 < path.stat().st_size < 0.12 * 2**20


def test_places_survive_a_random_history(tmp_path: Path, log: Path) -> None:
    """Appends of any length cut anywhere, renames, new files: every whole line is seen once."""
    chance = random.Random(7)
    follows, written, now = reader(tmp_path, log), 0, NOW
    paths = [log / "f0"]
    for step in range(120):
        path = chance.choice(paths)
        lines = [record(written + n) for n in range(chance.randint(0, 4))]
        written += len(lines)
        data = b"".join(lines)
        cut = chance.randint(0, len(data))
        append(path, [data[:cut]])
        follows.look(now)
        append(path, [data[cut:]])
        if chance.random() < 0.2:
            path.rename(log / f"old-{step}")
            paths.remove(path)
            paths.append(log / f"f{step + 1}")
        if chance.random() < 0.2:
            follows = reader(tmp_path, log)
        now += 1
    assert follows.look(now).new == written


def test_the_place_of_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    place, strange = settle(path, None)
    assert (list(added(place)), strange) == ([], None)
    assert moved_to(Place(path=str(path)), 0).head_bytes == 0
    assert files([str(path)]) == [path]
    with pytest.raises(InputError):
        build_profile([str(path)])
