"""Containers of canaries, executed here: a small model in the place of the mounted one, reached at a port of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FAKES = Path(__file__).parent.parent / "fakes"
sys.path.insert(0, str(FAKES))

from fake_cluster import Object  # noqa: E402
from tiny_target import write_target  # noqa: E402

from draftsmith.engines.base import free_port  # noqa: E402
from draftsmith.serving.canary_text import ArmObjects  # noqa: E402

SITE = FAKES / "vllm_site"


class Containers:
    """Executes the server of a canary's container. `volumes`: folder in containers -> the same folder here."""

    def __init__(self, folder: Path, **fake: Any) -> None:
        self.folder = folder
        self.target = write_target(folder / "target")
        self.fake = {"step_ms": 6, "first_ms": 5} | fake
        self.volumes = {"/models/base": str(self.target)}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.urls: dict[str, str] = {}

    def url(self, arm: ArmObjects, pod: Object) -> str:
        """Where the pod is reached; starts it the first time."""
        [container] = pod["spec"]["containers"]
        name = pod["metadata"]["name"]
        if name in self.urls:
            return self.urls[name]
        self.kill(name.rsplit("-", 1)[0])  # a Job has one pod at a time
        port = free_port()
        flags = [self._here(word) for word in container["args"]]
        flags = [f"--port={port}" if word.startswith("--port=") else word for word in flags]
        defaults = ["--host", "127.0.0.1", "--max-model-len", "512", "--max-num-seqs", "4"]
        env = {**os.environ, "PYTHONPATH": str(SITE), "FAKE_VLLM": json.dumps(self.fake)}
        env |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with self.log_file(name).open("wb") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *flags, *defaults],
                stdout=log, stderr=log, env=env,
            )  # fmt: skip
        self.urls[name] = f"http://127.0.0.1:{port}"
        return self.urls[name]

    def log_file(self, pod: str) -> Path:
        return self.folder / f"{pod}.log"

    def log(self, pod: Object) -> str:
        return self.log_file(pod["metadata"]["name"]).read_text()

    def kill(self, part: str) -> None:
        """The containers whose pod has `part` in its name end at once."""
        for name, process in self.running.items():
            if part in name:
                process.kill()
                process.wait()

    def close(self) -> None:
        self.kill("")

    def _here(self, word: str) -> str:
        for inside, here in self.volumes.items():
            word = word.replace(inside, here)
        return word


@contextmanager
def containers_in(folder: Path, **fake: Any) -> Iterator[Containers]:
    """Containers that end with the story."""
    made = Containers(folder, **fake)
    try:
        yield made
    finally:
        made.close()
