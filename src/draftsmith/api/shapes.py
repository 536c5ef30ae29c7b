"""A profile of bench shapes as the input of a run: prompts are made to its lengths, and the target answers them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from draftsmith.api.plan_request import as_profile
from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import InputError
from draftsmith.kit.files import private_dir, write_atomic
from draftsmith.loop.base import Console


def prompts_of_shapes(
    paths: Sequence[str], config: Config, target: TargetFacts, workspace: Path, console: Console
) -> list[str]:
    """`paths`, or in the place of a workload profile a file of prompts made to its bench shapes, kept by the profile's digest.

    Raises InputError for a profile without shapes, and where no shape fits the served context.
    """
    profile = as_profile(Path(paths[0])) if len(paths) == 1 else None
    if profile is None:
        return list(paths)
    from draftsmith.traffic.shaped import fitting, shaped_prompts
    from draftsmith.traffic.tokens import load_counter

    if not profile.bench_shapes:
        raise InputError(
            f"{Path(paths[0]).name} has no bench shapes to make prompts of", "give the access log it was made from"
        )
    room = min(config.engine.max_model_len, config.corpus.max_length)
    inside, outside = fitting(profile.bench_shapes, room)
    left = ", ".join(f"{shape.isl:,}:{shape.osl:,}" for shape in outside)
    if not inside:
        raise InputError(
            f"no bench shape fits {room:,} tokens (the smaller of engine.max_model_len and corpus.max_length): {left}",
            "raise both to the longest shape's prompt and answer",
        )
    file = private_dir(workspace / "prompts") / f"{profile.sha256[:16]}-{room}.jsonl"
    if not file.exists():
        rows = shaped_prompts(inside, load_counter(Path(target.path)))
        write_atomic(file, "".join(json.dumps(row) + "\n" for row in rows))
    made = ", ".join(f"{shape.isl:,}:{shape.osl:,}" for shape in inside)
    console.note(
        f"traffic  prompts made to the shapes {made}" + (f"; left out, over {room:,} tokens: {left}" if left else "")
    )
    return [str(file)]
