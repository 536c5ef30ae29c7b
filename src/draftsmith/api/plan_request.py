"""The request of a plan: what is to be measured, and what is known beside it. Nothing is started here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from draftsmith import wiring
from draftsmith.contract.base import digest
from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import InputError, PrerequisiteError
from draftsmith.contract.jobs import ForecastPlan
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.kit.files import private_dir, read_json, write_json

DEFAULT_KS = (1, 3, 5)
MOST_K = 16
MOST_POINTS = 3
TOKENS = 64  # answers are cut here: a step costs the same at the sixtieth token as at the thousandth, nearly
START_S = {"cpu": 100.0, "cuda": 75.0}  # assumed until one has been timed
BYTES_PER_S = {"cpu": 8e9, "cuda": 1.5e12}  # only to say beforehand how long it will take
WORTH_NGRAM = 1.1


def read_profile(sources: list[str], target: TargetFacts, folder: Path) -> WorkloadProfile:
    """A profile as it is, or made from access logs. It is kept beside the plan as workload-profile.json."""
    from draftsmith.profiling.profile import build_profile

    if not sources:
        raise InputError("no traffic is given", "give --profile with workload-profile.json or an access log")
    profile = as_profile(Path(sources[0])) if len(sources) == 1 else None
    if profile is None:
        model = Path(target.path)
        profile = build_profile(
            sources, tokenizer=model / "tokenizer.json", target_config=read_json(model / "config.json")
        )
    write_json(folder / "workload-profile.json", profile)
    return profile


def as_profile(path: Path) -> WorkloadProfile | None:
    """The profile in a file; None if it holds something else (a log, for instance)."""
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        value = read_json(path)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("schema") != "draftsmith_profile_v1":
        return None
    try:
        return WorkloadProfile.model_validate(value)
    except ValueError as error:
        raise InputError(f"{path.name} does not follow its schema: {error}", "make the profile again") from None


def require_synthetic(config: Config, profile: WorkloadProfile) -> None:
    """Raise PrerequisiteError, with what can be said all the same, if no draft can be accepted at a chosen rate here."""
    engine = wiring.engine(config)
    installation = engine.installation(config.engine.python)
    known = engine.features(installation.version, installation.device)
    if known.synthetic and "eagle3" in known.methods:
        return
    replayed = [
        f"{row.method} K {row.num_speculative_tokens} {row.tokens_per_step:.2f} tokens a step"
        for row in profile.expected_acceptance
        if row.tokens_per_step
    ]
    source = f"by replay of the log: {', '.join(replayed)}; " if replayed else ""
    raise PrerequisiteError(
        f"{engine.title} {installation.version} on {installation.device} cannot accept drafts at a chosen rate, so no break-even can be measured "
        f"before a draft is trained. What can be said: {source}a draft with K tokens never gives more than K + 1 a step",
        "use vLLM 0.24 or newer on a GPU (0.32 on CPU), or measure n-gram itself: draftsmith compare --arm ngram=...",
    )


def settle(
    config: Config,
    target: TargetFacts,
    profile: WorkloadProfile,
    folder: Path,
    *,
    concurrencies: list[int],
    ks: list[int],
    draft: Path | None,
    repeats: int,
) -> ForecastPlan:
    """The request of the job: what is measured, and what is known beside it."""
    from draftsmith.trainers.layers import default_layers
    from draftsmith.trainers.untrained import default_draft_vocab
    from draftsmith.wiring import versions
    from draftsmith.work.plan.records import earlier

    adapter = wiring.engine(config)
    engine = adapter.installation(config.engine.python)
    workspace = Path(config.workspace).resolve()
    known = earlier(workspace, target.sha256, profile)
    loads, primary = operating_points(config, profile, concurrencies)
    vocab = config.trainer.draft_vocab or known.draft_vocab or default_draft_vocab(target)
    layers = list(config.trainer.layers or default_layers(target.num_layers))
    best = max((r.tokens_per_step or 0.0 for r in profile.expected_acceptance), default=0.0)
    measured: dict[str, Any] = {
        "target": target.sha256,
        "versions": {key: value for key, value in versions(config).items() if key in (config.engine.kind, "device")},
        "engine": config.engine.model_dump(mode="json", exclude_defaults=True, exclude={"python", "start_timeout_s"}),
        "ks": checked_ks(ks),
        "concurrencies": loads,
        "repeats": repeats,
        "tokens": TOKENS,
        "shapes": [shape.model_dump(mode="json") for shape in profile.bench_shapes],
        "lengths": [profile.input_tokens.p50, profile.output_tokens.p50],
        "draft": _draft_id(draft, target) or {"vocab": vocab, "layers": layers},
        "synthetic": adapter.features(engine.version, engine.device).synthetic,
        "ngram": config.compare.ngram and best >= WORTH_NGRAM,
    }
    timed = _timed_start(folder)
    standing = wiring.serving(config, workspace).current() if workspace.is_dir() else config.serving.standing_config
    return ForecastPlan(
        versions=measured["versions"],
        ks=measured["ks"],
        concurrencies=loads,
        repeats=repeats,
        tokens=TOKENS,
        synthetic=measured["synthetic"],
        ngram=measured["ngram"],
        config=config,
        target=target,
        profile=str(folder / "workload-profile.json"),
        registry=str(private_dir(folder / "processes")),
        measured_sha256=digest(measured),
        draft=str(draft.resolve()) if draft else None,
        draft_vocab=vocab,
        layer_ids=layers,
        shape_note=_shape_note(draft, config, known.draft_vocab, vocab),
        primary=primary,
        records=tuple(known.records),
        capture_tokens_per_s=known.capture_tokens_per_s,
        train_tokens_per_s=known.train_tokens_per_s,
        speeds_from=known.speeds_from,
        standing=standing,
        standing_positions=_standing_positions(standing, known.records),
        suffix_installed=engine.suffix,
        start_s=timed or START_S[engine.device],
        start_timed=timed is not None,
        plain_tpot_s=0.002 + target.weight_bytes / BYTES_PER_S[engine.device],
    )


def operating_points(config: Config, profile: WorkloadProfile, given: list[int]) -> tuple[list[int], int]:
    """(concurrencies, the one that decides): as given, or the configured ones and the profile's mean and p90."""
    wanted = given or [
        *config.compare.concurrency,
        *(max(1, round(c)) for c in (profile.concurrency_mean, profile.concurrency_p90) if c),
    ]
    if min(wanted) < 1:
        raise InputError("a concurrency is at least 1", "give --concurrency 1 or more")
    fitting = [min(c, config.engine.max_num_seqs) for c in wanted]
    return sorted(dict.fromkeys(fitting[: max(MOST_POINTS, len(given))])), fitting[0]


