"""Traffic: measured, compared, replayed against a server, and stood in for by public prompts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from draftsmith.api.settings import sources_of
from draftsmith.contract.base import Frozen
from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError
from draftsmith.contract.job import JobProgress
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.kit.files import read_json, write_json

if TYPE_CHECKING:
    from draftsmith.corpus.public_mix import Mix
    from draftsmith.profiling.drift import DriftReport

OnProgress = Callable[[JobProgress], None]


class Replayed(Frozen):
    """What a replay did, in requests, tokens and seconds. `skipped`: the log answered them before. `media`: left out, not sent."""

    answered: int
    failed: int
    skipped: int
    media: int = 0
    prompt_tokens: int
    output_tokens: int
    wall_s: float
    peak_concurrency: int
    concurrency: int
    log: str


def profile(
    config: Config,
    sources: Sequence[str] | str | None = None,
    *,
    tokenizer: Path | None = None,
    format: str | None = None,
    exact: bool | None = None,
    aa_shapes: str | None = None,
    rejects: Path | None = None,
    out: Path | str | None = None,
    on_progress: OnProgress | None = None,
) -> WorkloadProfile:
    """Measure traffic; `out` also writes the profile there. It holds aggregates only: no prompt, no answer.

    `tokenizer` None: the target's. `exact`: count every token (True), sample large logs (False), or choose (None).
    Raises InputError for a log without any usable record.
    """
    from draftsmith.corpus.redaction import shown_names
    from draftsmith.profiling.profile import build_profile

    folder = Path(config.target) if config.target else None
    began = time.time()

    def progress(done: int, total: int | None) -> None:
        if on_progress:
            seen = JobProgress(
                stage="reading", done=done, total=total, unit="bytes", started_unix_s=began, updated_unix_s=time.time()
            )
            on_progress(seen)

    profile = build_profile(
        sources_of(config, sources),
        tokenizer=tokenizer or (folder / "tokenizer.json" if folder else None),
        format=format,
        exact=exact,
        aa_shapes=aa_shapes,
        rejects=rejects,
        on_progress=progress,
        target_config=read_json(folder / "config.json") if folder and (folder / "config.json").exists() else None,
        rename=shown_names(config.corpus),
    )
    if out is not None:
        write_json(Path(out), profile)
    return profile


def drift(before: WorkloadProfile | Path | str, after: WorkloadProfile | Path | str) -> DriftReport:
    """Whether traffic moved between two profiles (values, or their files), and what moved."""
    from draftsmith.profiling.drift import compare

    return compare(_profile(before), _profile(after))


def mix(
    config: Config,
    profile: WorkloadProfile | Path | str,
    public: Mapping[str, str],
    *,
    tokenizer: Path | None = None,
    prompts: Path | None = None,
    rows: int = 1000,
    seed: int = 0,
    out: Path | str | None = None,
) -> Mix:
    """Weights over public sets (`public`: name -> source) that come closest to the profile's lengths and classes.

    `prompts` also draws that many `rows` by the weights into a file; `out` writes the plan.
    """
    from draftsmith.corpus.public_mix import plan_mix
    from draftsmith.traffic.tokens import load_counter

    place = tokenizer or (Path(config.target) if config.target else None)
    counter = load_counter(place) if place else None
    mix = plan_mix(_profile(profile), dict(public), counter, prompts=prompts, rows=rows, seed=seed)
    if out is not None:
        write_json(Path(out), mix.as_json())
    return mix


def replay(
    prompts: Path | str,
    endpoint: str,
    out: Path | str,
    *,
    model: str | None = None,
    concurrency: int = 8,
    arrivals: bool = False,
    speed: float = 1.0,
    limit: int | None = None,
    max_tokens: int | None = None,
    api_key_env: str | None = None,
    on_progress: OnProgress | None = None,
) -> Replayed:
    """Send prompts to a server and append its answers to the access log `out`; what that answers already is left out.

    `arrivals`: send at each prompt's arrival_s, `speed` times as fast, instead of `concurrency` at a time.
    """
    from draftsmith.client.log import record

    figures = record(
        Path(prompts),
        Path(out),
        endpoint=endpoint,
        model=model,
        concurrency=concurrency,
        open_loop=arrivals,
        speed=speed,
        limit=limit,
        max_tokens=max_tokens,
        api_key_env=api_key_env,
        on_progress=on_progress,
    )
    return Replayed.model_validate(figures)


def _profile(given: WorkloadProfile | Path | str) -> WorkloadProfile:
    return given if isinstance(given, WorkloadProfile) else read_profile(Path(given))


def read_profile(path: Path) -> WorkloadProfile:
    """A profile from its file. Raises InputError if it is none."""
    try:
        return WorkloadProfile.model_validate(read_json(path))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a workload profile ({type(error).__name__})", "make one with `draftsmith profile`"
        ) from None
