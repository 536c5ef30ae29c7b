"""A standing configuration in a JSON file that the server's start script reads.

The file holds the engine's speculative config itself (an object, or null for off), so that a start script can pass it on:
`--speculative-config "$(cat standing.json)"`. Draftsmith writes the file; restarting the server stays the operator's act.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from draftsmith.contract.base import canonical
from draftsmith.contract.config import ServingConfig
from draftsmith.contract.errors import InputError, RefusedError
from draftsmith.contract.speculation import SpecConfig
from draftsmith.kit.files import write_atomic
from draftsmith.kit.lock import LockHeldError, held

WAIT_S = 30.0


class LocalServing:
    """See serving.base.Serving."""

    def __init__(self, config: ServingConfig, workspace: Path) -> None:
        self.config = config
        self.file = Path(config.config_file) if config.config_file else workspace / "standing.json"

    def current(self) -> SpecConfig:
        """The file's content; before the first promotion there is none, and the configured value counts."""
        if not self.file.exists():
            return self.config.standing_config
        try:
            value = json.loads(self.file.read_text(encoding="utf-8") or "null")
        except (ValueError, OSError) as error:
            raise InputError(
                f"{self.file.name} cannot be read as a speculative config ({type(error).__name__})",
                "it must hold a JSON object, or null for off",
            ) from None
        if value is not None and not isinstance(value, dict):
            raise InputError(f"{self.file.name} holds no JSON object", "it must hold a JSON object, or null for off")
        return value

    def fingerprint(self) -> None:
        """See Serving: the server is not seen from here."""

    def switch(self, expected: SpecConfig, new: SpecConfig) -> None:
        """See Serving. A link is followed and the file keeps its mode: the start script still reads it."""
        place = Path(os.path.realpath(self.file))

        def still_expected() -> None:
            if canonical(self.current()) != canonical(expected):
                raise RefusedError(
                    "the standing configuration is not the one that was compared",
                    "compare again against what serves now",
                )

        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(place.with_name(f".{place.name}.lock"), WAIT_S))
            except LockHeldError:
                raise RefusedError(
                    f"another process is writing {place.name}", "run the same command again when it has ended"
                ) from None
            if canonical(self.current()) == canonical(new):
                return
            still_expected()
            # Looked at again when all but the rename is done: a slow disk leaves time for somebody else's switch.
            write_atomic(place, json.dumps(new, indent=2) + "\n", keep_mode=True, check=still_expected)
