"""A full server command, as the user wrote it, made startable: host, port, environment, interpreter. Pure, but for PATH."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import PurePath

from draftsmith.contract.errors import InputError
from draftsmith.engines.catalog import engine_of

ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
OURS = ("--host", "--port")
CONTAINERS = frozenset({"docker", "podman", "nerdctl", "kubectl", "ssh", "sbatch", "srun"})


def split_command(text: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Environment and words of `VLLM_X=1 vllm serve MODEL --flag`, quoted as for a shell. Raises InputError."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"the command {text!r} cannot be read: {error}", "quote it as for a shell") from None
    env: dict[str, str] = {}
    while words and ASSIGNMENT.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    if not words:
        raise InputError(f"{text!r} holds no command", 'for example --arm a="vllm serve /models/my-model"')
    return env, tuple(words)


def check_command(arm: str, words: Sequence[str]) -> None:
    """Raise InputError for a command that could not be started, watched and stopped from here."""
    program = PurePath(words[0]).name
    if program in CONTAINERS:
        raise InputError(
            f"arm {arm!r}: a server behind {program} is not a child of this process and could not be stopped",
            f"start it yourself and give its address: --arm {arm}=http://HOST:PORT",
        )
    own = [word for word in words if word.split("=")[0] in OURS]
    if own and not any("{port}" in word for word in words):
        raise InputError(
            f"arm {arm!r} names {own[0]}: every start is given a free port of its own",
            "leave --host and --port out, or write {host} and {port} where they belong",
        )
    if shutil.which(words[0]) is None and engine_of(words) is None:
        raise InputError(f"arm {arm!r}: there is no program {words[0]!r}", "give its full path")


def render(words: Sequence[str], host: str, port: int) -> tuple[str, ...]:
    """The argument list. `{host}` and `{port}` are filled in; without them `--host` and `--port` are added."""
    if any("{port}" in word for word in words):
        return tuple(word.replace("{host}", host).replace("{port}", str(port)) for word in words)
    return (*words, "--host", host, "--port", str(port))
