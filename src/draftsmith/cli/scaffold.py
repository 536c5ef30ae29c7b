"""`draftsmith scaffold`: the recipe for teams that run SpecForge on their own cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import show


def scaffold(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="output folder, on a file system that the cluster can read")
    ] = Path("spec-decode"),
    target: o.Target = None,
    method: Annotated[Literal["eagle3", "dflash"], typer.Option("--method", help="method of the draft")] = "eagle3",
    name: Annotated[str | None, typer.Option("--name", help="short name of the target; default: its folder's")] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(
            "--chat-template", help="SpecForge's name of the target's chat template; default: by the target's own"
        ),
    ] = None,
    own_template: Annotated[
        bool, typer.Option("--own-template", help="the name is registered in your own SpecForge")
    ] = False,
    draft_vocab: Annotated[
        int | None,
        typer.Option(
            "--draft-vocab",
            help="size of the draft vocabulary, in tokens; default: 32000, or the target's if it is smaller",
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus", min=1, help="GPUs per node, for capture and training; default: 8, or as many as the target needs"
        ),
    ] = None,
    image: Annotated[str, typer.Option("--image", help="container image of the canaries")] = "vllm/vllm-openai:v0.24.0",
    claim: Annotated[
        str, typer.Option("--claim", help="volume claim that holds the models, mounted at /models")
    ] = "models",
    k: Annotated[int, typer.Option("--k", help="tokens per step that the canary's draft proposes (K)")] = 3,
    config: o.ConfigFile = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Write a recipe for SpecForge on Slurm: configurations, run script, batch scripts, canaries, README.

    Everything is derived from the target's config.json: layers, draft, chat template, and over how many GPUs it is split. `[backend.options]` of a Slurm back end and `[serving.options]` of
    Kubernetes are taken over where they are configured. Nothing is submitted or created.
    """
    from draftsmith import api

    written = api.scaffold(
        o.configuration(config, target=target, settings=settings),
        out,
        method=method,
        name=name,
        chat_template=chat_template,
        own_template=own_template,
        draft_vocab=draft_vocab,
        gpus=gpus,
        image=image,
        claim=claim,
        k=k,
    )
    show(written, "\n".join(str(Path(written.folder) / file) for file in written.files))