def checked_ks(ks: list[int]) -> list[int]:
    """Drafted tokens to measure, rising. Raises InputError."""
    lengths = sorted(set(ks or DEFAULT_KS))
    if lengths[0] < 1 or lengths[-1] > MOST_K:
        raise InputError(f"K is a number from 1 to {MOST_K}", "for example --k 1 --k 3 --k 5")
    return lengths


def _draft_id(draft: Path | None, target: TargetFacts) -> dict[str, Any] | None:
    if draft is None:
        return None
    from draftsmith.trainers.draft_folder import read_draft
    from draftsmith.trainers.lint_files import weights_sha256

    draft_read = read_draft(draft)
    if draft_read.method != "eagle3":
        raise InputError(f"{draft.name} is a draft of method {draft_read.method}", "give the folder of an EAGLE3 draft")
    if draft_read.target_hidden_size != target.hidden_size:
        raise InputError(f"{draft.name} was made for another target", "give a draft of this target, or none")
    return {"weights": weights_sha256(draft)}


def _shape_note(draft: Path | None, config: Config, known: int | None, vocab: int) -> str:
    if draft is not None:
        return f"costs are those of the draft {draft.name}"
    if config.trainer.draft_vocab:
        why = "as configured"
    else:
        why = "as in the newest run" if known else "a quarter of the target's, since no corpus says better"
    return f"costs are those of an untrained EAGLE3 draft of one layer with a vocabulary of {vocab:,} ({why})"


def _standing_positions(standing: dict[str, Any] | None, records: list[Any]) -> list[float]:
    """Acceptance of the standing draft, if the run that made it is known: its folder is named after it."""
    model = Path(str((standing or {}).get("model", ""))).name
    result = [list(record.by_position) for record in records if model.startswith(record.run_id)]
    return result[-1] if result else []


def _timed_start(folder: Path) -> float | None:
    path = folder / "starts.json"
    return max(read_json(path), default=None) if path.is_file() else None
