"""A capture folder that others made: recording stops and goes on, and serving never waits for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from model_server import Place, chat, settings

from draftsmith.recorder import files as capture_files


def test_a_folder_without_rights_is_said_at_once_and_written_as_soon_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may run as root, whom no mode of a folder stops."""
    heard: list[str] = []
    denied = OSError(13, "Permission denied")
    monkeypatch.setattr(capture_files, "LOOK_AGAIN_S", 0.0)
    with monkeypatch.context() as locked:
        locked.setattr(capture_files, "private_dir", lambda folder: (_ for _ in ()).throw(denied))
        files = capture_files.CaptureFiles(settings(tmp_path), heard.append)
        assert "nothing is recorded until it can" in heard[0]
        assert files.add(b"{}") is False
        assert "recording stopped" in heard[1]
    assert files.add(b"{}") is True
    assert heard[2] == "recording goes on"
    files.close()


def test_a_pipe_under_the_name_of_a_record_does_not_stop_the_recorder(tmp_path: Path) -> None:
    place = Place(tmp_path, total_bytes=1)  # every old file is to be removed
    place.settings.folder.mkdir(parents=True, exist_ok=True)
    os.mkfifo(place.settings.folder / "access-0.jsonl")
    place.post(chat())
    assert place.close() == {"recorded": 1}


@pytest.mark.parametrize(
    "more", [{"documents": [{"text": "a"}]}, {"continue_final_message": True}, {"add_generation_prompt": False}]
)
def test_a_prompt_that_is_more_than_its_messages_is_not_recorded(more: dict[str, object], tmp_path: Path) -> None:
    """It could not be asked again: its messages alone give another prompt."""
    place = Place(tmp_path)
    place.post(chat(**more))
    assert place.close() == {"unsupported": 1}
