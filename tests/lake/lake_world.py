"""Bundles to publish, and an S3 server of somebody else's on loopback."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
from bundle_world import parts

from draftsmith.store.evidence import write_bundle

ROOT = Path(__file__).parent.parent.parent


def bundle(folder: Path, run_id: str = "0001", *, family: str = "smollm2", blocks: int = 4) -> Path:
    return write_bundle(folder, replace(parts(blocks), run_id=run_id, family=family))


def moto_command() -> str | None:
    """moto wants an older python-dateutil than the rest: it has an environment of its own (.ci/foreign.sh)."""
    beside = ROOT / ".cache" / "foreign" / "bin" / "moto_server"
    return os.environ.get("DRAFTSMITH_MOTO") or (str(beside) if beside.exists() else shutil.which("moto_server"))


@contextmanager
def s3_server(command: str, log: Path) -> Iterator[str]:
    with log.open("wb") as out:
        server = subprocess.Popen([command, "-H", "127.0.0.1", "-p", "0"], stdout=out, stderr=subprocess.STDOUT)
    try:
        for _ in range(200):
            found = re.search(rb"http://127\.0\.0\.1:(\d+)", log.read_bytes())
            if found:
                yield found[0].decode()
                return
            if server.poll() is not None:
                break
            try:
                server.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        raise RuntimeError(log.read_text())
    finally:
        server.terminate()
        server.wait(10)


def make_bucket(endpoint: str, name: str) -> None:
    httpx.put(f"{endpoint}/{name}", headers={"host": httpx.URL(endpoint).netloc.decode()}).raise_for_status()
