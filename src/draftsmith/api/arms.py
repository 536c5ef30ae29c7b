"""Arms from the command line: what is compared, as one word, a JSON object, an address, a folder or a whole command."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from draftsmith import wiring
from draftsmith.contract.config import ENGINE_KINDS, Config
from draftsmith.contract.errors import InputError, RefusedError
from draftsmith.contract.measure import Arm, ArmRole
from draftsmith.contract.speculation import CORPUS, DRAFT, K
from draftsmith.engines.catalog import engine_of
from draftsmith.verdict.arms import speculation

PRESETS: dict[str, dict[str, Any]] = {
    "ngram": {"method": "ngram", K: 3, "prompt_lookup_max": 4, "prompt_lookup_min": 2},
    "suffix": {"method": "suffix"},
}
FORMS = "`none`, a URL, JSON, `ngram`, `suffix`, a draft's folder or a command, each after `sglang:` for that engine"
WHOLE_MODELS = frozenset(
    {"draft_model", "standalone"}
)  # a small model of its own: no part of it is made for the target
SYSTEM = ("/usr/", "/bin/", "/opt/", "/dev/")


def parse_arms(
    arms: list[str],
    flags: list[str],
    config: Config,
    *,
    standing: str | None = None,
    candidates: list[str] | None = None,
) -> list[Arm]:
    """The arms in their order. `standing` is the baseline (None = the first); `candidates`: None = all that are no reference.

    Raises InputError naming the arm that is wrong.
    """
    given = [(name, text) for name, _, text in (item.partition("=") for item in arms)]
    names = [name for name, _ in given]
    if len(names) < 2 or len(set(names)) != len(names) or not all(names):
        raise InputError("a comparison needs two arms or more, with different names", "give --arm twice")
    extra = {name: tuple(shlex.split(text)) for name, _, text in (item.partition("=") for item in flags)}
    baseline = standing or names[0]
    for option, named in (("--flags", list(extra)), ("--standing", [baseline]), ("--candidate", candidates or [])):
        strangers = [name for name in named if name not in names]
        if strangers:
            raise InputError(f"{option} names no arm: {', '.join(strangers)}", "use the name given with --arm")
    result: list[Arm] = []
    for name, text in given:
        for arm in _of(name, text, extra.get(name, ()), config):
            role = _role(arm, name == baseline, None if candidates is None else name in candidates)
            result.append(arm.model_copy(update={"role": role}))
    known = [arm.name for arm in result]
    if len(set(known)) < len(known) or any("#" in name for name in known):
        raise InputError(f"arm names must be unique and without '#': {', '.join(known)}", "rename the arms")
    if sum(arm.role == "standing" for arm in result) > 1:
        raise InputError(f"the baseline {baseline!r} stands for several lengths", "give it one num_speculative_tokens")
    return result


def check_arms(arms: list[Arm], config: Config, registry: Path) -> None:
    """Refuse before anything starts what could not be served. Raises InputError, PrerequisiteError or RefusedError."""
    from draftsmith.work.compare.commands import check_command

    rendered = [arm for arm in arms if arm.endpoint is None and arm.command is None]
    if rendered and not config.target:
        raise InputError(f"arm {rendered[0].name!r} has to be started, but no target is given", "give --target FOLDER")
    for arm in arms:
        own = wiring.of_engine(config, arm.engine)
        if arm.command is not None:
            check_command(arm.name, arm.command)
            wiring.engine(own, registry).check_own(arm.command)
        elif arm.endpoint is None:
            spec = wiring.server_spec(own, str(own.target), spec_config=arm.spec_config, flags=arm.flags)
            wiring.engine(own, registry).command(spec)
            _lint(arm, own)


def path_names(arms: list[Arm]) -> dict[str, str]:
    """Name -> path for what the arms name by absolute path: evidence holds names, not the owner's folders."""
    words: list[str] = []
    for arm in arms:
        words += [
            *((text.draft or "", *map(str, text.rest.values())) if (text := speculation(arm)) else ()),
            *(arm.command or ()),
            *arm.flags,
            *arm.env.values(),
        ]
    paths = {
        part
        for word in words
        for part in (word, word.partition("=")[2])
        if part.startswith("/") and not part.startswith(SYSTEM) and len(part) > 1 and Path(part).exists()
    }
    return {f"{{path{number}}}": path for number, path in enumerate(sorted(paths), start=1)}


