"""A served model with traffic of its own, a workspace, and the commands an operator gives. Everything real but the engine
and the trainer, which are stand-ins behind the same interface: `engine.python` and `trainer.python`."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny_target import prompts, write_target

from draftsmith.cli import main
from draftsmith.cli.output import Mode
from draftsmith.contract.access import AccessRecord, Timing, Usage
from draftsmith.contract.base import canonical
from draftsmith.kit import processes

FAKES = Path(__file__).parent
SOURCE = FAKES.parent.parent / "src"
SITE = FAKES / "vllm_site"
DEADLINE_S = 400.0  # of a machine that is busy with other things; alone it is a tenth


# The stories are about the loop: what another load on this machine does to a time must not change their end.
LENIENT = {
    "client_server_tolerance": 5.0, "p99_tpot_margin": 5.0, "ttft_margin": 5.0, "throughput_margin": 0.9,
    "forgetting_margin": 5.0,
}  # fmt: skip


def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Poll until `condition` is truthy; returns it."""
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s:.0f} s in vain for {what}")
        time.sleep(0.02)
    return found


def interpreter(folder: Path, program: str) -> str:
    """An executable that runs one of the stand-ins with this Python."""
    script = folder / f"{program}.sh"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKES / program}.py" "$@"\n')
    script.chmod(0o700)
    return str(script)


def answered_log(target: Path, count: int, seed: int = 0) -> list[AccessRecord]:
    """What the target answered to `count` prompts, a second apart, with the engine's own ids."""
    if str(SITE) not in sys.path:
        sys.path.append(str(SITE))  # behind everything installed: only `vllm.answers` is wanted
    model, decoding = _stand_in()
    loaded = model(target)
    found = []
    for number, prompt in enumerate(prompts(count, seed)):
        one = decoding(loaded, loaded.prompt(prompt), prompt["max_tokens"])
        output = list(one.tokens())
        found.append(
            AccessRecord(
                id=prompt["id"],
                model="target",
                route="words",
                messages=prompt["messages"],
                completion=loaded.text(output),
                params=prompt["params"] | {"max_tokens": prompt["max_tokens"]},
                prompt_token_ids=one.prompt,
                output_token_ids=output,
                usage=Usage(prompt_tokens=len(one.prompt), completion_tokens=len(output)),
                timing=Timing(start_unix_s=1_700_000_000.0 + number, ttft_s=0.02, latency_s=0.2),
                finish_reason=one.finish,
            )
        )
    return found


