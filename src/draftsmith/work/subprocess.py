"""Running a module of Draftsmith in another interpreter, which need not have Draftsmith installed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import draftsmith
from draftsmith.kit import processes
from draftsmith.kit.clock import pauses

SOURCE_ROOT = str(Path(draftsmith.__file__).resolve().parent.parent)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment with Draftsmith importable, no hub access, and threads that sleep while they wait. A module in the current
    folder is not imported.

    OpenMP's default is to spin: beside any other load on the machine a training step then takes twenty times as long.
    """
    variables = dict(os.environ)
    paths = [SOURCE_ROOT, *filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))]
    quiet = {
        "PYTHONSAFEPATH": "1",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    return variables | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))} | quiet | dict(extra or {})


def run_module(
    module: str,
    arguments: Sequence[str],
    python: str | None,
    log: Path,
    registry: Path,
    *,
    env: Mapping[str, str] | None = None,
    every: Callable[[], None] | None = None,
    poll_s: float = 0.5,
) -> int:
    """Run `python -m module`, output to `log`; call `every` while it runs. Returns the exit code; always stopped."""
    child = processes.start(
        [python or sys.executable, "-m", module, *arguments],
        registry=registry,
        label=module,
        log=log,
        env=environment(env),
    )
    try:
        pause = pauses(poll_s)
        while (code := child.exit_code()) is None:
            time.sleep(next(pause))
            if every:
                every()
        return code
    finally:
        processes.stop(child)
