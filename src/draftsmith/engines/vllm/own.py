"""A user's own vLLM command, made to start on this machine. Pure, but for PATH."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import PurePath

from draftsmith.engines.base import Command, Installation, ServerSpec
from draftsmith.engines.vllm import command as vllm_command


def runs(words: Sequence[str]) -> bool:
    """Whether the command serves with vLLM, as far as its words tell."""
    return _console(words) or vllm_command.MODULE in words


def render(
    words: Sequence[str], spec: ServerSpec, installed: Installation | None, threads: str, pythonpath: str
) -> Command:
    """The command with an interpreter that works and an environment. `installed` None: the command brings its own vLLM.

    The console command `vllm` fails with the CPU build, or may not be there: then it runs as a module.
    """
    if installed is None:
        return Command(argv=tuple(words), env={**vllm_command.PRIVACY, **spec.env})
    if _console(words) and (installed.device == "cpu" or shutil.which(words[0]) is None):
        rest = list(words[2:])
        model = [] if not rest or rest[0].startswith("-") else ["--model", rest.pop(0)]
        words = [installed.python, "-m", vllm_command.MODULE, *model, *rest]
    return Command(argv=tuple(words), env=vllm_command.environment(spec, installed, threads, pythonpath))


def _console(words: Sequence[str]) -> bool:
    return len(words) > 1 and PurePath(words[0]).name == "vllm" and words[1] == "serve"