def _stand_in() -> tuple[Any, Any]:
    """Model and Decoding of the stand-in, without making its `vllm` importable under the real one's name."""
    import importlib.util

    def load(name: str, file: str) -> Any:
        spec = importlib.util.spec_from_file_location(name, SITE / "vllm" / file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    shadowed = {
        name: sys.modules.pop(name) for name in ("vllm", "vllm.tiny_llama", "vllm.answers") if name in sys.modules
    }
    try:
        load("vllm.tiny_llama", "tiny_llama.py")
        found = load("vllm.answers", "answers.py")
    finally:
        for name in ("vllm.tiny_llama", "vllm.answers"):
            sys.modules.pop(name, None)
        sys.modules.update(shadowed)
    return found.Model, found.Decoding


@cache
def _made(count: int) -> tuple[Path, str]:
    """A target and its log of `count` answered requests. Made once a process: every world copies them."""
    folder = Path(tempfile.mkdtemp(prefix="draftsmith-world-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = write_target(folder / "target")
    records = answered_log(target, count)
    return target, "".join(canonical(r.model_dump(mode="json", by_alias=True)) + "\n" for r in records)


class Commander:
    """The process that commands are forked from: see `forked.py`."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(DEADLINE_S)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, str(FAKES / "forked.py"), str(theirs.fileno())], env=env, pass_fds=[theirs.fileno()]
            )

    def call(self, argv: list[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+") as said:
            request = json.dumps({"argv": argv, "env": dict(env), "cwd": os.getcwd()}).encode()
            try:
                socket.send_fds(self.ours, [request], [told.fileno(), said.fileno()])
                code = int(self.ours.recv(100))
            except BaseException:
                self.close()  # the answer would be taken for the next one's
                raise
            for file in (told, said):
                file.seek(0)
            return subprocess.CompletedProcess(argv, code, told.read(), said.read())

    def close(self) -> None:
        commander.cache_clear()
        self.process.kill()
        self.process.wait()
        self.ours.close()


@cache
def commander() -> Commander:
    paths = [str(SOURCE), str(FAKES / "full_disk"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    made = Commander({**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    atexit.register(made.close)
    return made


class World:
    """One operator's folder."""

    def __init__(self, base: Path, requests: int = 80, **settings: Mapping[str, Any]) -> None:
        self.base = base
        base.mkdir(parents=True, exist_ok=True)
        made, log = _made(requests)
        self.target = shutil.copytree(made, base / "target")
        self.log = base / "access.jsonl"
        self.workspace = base / "workspace"
        self.file = base / "draftsmith.toml"
        self.env: dict[str, str] = {"FAKE_PROBE": "1"}
        self.log.write_text(log)
        self.configure(**settings)

    def configure(self, **settings: Mapping[str, Any]) -> None:
        """Write draftsmith.toml: a small loop of one block, with these sections changed."""
        sections: dict[str, dict[str, Any]] = {
            "engine": {
                "python": interpreter(self.base, "fake_engine_python"), "max_model_len": 512, "max_num_seqs": 8,
                "cpu_kv_gib": 0.1, "start_timeout_s": 60, "counters_pause_s": 0.01,
            },
            "trainer": {"python": interpreter(self.base, "fake_trainer"), "epochs": 2, "draft_vocab": 128},
            "corpus": {},
            "compare": {
                "prompts": 5, "tuning_prompts": 2, "general_prompts": 0, "contention": {"repeats": 0}, "k_values": [3], "ngram": False, "blocks": 1,
                "resident": "yes", "thresholds": LENIENT | {"max_blocks": 1},
            },
            "serving": {"allow_looser_thresholds": True},
            "backend": {},
            "controller": {},
        }  # fmt: skip
        for name, values in settings.items():
            sections.setdefault(name, {}).update(values)
        lines = [f'target = "{self.target}"', f'profile = "{self.log}"', f'workspace = "{self.workspace}"']
        for name, section in sections.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {_toml(value)}" for key, value in section.items() if value is not None]
        self.file.write_text("\n".join(lines) + "\n")

    # -- commands -------------------------------------------------------------------------------------------------

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "draftsmith", *arguments, "--config", str(self.file)]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        paths = [
            str(SOURCE),
            str(FAKES / "full_disk"),
            *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        ]
        return {**os.environ, **self.env, "PYTHONPATH": os.pathsep.join(paths), **(extra or {})}

    def call(self, *arguments: str, code: int | None = 0, **extra: str) -> subprocess.CompletedProcess[str]:
        """A command to its end, in a process of its own: a fork of one that has imported everything, unless imports change."""
        if "PYTHONPATH" in extra:
            done = subprocess.run(
                self.command(*arguments), env=self.environment(extra), capture_output=True, text=True, timeout=DEADLINE_S,
                stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        else:
            done = commander().call([*arguments, "--config", str(self.file)], self.environment(extra))
        if code is not None:
            assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.stderrs()}"
        return done

    def refused(self, *arguments: str, code: int) -> subprocess.CompletedProcess[str]:
        """A command that ends with an error before it has done anything: carried out in this process, which spares a start."""
        told, said = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(told),
            contextlib.redirect_stderr(said),
        ):
            for name, value in self.environment().items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["draftsmith", *arguments, "--config", str(self.file)])
            patch.setattr(Mode, "json", False)
            with pytest.raises(SystemExit) as end:
                main()
        done = subprocess.CompletedProcess(arguments, int(end.value.code or 0), told.getvalue(), said.getvalue())
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.stderrs()}"
        return done

    def call_plain(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """A command that takes no configuration."""
        done = commander().call(list(arguments), self.environment())
        if code is not None:
            assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def program(self, script: str, *arguments: str, **extra: str) -> int:
        """Run a script in place of the command; returns its exit code."""
        command = [sys.executable, script, *arguments, "--config", str(self.file)]
        return subprocess.run(
            command,
            env=self.environment(extra),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        ).returncode

    def text_of_traffic(self) -> set[str]:
        """Every prompt and answer of the log."""
        found = set()
        for line in self.log.read_bytes().split(b"\n"):
            if line:
                value = json.loads(line)
                found |= {value["completion"], *(turn["content"] for turn in value["messages"])}
        return found - {""}

    def run(self, *arguments: str, code: int | None = 0, **extra: str) -> subprocess.CompletedProcess[str]:
        return self.call("run", "--yes", *arguments, code=code, **extra)

    def start(self, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        """The same in the background; read what it printed from `communicate`."""
        return subprocess.Popen(
            self.command(*arguments), env=self.environment(extra), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    # -- what is on disk --------------------------------------------------------------------------------------------

    def runs(self) -> list[Path]:
        return sorted(path.parent for path in self.workspace.glob("runs/*/run.json"))

    def folder(self) -> Path:
        [only] = self.runs()
        return only

    def events(self) -> list[dict[str, Any]]:
        found = []
        for folder in self.runs():
            found += [json.loads(path.read_text()) for path in sorted(folder.glob("journal/[0-9]*.json"))]
        return found

    def counted(self) -> Counter[tuple[str, str | None]]:
        """(kind, phase) -> events."""
        return Counter((event["kind"], event["phase"]) for event in self.events())

    def done(self, phase: str) -> dict[str, Any]:
        """The last result of a phase."""
        found = [e["data"] for e in self.events() if e["kind"] == "phase_done" and e["phase"] == phase]
        result: dict[str, Any] = found[-1]
        return result

    def stage(self, phase: str) -> str | None:
        for folder in self.runs():
            try:
                return str(json.loads((folder / "phases" / phase / "progress.json").read_text())["stage"])
            except (OSError, ValueError):
                continue
        return None

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.workspace / "service-state.json").read_text())
        return found

    def standing(self) -> Any:
        path = self.workspace / "standing.json"
        return json.loads(path.read_text()) if path.exists() else None

    def stderrs(self) -> str:
        return "\n".join(f"{p}: {p.read_text()[-2000:]}" for p in self.workspace.glob("runs/*/phases/*/stderr.log"))

    # -- processes --------------------------------------------------------------------------------------------------

    def alive(self) -> list[psutil.Process]:
        """Everything that any run of the workspace has on record and that still lives."""
        found = []
        for registry in self.workspace.glob("runs/*/**/processes"):
            for _, record in processes.records(registry):
                found += processes.members(record)
        return found

    def kill(self, driver: subprocess.Popen[str]) -> None:
        """kill -9 of the command; returns once nothing that it started lives any more."""
        tree = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        wait_for(
            lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in tree), "the children", 30
        )
        wait_for(lambda: not self.alive(), "what was started to end", 30)

    def close(self) -> None:
        for registry in self.workspace.glob("runs/*/**/processes"):
            for path, record in processes.records(registry):
                processes.stop(processes.Process(record, path), grace_s=0)


class Snapshot:
    """A workspace at one moment, put back under the same path."""

    def __init__(self, world: World, place: Path) -> None:
        self.world, self.place = world, place
        self.file = world.file.read_text()
        shutil.copytree(world.workspace, place, symlinks=True)

    def restore(self) -> World:
        shutil.rmtree(self.world.workspace)
        shutil.copytree(self.place, self.world.workspace, symlinks=True)
        self.world.file.write_text(self.file)
        return self.world


class Travelled:
    """One run, taken through the loop once. `before[phase]` is the workspace as it was when that phase came next."""

    def __init__(self, world: World, place: Path) -> None:
        self.world, self.place = world, place
        self.before: dict[str, Snapshot] = {}
        self.results: dict[str, dict[str, object]] = {}

    def to(self, phase: str) -> World:
        return self.before[phase].restore()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)
