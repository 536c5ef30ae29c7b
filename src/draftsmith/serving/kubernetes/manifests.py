"""Objects as text that `kubectl apply` takes."""

from __future__ import annotations

import json
from typing import Any


def to_yaml(objects: list[Any]) -> str:
    """The objects as one YAML stream, as `kubectl apply` takes it; as JSON, which is YAML, without a YAML library."""
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        return "".join(f"---\n{json.dumps(item, indent=2)}\n" for item in objects)
    return "".join("---\n" + yaml.safe_dump(item, sort_keys=False, width=120) for item in objects)
