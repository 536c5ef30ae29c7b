"""Whether an interpreter has SpecForge. Asked in a subprocess: it need not be this one."""

from __future__ import annotations

import json
import subprocess
from functools import lru_cache

from draftsmith.contract.errors import PrerequisiteError

VERSION = "0.2.0"
NEEDED = ("specforge", "torch", "transformers")
ADVICE = (
    f"make an environment for it (python -m venv /opt/specforge; /opt/specforge/bin/pip install specforge=={VERSION}, with the "
    "versions of constraints/specforge.txt; see docs/specforge.md) and set trainer.python = '/opt/specforge/bin/python'"
)
_ASK = (
    "import importlib.metadata as m, json, sys\nfound = {}\nfor n in sys.argv[1:]:\n"
    "    try: found[n] = m.version(n)\n    except m.PackageNotFoundError: pass\nprint(json.dumps(found))"
)


@lru_cache(maxsize=8)
def packages(python: str) -> dict[str, str]:
    """Versions of SpecForge and of what it trains with, as far as `python` has them; empty if it does not run."""
    try:
        done = subprocess.run([python, "-c", _ASK, *NEEDED], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(json.loads(done.stdout))


def require_specforge(python: str) -> str:
    """The version there. Raises PrerequisiteError with what to install, or for a version that is not known here."""
    versions = packages(python)
    lacking = [name for name in NEEDED if name not in versions]
    if lacking:
        raise PrerequisiteError(f"{python} has no {', '.join(lacking)}, which training by SpecForge needs", ADVICE)
    if versions["specforge"] != VERSION:
        raise PrerequisiteError(
            f"{python} has SpecForge {versions['specforge']}; its configuration and checkpoints are known of {VERSION}",
            f"install specforge=={VERSION} there",
        )
    return versions["specforge"]
