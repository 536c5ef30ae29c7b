"""The same over the S3 protocol, against moto's server in a process and an environment of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from lake_world import bundle, make_bucket, moto_command, s3_server

from draftsmith import api
from draftsmith.contract.errors import BackendError, InputError
from draftsmith.lake import places

MOTO = moto_command()
pytestmark = pytest.mark.skipif(MOTO is None, reason="no moto_server here: .ci/foreign.sh installs it")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    assert MOTO
    with s3_server(MOTO, tmp_path_factory.mktemp("moto") / "log") as address:
        make_bucket(address, "perf-lake")
        yield address


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_published_once_and_asked(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    first = api.ship(bundle(tmp_path), "s3://perf-lake/drafts")
    again = api.ship(bundle(tmp_path), "s3://perf-lake/drafts")
    assert (len(first.written), len(again.written)) == (3, 0)
    listed = httpx.get(f"{endpoint}/perf-lake?list-type=2&prefix=drafts/campaigns/").text
    assert listed.count("<Key>") == 1
    assert first.manifest_sha256 in listed
    assert api.ask_lake("s3://perf-lake/drafts", "SELECT campaign, family FROM campaigns").rows == (
        ("0001", "smollm2"),
    )
    assert api.ask_lake("s3://perf-lake/drafts", "cost").rows


def test_a_bucket_that_is_not_there(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(InputError, match="no such bucket"):
        api.ship(bundle(tmp_path), "s3://another/drafts")


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(BackendError, match="cannot be reached") as gone:
        api.ship(bundle(tmp_path), "s3://perf-lake/drafts")
    assert "run the same command again" in gone.value.next_step


def test_a_bucket_that_never_answers_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "REQUEST_S", 0.5)
    monkeypatch.setattr(places, "ATTEMPTS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        held: list[socket.socket] = []

        def keep() -> None:
            while True:
                try:
                    held.append(silent.accept()[0])
                except OSError:  # closed: the test is over
                    return

        threading.Thread(target=keep, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(BackendError):
            api.ship(bundle(tmp_path), "s3://perf-lake/drafts")
        assert time.monotonic() - began < 15
        for connection in held:
            connection.close()
