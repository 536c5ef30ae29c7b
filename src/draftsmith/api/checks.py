"""What this machine has and lacks, before work starts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from draftsmith import wiring
from draftsmith.api.findings import Check
from draftsmith.api.machine_checks import check_disk, check_fit, check_gpu, check_memory, check_port
from draftsmith.contract.config import TRAINLESS, Config
from draftsmith.contract.errors import DraftsmithError, PrerequisiteError
from draftsmith.engines.base import Features, Installation

LEFT_TO_JOBS = "jobs"
BREAKING = ("torchvision", "torchaudio", "torchcodec")


def check(config: Config) -> tuple[Check, ...]:
    """What this machine has and lacks for such a configuration. Nothing is started."""
    return tuple(examine(config))


def examine(config: Config, *, measure: bool = True) -> list[Check]:
    """All checks of this machine. Where jobs run elsewhere, those that this machine has to pass for them.

    `measure`: time the memory too, which takes all cores for a second and stops nothing.
    """
    from draftsmith.api.service_checks import service_checks

    if config.backend.kind != "local":
        return [*_control_plane(config), *service_checks(config)]
    return [
        *_interpreter(),
        *_engine(config),
        *check_trainer(config),
        *_redaction(config),
        *check_gpu(config, measure),
        *check_memory(config),
        *check_disk(config),
        *check_port(config),
        *_target(config),
        *service_checks(config),
    ]


def _control_plane(config: Config) -> list[Check]:
    """What is needed here to hand jobs on. On a cluster whose nodes see the same interpreters, those are looked into too."""
    from draftsmith import wiring

    apart = wiring.environment_of_jobs(config)
    shared = () if apart else (*_engine(config), *check_trainer(config), *_redaction(config))
    checks = [*_interpreter(), *shared, *check_disk(config), *_target(config)]
    left = ("engine, trainer, GPU, memory and ports", f", in {apart}") if apart else ("GPU, memory and ports", "")
    sentence = (
        f"jobs run on {config.backend.kind}: {left[0]} are not looked for here; each job finds out itself{left[1]}"
    )
    return [*checks, Check(LEFT_TO_JOBS, "ok", sentence)]


def require_ready(config: Config) -> list[Check]:
    """Every check that passed. Raises PrerequisiteError naming everything that is missing, before anything is started."""
    failed_checks = examine(config, measure=False)
    missing = [check for check in failed_checks if check.level == "missing" and check.name != "target"]
    if missing:
        raise PrerequisiteError(
            "; ".join(check.sentence for check in missing), "; ".join(dict.fromkeys(c.next_step for c in missing))
        )
    return failed_checks


def _interpreter() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("interpreter", "ok", f"Python {version} at {sys.executable}")


def _engine(config: Config) -> Iterator[Check]:
    engine = wiring.engine(config)
    try:
        installation = engine.installation(config.engine.python, elsewhere=config.backend.kind != "local")
        known = engine.features(installation.version, installation.device)
    except DraftsmithError as error:
        yield Check("engine", "missing", error.message, error.next_step)
        return
    where = config.engine.python or "this interpreter"
    yield Check(
        "engine",
        "ok",
        f"{engine.title} {installation.version} for {installation.device} in {where}"
        + (f"; {known.note}" if known.note else ""),
    )
    able = wiring.capturing(config)
    if able is not config and config.method not in TRAINLESS:
        yield _captures(able, engine.title)
    if config.method in TRAINLESS:
        yield from _asked_method(str(config.method), engine.title, installation, known)
    elif config.trainer.method not in known.methods:
        yield Check(
            "method",
            "missing",
            f"{engine.title} {installation.version} on {installation.device} does not serve {config.trainer.method}",
            "choose another trainer.method",
        )
    if config.compare.suffix and not installation.suffix:
        yield Check(
            "suffix",
            "missing",
            f"suffix decoding needs the package arctic-inference, which {where} does not have",
            "install it there, or set compare.suffix = false",
        )
    present = _packages(config.engine.python, BREAKING) if installation.device == "cpu" else {}
    for name in present:
        yield Check(
            "packages",
            "missing",
            f"{name} is installed beside a CPU torch and breaks every import of transformers",
            f"pip uninstall {name}, and keep it out with an override (see docs/install.md)",
        )


def _captures(config: Config, served_by: str) -> Check:
    """The engine that answers and hands out hidden states, where the served one cannot."""
    engine = wiring.engine(config)
    label = f"{served_by} hands out no hidden states: {engine.title} answers the prompts and captures"
    try:
        installation = engine.installation(config.engine.python, elsewhere=config.backend.kind != "local")
    except DraftsmithError as error:
        return Check(
            "capture engine",
            "missing",
            f"{label}, and {error.message}",
            f"set engines.{engine.name}.python to its interpreter",
        )
    return Check(
        "capture engine", "ok", f"{label} ({installation.version} in {config.engine.python or 'this interpreter'})"
    )


def _asked_method(method: str, title: str, installation: Installation, known: Features) -> Iterator[Check]:
    """What the engine makes of a method without training that was asked for."""
    name = {"deepseek_mtp": "mtp", "predicted_outputs": "ngram"}.get(method, method)
    where = f"{title} {installation.version} on {installation.device}"
    if not known.supports(name):
        yield Check("method", "missing", f"{where} does not serve {method}", "choose another --method")
    elif method == "suffix" and not installation.suffix:
        yield Check(
            "method",
            "missing",
            f"suffix decoding needs the package arctic-inference, which {where} lacks",
            "install it there",
        )
    elif method == "predicted_outputs":
        yield Check(
            "method",
            "ok",
            f"{where} takes no reference text with a request: text that stands in the prompt is copied by n-gram lookup",
        )


def check_trainer(config: Config) -> Iterator[Check]:
    """Whether the trainer of the configuration is installed and can train a draft for its target."""
    if config.method in TRAINLESS:
        yield Check("trainer", "ok", f"none is needed: {config.method} trains nothing")
        return
    if config.trainer.kind == "specforge":
        yield from _specforge(config)
        return
    packages = _packages(config.trainer.python, ("speculators",))
    if "speculators" not in packages:
        yield Check(
            "trainer",
            "missing",
            "speculators is not installed",
            "pip install 'draftsmith[trainer]', or set trainer.python",
        )
        return
    yield Check("trainer", "ok", f"speculators {packages['speculators']}")


def _specforge(config: Config) -> Iterator[Check]:
    from draftsmith.trainers.specforge import check_settings, check_target
    from draftsmith.trainers.specforge_env import require_specforge
    from draftsmith.trainers.target_config import read_config

    where = config.trainer.python or sys.executable
    try:
        check_settings(config.trainer)
        version = require_specforge(where)
        if config.target and Path(config.target, "config.json").is_file():
            check_target(read_config(Path(config.target)))
    except DraftsmithError as error:
        yield Check("trainer", "missing", error.message, error.next_step)
        return
    yield Check("trainer", "ok", f"SpecForge {version} in {where}")


def _redaction(config: Config) -> Iterator[Check]:
    if not config.corpus.redact:
        return
    from importlib.util import find_spec

    absent = [name for name in ("datafog_core", "detect_secrets") if find_spec(name) is None]
    if absent:
        yield Check(
            "redaction",
            "missing",
            f"corpus.redact is on, and {' and '.join(absent)} {'are' if len(absent) > 1 else 'is'} not installed",
            "pip install 'draftsmith[redaction]', or switch corpus.redact off",
        )
    else:
        yield Check("redaction", "ok", "personal data and keys are looked for by pattern")


@lru_cache(maxsize=8)
def _packages(python: str | None, names: tuple[str, ...]) -> dict[str, str]:
    import json
    import subprocess

    code = (
        "import importlib.metadata as m, json, sys\nfound = {}\nfor n in sys.argv[1:]:\n"
        "    try: found[n] = m.version(n)\n    except m.PackageNotFoundError: pass\nprint(json.dumps(found))"
    )
    try:
        done = subprocess.run(
            [python or sys.executable, "-c", code, *names], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(json.loads(done.stdout))


def _target(config: Config) -> Iterator[Check]:
    if not config.target:
        yield Check(
            "target", "warning", "no target is configured", "give --target; `draftsmith demo-target` makes a small one"
        )
        return
    from draftsmith.trainers.draft_shape import draft_shape
    from draftsmith.trainers.target_config import read_config

    try:
        target = wiring.target(config, Path(config.target).resolve())
        shape = draft_shape(read_config(Path(target.path)))
    except DraftsmithError as error:
        yield Check("target", "missing", error.message, error.next_step)
        return
    yield Check("target", "ok", f"{target.architecture}, {target.num_layers} layers, vocabulary {target.vocab_size:,}")
    for warning in target.warnings:
        yield Check("target", "warning", warning)
    if config.method == "deepseek_mtp" and not target.has_mtp:
        yield Check(
            "method",
            "missing",
            f"{Path(target.path).name} has no prediction heads (MTP) of its own",
            "choose another --method",
        )
    yield from check_fit(config, target)
    yield from _precision(config, target.dtype)
    yield Check(
        "draft",
        "ok",
        f"one layer of {shape.num_attention_heads} heads of {shape.head_dim}, {shape.num_key_value_heads} of keys "
        f"and values, MLP {shape.intermediate_size:,}; {shape.cache_bytes_per_token:,} bytes of cache a token",
    )


def _precision(config: Config, dtype: str) -> Iterator[Check]:
    from draftsmith.api.precision import precision_flags

    if config.backend.kind == "local" and precision_flags(config.engine.flags):
        yield Check(
            "precision",
            "warning",
            f"this CPU is several times slower in 16-bit floats than in float32, and a {dtype} target is served in 16 bits",
            'serve and measure with engine.flags = ["--dtype", "float32"] if the standing server may do so too',
        )
