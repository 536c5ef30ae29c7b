"""service-state.json: no writer loses what another one wrote, and no version destroys what it does not understand."""

from __future__ import annotations

import json
import multiprocessing
import threading
from pathlib import Path

import pytest

from draftsmith.contract.errors import InputError, RefusedError
from draftsmith.contract.state import ServiceState
from draftsmith.kit.lock import held
from draftsmith.store.state import change, read_state, remember

EACH = 40


def noted(state: ServiceState | None, name: str) -> ServiceState:
    return remember(state or ServiceState(experiment_id="e", target="t"), "noted", run_id=name)


def write_many(workspace: Path, who: str) -> None:
    for number in range(EACH):
        change(workspace, lambda state, number=number: noted(state, f"{who}-{number}"))  # type: ignore[misc]


def test_what_two_processes_write_at_once_is_all_there(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(tmp_path, who)) for who in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    state = read_state(tmp_path)
    assert state is not None
    names = [entry.run_id for entry in state.history]
    assert sorted(map(str, names)) == sorted(f"{who}-{number}" for who in "ab" for number in range(EACH))


def test_a_writer_waits_for_the_one_before_it_and_sees_what_it_wrote(tmp_path: Path) -> None:
    """The second change begins while the first one has read and has not written yet."""
    began = threading.Event()

    def second() -> None:
        began.set()
        change(tmp_path, lambda state: noted(state, "second"))

    thread = threading.Thread(target=second)

    def first(state: ServiceState | None) -> ServiceState:
        thread.start()
        began.wait(60)
        return noted(state, "first")

    change(tmp_path, first)
    thread.join(60)
    state = read_state(tmp_path)
    assert state is not None
    assert [entry.run_id for entry in state.history] == ["first", "second"]


def test_a_lock_that_is_not_given_back_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with held(tmp_path / "service-state.lock"), pytest.raises(RefusedError, match=r"service-state\.json"):
        change(tmp_path, lambda state: noted(state, "late"), wait_s=0)
    assert read_state(tmp_path) is None


def test_a_change_that_fails_leaves_the_file_and_gives_the_lock_back(tmp_path: Path) -> None:
    change(tmp_path, lambda state: noted(state, "kept"))
    before = (tmp_path / "service-state.json").read_bytes()

    def fails(_: ServiceState | None) -> ServiceState:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        change(tmp_path, fails)
    assert (tmp_path / "service-state.json").read_bytes() == before
    change(tmp_path, lambda state: noted(state, "next"), wait_s=0)


def test_keys_of_a_newer_version_are_kept(tmp_path: Path) -> None:
    newer = {
        "schema": "specdec_service_v1", "experiment_id": "e", "target": "t", "canary": {"share": 0.1},
        "history": [{"at_unix_s": 1.0, "event": "canaried", "share": 0.1}],
    }  # fmt: skip
    (tmp_path / "service-state.json").write_text(json.dumps(newer))
    change(tmp_path, lambda state: noted(state, "mine"))
    written = json.loads((tmp_path / "service-state.json").read_text())
    assert written["canary"] == {"share": 0.1}
    assert written["history"][0]["share"] == 0.1
    assert written["schema"] == "specdec_service_v1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema": "specdec_service_v2", "experiment_id": "e"}', "specdec_service_v2"),
        ('{"schema": "specdec_service_v1", "experi', "cannot be read"),
        ("[]", "cannot be read"),
        ("", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_and_not_overwritten(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "service-state.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        change(tmp_path, lambda state: noted(state, "mine"))
    assert path.read_text() == text
