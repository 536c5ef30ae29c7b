"""Servers that speak the engine's wire protocol, and `draftsmith compare` on them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from draftsmith.api import comparisons as comparison
from draftsmith.cli import main
from draftsmith.cli.output import Mode
from draftsmith.client import replay
from draftsmith.contract.jobs import ComparePlan
from draftsmith.engines import process as server_process
from draftsmith.kit import processes
from draftsmith.loop.jobs import read_progress
from draftsmith.work import job
from draftsmith.work.compare.job import body
from draftsmith.work.job import Job

FAKES = Path(__file__).parent.parent / "fakes"
sys.path.insert(0, str(FAKES))

from loop_world import LENIENT, interpreter, wait_for  # noqa: E402 - from the folder above
from tiny_target import prompts, write_target  # noqa: E402

SOURCE = FAKES.parent.parent / "src"
SMALL = {**LENIENT, "max_blocks": 1}


class Bench:
    """A folder with prompts, a target and a stand-in for the engine; every server's figures come from FAKE_VLLM.

    `compare` is the command in this process, with its job in place and without its waits; `start` is the real one.
    """

    def __init__(self, base: Path, shared: Path, patch: pytest.MonkeyPatch, count: int = 6) -> None:
        self.base, self.patch = base, patch
        self.target = shared / "target"
        self.python = str(shared / "fake_engine_python.sh")
        if not self.target.exists():
            write_target(self.target)
            interpreter(shared, "fake_engine_python")
        self.prompts = base / "prompts.jsonl"
        rows = [p | {"arrival_s": 5.0 + 0.03 * n} for n, p in enumerate(prompts(count, 3))]
        for row in rows:
            row["max_tokens"] = 8
            row.get("params", {}).pop("max_tokens", None)
        self.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.out = base / "comparison"
        self.figures: dict[str, Any] = {}
        self.env: dict[str, str] = {"FAKE_VLLM": json.dumps({"step_ms": 4, "first_ms": 6})}

    def serve(self, *flags: str) -> str:
        """A whole server command."""
        return " ".join([self.python, "-m", "vllm.entrypoints.openai.api_server", *self.model(), *flags])

    def model(self) -> list[str]:
        return f"--model {self.target} --served-model-name m --max-model-len 512 --max-num-seqs 8".split(" ")

    def command(self, *arms: str, **settings: Any) -> list[str]:
        values = {
            "engine.python": self.python,
            "engine.max_model_len": 512,
            "engine.max_num_seqs": 8,
            "engine.counters_pause_s": 0.01,
        }
        values |= {"engine.cpu_kv_gib": 0.1, "compare.resident": "yes", "compare.general_prompts": 0}
        values |= {"compare.contention.repeats": 0}  # other tests run beside it: what it repeats would be chance
        values |= {f"compare.thresholds.{k}": v for k, v in SMALL.items()} | settings
        words = [sys.executable, "-m", "draftsmith", "compare", "--prompts", str(self.prompts), "--out", str(self.out)]
        words += ["--blocks", "1"]
        for arm in arms:
            words += ["--arm", arm]
        for key, value in values.items():
            words += ["--set", f"{key}={json.dumps(value)}"]
        return words

    def stage(self) -> tuple[str, str]:
        """Stage and note of the comparison now."""
        told = read_progress(self.out)
        return (told.stage, told.note) if told else ("", "")

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.env, "PYTHONPATH": str(SOURCE)}

    def compare(self, *arms: str, more: tuple[str, ...] = (), code: int = 0, **settings: Any) -> dict[str, Any]:
        return self.call([*self.command(*arms, **settings)[3:], *more], code)

    def call(self, words: list[str], code: int = 0) -> dict[str, Any]:
        """One command with --json; returns what it printed last."""
        value: dict[str, Any] = json.loads("{" + self.printed(words, code).split("\n{")[-1].removeprefix("{"))
        return value

    def call_list(self, words: list[str]) -> list[dict[str, Any]]:
        """The same of a command that prints a list."""
        value: list[dict[str, Any]] = json.loads(self.printed(words))
        return value

    def printed(self, words: list[str], code: int = 0) -> str:
        """What one command with --json prints."""
        said, told = io.StringIO(), io.StringIO()
        for name, value in self.env.items():
            self.patch.setenv(name, value)
        self.patch.setenv("PYTHONPATH", str(SOURCE))
        self.patch.chdir(self.base)
        self.patch.setattr(comparison, "run_here", self._in_place)
        self.patch.setattr(server_process, "POLL_S", 0.02)
        self.patch.setattr(replay, "BACKOFF_S", 0.0)
        self.patch.setattr(job, "PROGRESS_EVERY_S", 0.0)
        self.patch.setattr(sys, "argv", ["draftsmith", *words, "--json"])
        self.patch.setattr(Mode, "json", False)
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as end:
            main()
        self.said = said.getvalue()
        assert (end.value.code or 0) == code, f"{told.getvalue()}\n{self.said}"
        return told.getvalue()

    def _in_place(self, _: str, request: Path, console: Any) -> None:
        """The job in this process: its progress goes to the console as it would from its file."""
        folder = request.parent
        running = Job(folder, ComparePlan.model_validate_json(request.read_text()))
        for name in ("stdout.log", "stderr.log"):
            (folder / name).touch()
        self.figures = body(running).figures()
        if told := read_progress(folder):
            console.progress("compare", told)

    def start(self, *arms: str, more: tuple[str, ...] = (), **settings: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.command(*arms, **settings), *more, "--json"], env=self.environment(), cwd=self.base, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def lines(self) -> list[dict[str, Any]]:
        path = self.out / "samples.jsonl"
        return [json.loads(line) for line in path.read_bytes().split(b"\n") if line] if path.exists() else []

    def plan(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "plan-frozen.json").read_text())
        return found

    @contextmanager
    def running(self, *flags: str, port: int = 0, **fake: Any) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        """A server of somebody else: its address and its process."""
        with self._started(self.serve(*flags).split(" "), port or free_port(), fake) as (url, process):
            yield url, process

    @contextmanager
    def serving(self, module: str, flags: str, **fake: Any) -> Iterator[str]:
        """The same of another engine's module: its address."""
        with self._started([self.python, "-m", module, *flags.split(" ")], free_port(), fake) as (url, _):
            yield url

    @contextmanager
    def _started(
        self, words: list[str], port: int, fake: dict[str, Any]
    ) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
        given = {**json.loads(self.env["FAKE_VLLM"]), **fake}
        words = [*words, "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(
            words, env={**self.environment(), "FAKE_VLLM": json.dumps(given)}, stdout=subprocess.DEVNULL
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: _answers(url), "a server", 30)
            yield url, process
        finally:
            process.kill()
            process.wait()

    def left_behind(self) -> list[psutil.Process]:
        """Servers that a comparison of this folder started and that still live."""
        return [
            member for _, record in processes.records(self.out / "processes") for member in processes.members(record)
        ]

    def servers(self) -> list[psutil.Process]:
        """Every server of the target."""
        mark = str(self.target)
        found = []
        for process in psutil.process_iter():
            try:
                if mark in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, count: int) -> None:
    """Foreign traffic: `count` short requests."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "river"}], "max_tokens": 4}).encode()
    for _ in range(count):
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", data=body, headers={"content-type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).read()


def kill(process: psutil.Process) -> None:
    process.send_signal(signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{url}/health", timeout=2).status == 200)
    except OSError:
        time.sleep(0.02)
        return False
