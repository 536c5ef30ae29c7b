"""Writes trainers/specforge_lists.json from a checkout of SpecForge: `python tests/trainers/renew_specforge_lists.py CHECKOUT RELEASE`.

Read, never run: the names in its template registry, and the flags that its capture script gives to argparse.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

PLACE = Path(__file__).resolve().parents[2] / "src" / "draftsmith" / "trainers" / "specforge_lists.json"


def templates(source: str) -> list[str]:
    """Names that `TEMPLATE_REGISTRY.register(name=...)` is called with at the top of a module."""
    calls = [
        node.value for node in ast.parse(source).body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    named = [word.value for call in calls for word in call.keywords if word.arg == "name"]
    return sorted(value.value for value in named if isinstance(value, ast.Constant))


def flags(source: str) -> tuple[list[str], list[str]]:
    """Flags of a script's parser: (with a value, without)."""
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
    ]
    valued, switches = [], []
    for call in calls:
        name = next(arg.value for arg in call.args if isinstance(arg, ast.Constant))
        action = next((word.value for word in call.keywords if word.arg == "action"), None)
        (switches if isinstance(action, ast.Constant) and str(action.value).startswith("store_") else valued).append(
            str(name)
        )
    return sorted(valued), sorted(switches)


def read(checkout: Path, release: str) -> dict[str, Any]:
    """The lists of a checkout."""
    valued, switches = flags((checkout / "scripts" / "prepare_hidden_states.py").read_text(encoding="utf-8"))
    names = templates((checkout / "specforge" / "data" / "template.py").read_text(encoding="utf-8"))
    return {"release": release, "templates": names, "capture_flags": valued, "capture_switches": switches}


if __name__ == "__main__":
    PLACE.write_text(json.dumps(read(Path(sys.argv[1]), sys.argv[2]), indent=1) + "\n", encoding="utf-8")
