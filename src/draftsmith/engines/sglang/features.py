"""What an installed SGLang can do, found out without importing it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import lru_cache
from typing import Any

from draftsmith.contract.errors import PrerequisiteError
from draftsmith.engines.base import Device, Features, Installation

PROBE_TIMEOUT_S = 60.0
_PROBE = """
import importlib.metadata as m, importlib.util as u, json
found = {}
for name in ("sglang", "torch"):
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
found["flashinfer"] = u.find_spec("flashinfer") is not None
print(json.dumps(found))
"""

TRAINED = frozenset({"eagle", "eagle3", "mtp", "nextn", "draft_model", "standalone", "ngram"})
BLOCKS = frozenset({"dflash"})
METHODS = TRAINED | BLOCKS | {"dspark"}
STEPS, MORE_STEPS = (0, 1, 3, 7), (0, 1, 3, 5, 7)
UNCOUNTED = (
    "it counts no verify calls: acceptance length is not known, and what is served is compared by its times alone"
)

NEWEST: dict[str, Any] = {
    "methods": METHODS, "corpus": True, "adaptive_steps": MORE_STEPS, "per_request_metrics": True, "draft_updates": True,
}  # fmt: skip


def _release(release: str, methods: frozenset[str], **more: Any) -> Features:
    values: dict[str, Any] = {"per_request_metrics": False, "synthetic": "engine", **more}
    return Features(release=release, methods=methods, **values)


# Read from each release's own source; 0.5.17 is the one that the recordings are of. Ascending.
KNOWN: dict[tuple[int, int, int], Features] = {
    (0, 5, 9): _release("0.5.9", TRAINED, note=f"SGLang 0.5.9: {UNCOUNTED}"),
    (0, 5, 11): _release(
        "0.5.11", TRAINED | BLOCKS, corpus=True, adaptive_steps=(1, 3, 7), note=f"SGLang 0.5.11: {UNCOUNTED}"
    ),
    (0, 5, 13): _release("0.5.13", TRAINED | BLOCKS, corpus=True, adaptive_steps=(1, 3, 7)),
    (0, 5, 14): _release("0.5.14", TRAINED | BLOCKS, corpus=True, adaptive_steps=STEPS),
    (0, 5, 16): _release("0.5.16", METHODS, corpus=True, adaptive_steps=STEPS),
    (0, 5, 17): _release("0.5.17", METHODS, corpus=True, adaptive_steps=STEPS),
    (0, 5, 20): _release("0.5.20", METHODS, corpus=True, adaptive_steps=MORE_STEPS, per_request_metrics=True),
    (0, 5, 22): _release("0.5.22", **NEWEST),
    (0, 5, 23): _release("0.5.23", **NEWEST, adaptive_room=True),
}
OLDEST = (0, 5)


def features(version: str) -> Features:
    """Features of `version`; `note` says where it is another one than is known: it is treated as the nearest older one,
    and one that is older than all for the oldest. Raises PrerequisiteError.
    """
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if not match:
        raise PrerequisiteError(f"SGLang calls itself {version!r}, which is no version", "install a released SGLang")
    release = (int(match[1]), int(match[2]), int(match[3] or 0))
    if release[:2] < OLDEST:
        raise PrerequisiteError(f"SGLang {version} is older than 0.5", "install SGLang 0.5.17 or newer")
    features = KNOWN[max((known for known in KNOWN if known <= release), default=min(KNOWN))]
    if release in KNOWN:
        return features
    lacks = f"; {UNCOUNTED}" if features.note else ""
    return features.model_copy(
        update={"note": f"SGLang {version} is not known here; taken for {features.release}{lacks}"}
    )


@lru_cache(maxsize=16)
def installed(python: str | None = None) -> Installation:
    """Look into an interpreter (None = the current one). Raises PrerequisiteError if it cannot be run or has no SGLang."""
    interpreter = python or sys.executable
    try:
        answer = subprocess.run(
            [interpreter, "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=True
        )
        content = json.loads(answer.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise PrerequisiteError(
            f"the engine's interpreter {interpreter} cannot be run ({type(error).__name__})",
            "set engine.python to a working Python that has SGLang",
        ) from None
    if "sglang" not in content:
        raise PrerequisiteError(f"no SGLang in {interpreter}", "set engine.python to an interpreter that has it")
    device: Device = "cuda"
    return Installation(
        engine="sglang", python=interpreter, version=content["sglang"], device=device, flashinfer=content["flashinfer"]
    )
