"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from draftsmith.cli.output import Mode

if TYPE_CHECKING:
    from draftsmith.contract.config import Config

DEFAULT_FILE = Path("draftsmith.toml")


def _json(value: bool) -> bool:
    Mode.json = Mode.json or value
    return value


Json = Annotated[bool, typer.Option("--json", help="print one JSON value for scripts", callback=_json)]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="configuration file; default: draftsmith.toml if it is there")
]
Target = Annotated[str | None, typer.Option("--target", "-t", help="folder of the served model (Hugging Face style)")]
Sources = Annotated[
    list[str] | None,
    typer.Option("--profile", "-p", help="access log: file, folder, glob or URL; can be repeated"),
]
Workspace = Annotated[str | None, typer.Option("--workspace", "-w", help="folder for runs; default: .draftsmith")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="override one setting, as in the file: --set trainer.epochs=4"),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="eagle3 or dflash (train a draft); ngram, suffix, deepseek_mtp or predicted_outputs (compare without training); "
        "default: as the profile recommends",
    ),
]
Served = Annotated[
    str | None,
    typer.Option(
        "--served",
        help="name of the served deployment (a Kubernetes Deployment if there is a kubeconfig); sets serving.deploy",
    ),
]
Understood = Annotated[
    bool,
    typer.Option(
        "--i-understand-this-uses-the-cluster",
        help="allow changes in the cluster: submit, cancel, patch; without it the cluster is only read",
    ),
]
RunId = Annotated[str | None, typer.Argument(help="run id; default: the newest run")]


def configuration(
    file: Path | None = None,
    *,
    target: str | None = None,
    sources: list[str] | None = None,
    workspace: str | None = None,
    settings: list[str] | None = None,
    method: str | None = None,
    served: str | None = None,
) -> Config:
    """The file (draftsmith.toml if it is there), then the flags. Raises ConfigError."""
    from draftsmith.api.settings import configure, named

    config = configure(
        file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None),
        target=target,
        profile=sources[0] if sources and len(sources) == 1 else None,
        workspace=workspace,
        settings=settings or (),
    )
    return named(config, method=method, served=served)