def _of(name: str, text: str, flags: tuple[str, ...], config: Config) -> Iterator[Arm]:
    kind, text = _kind(text, config)
    fields: dict[str, Any] = {"name": name, "role": "other", "flags": flags, "engine": kind}
    if text.startswith(("http://", "https://")):
        yield Arm(**fields, endpoint=text)
    elif text in ("", "none"):
        yield Arm(**fields)
    elif text in PRESETS:
        yield Arm(**fields, spec_config=PRESETS[text])
    elif text.startswith("{"):
        yield from _lengths(fields, _json(name, text))
    elif " " not in text and Path(text, "config.json").is_file():
        yield from _lengths(fields, _draft(Path(text).resolve(), config))
    elif " " in text or shutil.which(text):
        yield _command(fields, text)
    else:
        raise _unknown(name, text)


def _kind(text: str, config: Config) -> tuple[str, str]:
    """The engine of an arm, and its text without it: as `sglang:` says, as a command's words tell, or the configured one."""
    answer, colon, rest = text.partition(":")
    if colon and answer in ENGINE_KINDS:
        return answer, rest
    if " " in text and not text.startswith("{"):
        from draftsmith.work.compare.commands import split_command

        _, words = split_command(text)
        if (result := engine_of(words)) is not None:
            return result.name, text
    return config.engine.kind, text


def _unknown(name: str, text: str) -> InputError:
    return InputError(
        f"arm {name!r}: {text!r} is none of {FORMS}",
        'for example --arm ngram=ngram, or --arm b="vllm serve /models/my-model --max-num-seqs 64"',
    )


def _json(name: str, text: str) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(text)
    except ValueError:
        raise InputError(
            f"arm {name!r}: {text!r} is neither `none`, a URL nor JSON",
            'for example --arm ngram=\'{"method": "ngram", "num_speculative_tokens": 3}\'',
        ) from None
    files = {key: str(result.get(key) or "") for key in (DRAFT, CORPUS)}
    return result | {key: str(Path(file).resolve()) for key, file in files.items() if file and Path(file).exists()}


def _draft(folder: Path, config: Config) -> dict[str, Any]:
    """A draft's folder with the speculation lengths of `compare.k_values`; a block draft with its own."""
    from draftsmith.phases.compare import other_draft

    lengths = config.compare.k_values
    result = other_draft(folder, config.trainer.method, max(lengths)).model_copy(update={"draft": str(folder)}).config
    return result | ({K: list(lengths)} if result[K] == max(lengths) else {})


def _lengths(fields: dict[str, Any], spec: dict[str, Any]) -> Iterator[Arm]:
    """One arm a length, where `num_speculative_tokens` is a list."""
    several = spec.get(K)
    if not isinstance(several, list):
        yield Arm(**fields, spec_config=spec)
        return
    for k in several:
        name = f"{fields['name']}-k{k}" if len(several) > 1 else fields["name"]
        yield Arm(**{**fields, "name": name}, spec_config={**spec, K: k})


def _command(fields: dict[str, Any], text: str) -> Arm:
    from draftsmith.work.compare.commands import split_command

    if fields["flags"]:
        raise InputError(f"arm {fields['name']!r} is a whole command", "write its flags there instead of --flags")
    env, words = split_command(text)
    return Arm(**fields, command=words, env=env)


def _role(arm: Arm, is_baseline: bool, is_candidate: bool | None) -> ArmRole:
    if is_baseline:
        return "standing"
    if is_candidate:
        return "candidate"
    plain = arm.endpoint is None and arm.command is None and not arm.flags
    if plain and arm.spec_config is None:
        return "no_spec"
    if plain and arm.speculation and not arm.speculation.has_draft:
        return "trainless"
    return "candidate" if is_candidate is None else "other"


def _lint(arm: Arm, config: Config) -> None:
    model = Path((arm.speculation.draft if arm.speculation else None) or "")
    if not config.target or not (model / "config.json").is_file():
        return
    if arm.speculation and arm.speculation.method in WHOLE_MODELS:
        return
    from draftsmith.trainers.lint import lint_draft, served_tokens

    target = wiring.target(config, Path(config.target))
    report = lint_draft(
        model, target, served_tokens=served_tokens(config.engine.max_model_len, target), engine=config.engine.kind
    )
    if not report.passed:
        words = "; ".join(finding.sentence for finding in report.at("error"))
        raise RefusedError(f"arm {arm.name!r}: the draft does not pass lint: {words}", "see `draftsmith lint`")
