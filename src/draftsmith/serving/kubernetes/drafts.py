"""Whether the engine of a served container reads a draft as it was trained. A promotion changes arguments, never variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import RefusedError
from draftsmith.contract.speculation import SpecConfig, read
from draftsmith.kit.files import read_json
from draftsmith.serving.kubernetes.standing import Standing


def require_read(standing: Standing, config: SpecConfig) -> None:
    """Raise RefusedError for a draft in a folder of this machine that the engine would serve wrongly in silence."""
    speculation = read(config)
    file = Path((speculation.draft if speculation else None) or "", "config.json")
    if file.is_file():
        require_config_read(standing, read_json(file), f"the draft {file.parent.name}")


def require_config_read(standing: Standing, draft: Mapping[str, Any], text: str) -> None:
    """The same of a draft's config.json."""
    variable = standing.command.dialect.variable_for(draft)
    if variable is None or _sets(standing, variable):
        return
    raise RefusedError(
        f"{text} has norm_before_residual, which {standing.command.dialect.title} in {standing.name} reads past: it would accept little, "
        f"and say nothing. A promotion changes arguments, and this needs the variable {variable}",
        "train with trainer.norm_before_residual = false; or set the variable in the object, with an image that has the package it names",
    )


def _sets(standing: Standing, variable: str) -> bool:
    named = {str(each.get("name")) for each in standing.container.get("env") or ()}
    script = standing.command.script
    words = [*standing.command.command, *standing.command.args]
    return variable in named or (script is not None and f"{variable}=" in words[script])
