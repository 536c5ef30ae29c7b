"""Containers of canaries, executed here: a small model in the place of the mounted one, reached at a port of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

FAKES = Path(__file__).parent.parent / "fakes"
sys.path.insert(0, str(FAKES))

from fake_cluster import Object  # noqa: E402
from tiny_target import write_target  # noqa: E402

from draftsmith.engines.base import free_port  # noqa: E402
from draftsmith.serving.canary.text import ArmObjects  # noqa: E402

SITE = FAKES / "vllm_site"
FORKING = """
import json, os, runpy, signal, sys
import argparse, http.server, numpy, safetensors.numpy, tokenizers, uuid
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number in (1, 2):
            os.dup2(log, number)
        os.environ.update(asked["env"])
        sys.argv = ["api_server", *asked["flags"]]
        runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
        os._exit(0)
    print(child, flush=True)
"""


class Forker:
    """Starts servers at once: a process that has imported what all of them need, and forks."""

    def __init__(self) -> None:
        env = {**os.environ, "PYTHONPATH": str(SITE), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-c", FORKING], env=env, stdin=pipe, stdout=pipe, text=True)

    def start(self, flags: list[str], log: Path, env: dict[str, str]) -> int:
        """Process id of a server."""
        into, out = self.process.stdin, self.process.stdout
        assert into is not None
        assert out is not None
        into.write(json.dumps({"flags": flags, "log": str(log), "env": env}) + "\n")
        into.flush()
        return int(out.readline())

    def close(self) -> None:
        self.process.communicate()


class Containers:
    """Executes the server of a canary's container. `volumes`: folder in containers -> the same folder here."""

    def __init__(self, folder: Path, forker: Forker, **fake: Any) -> None:
        self.folder, self.forker = folder, forker
        self.target = write_target(folder / "target")
        self.fake = {"step_ms": 6, "first_ms": 5} | fake
        self.volumes = {"/models/base": str(self.target)}
        self.running: dict[str, int] = {}
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
        flags += ["--host", "127.0.0.1", "--max-model-len", "512", "--max-num-seqs", "4"]
        self.running[name] = self.forker.start(flags, self.log_file(name), {"FAKE_VLLM": json.dumps(self.fake)})
        self.urls[name] = f"http://127.0.0.1:{port}"
        return self.urls[name]

    def log_file(self, pod: str) -> Path:
        return self.folder / f"{pod}.log"

    def log(self, pod: Object) -> str:
        return self.log_file(pod["metadata"]["name"]).read_text()

    def kill(self, part: str) -> None:
        """The containers whose pod has `part` in its name end at once."""
        for name in [name for name in self.running if part in name]:
            process = self.running.pop(name)
            with suppress(ProcessLookupError):
                while True:  # until it is gone: its end is no event here, since it is no child of this process
                    os.kill(process, signal.SIGKILL)
                    time.sleep(0.001)

    def close(self) -> None:
        self.kill("")

    def _here(self, word: str) -> str:
        for inside, here in self.volumes.items():
            word = word.replace(inside, here)
        return word


@contextmanager
def containers_in(folder: Path, forker: Forker, **fake: Any) -> Iterator[Containers]:
    """Containers that end with the story."""
    made = Containers(folder, forker, **fake)
    try:
        yield made
    finally:
        made.close()
