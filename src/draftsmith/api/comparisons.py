"""`compare` without the rest of the loop, and `decide` on what it left."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from draftsmith.api.arms import check_arms, parse_arms, path_names
from draftsmith.api.explanations import comparison_text
from draftsmith.api.fitting import sized
from draftsmith.api.local_jobs import run_here
from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError
from draftsmith.contract.jobs import ComparePlan
from draftsmith.contract.measure import Arm, ComparisonPlan, EngineFacts, OperatingPoint, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import private_dir, read_json, read_lines, sha256_file, write_json
from draftsmith.loop.base import QUIET, Console
from draftsmith.store.scrub import home
from draftsmith.verdict.divergence import Divergence, divergences
from draftsmith.verdict.schedule import propose, scheduled_config
from draftsmith.verdict.validate import valid_trials

if TYPE_CHECKING:
    from draftsmith.corpus.prompts import Prompt, PromptSet

PLAN_NAMES = ("plan-frozen.json", "plan.json")
FIXED = ("arms", "baseline", "points", "target", "source_sha256")


@dataclass(frozen=True)
class ComparisonRequest:
    """What is compared, in the words of `--arm NAME=...` (see docs/gate.md), and how.

    `standing`: the baseline (None = the first arm). `candidates`: None = all arms that are no reference. `arrivals`: also a
    point that sends each prompt at its own arrival time. `tuning`: prompts on which K is chosen.
    """

    arms: list[str]
    flags: list[str] = field(default_factory=list)
    standing: str | None = None
    candidates: list[str] | None = None
    concurrency: list[int] | None = None
    arrivals: bool = False
    blocks: int | None = None
    tuning: Path | None = None


@dataclass(frozen=True)
class Comparison:
    """What the files of a comparison hold."""

    plan: ComparisonPlan
    trials: list[Trial]
    facts: list[tuple[str, EngineFacts]]
    decision: Decision
    recorded_differs: tuple[str, ...] = ()

    @property
    def divergence(self) -> tuple[Divergence, ...]:
        """Where the answers of an arm part from the baseline's, and whether that is more than its twin does."""
        return divergences(self.plan, valid_trials(self.plan, self.trials)[0])

    def value(self) -> dict[str, Any]:
        """As JSON: the decision, and what only samples and plan know."""
        result = [asdict(item) | {"share": item.share, "beyond_noise": item.beyond_noise} for item in self.divergence]
        value = self.decision.model_dump(mode="json", by_alias=True) | {
            "schedule": propose(self.plan, self.decision),
            "scheduled_config": scheduled_config(self.plan, self.decision),
            "divergence": result,
        }
        return value | ({"recorded_differs": list(self.recorded_differs)} if self.recorded_differs else {})

    def text(self) -> str:
        """For a reader."""
        return comparison_text(self.plan, self.decision, self.divergence)


def compare(
    config: Config, prompts: Path | str, request: ComparisonRequest, out: Path | str, *, console: Console = QUIET
) -> Comparison:
    """Compare in `out`, or go on with what was begun there, and leave report and evidence bundle in it.

    `prompts` is a JSON-lines file. Raises InputError for arms or prompts that cannot be compared, before anything starts.
    """
    prompts, out = Path(prompts), Path(out)
    from draftsmith.work.compare.evidence import publish_comparison
    from draftsmith.work.compare.warm import families

    parsed = parse_arms(request.arms, request.flags, config, standing=request.standing, candidates=request.candidates)
    config = _settled(config, request, parsed)
    weight_bytes = sum(path.stat().st_size for path in Path(config.target or "-").glob("*.safetensors"))
    if weight_bytes and any(arm.command is None and arm.endpoint is None for arm in parsed):
        config = sized(config, Path(config.target or "-"), weight_bytes)
    folder = private_dir(out.resolve())
    check_arms(parsed, config, private_dir(folder / "processes"))
    pinned = pin(prompts, folder, config, request, choose=bool(families(parsed)))
    plan = ComparePlan(
        config=config,
        target=config.target or "",
        weight_bytes=weight_bytes,
        registry=str(folder / "processes"),
        cwd=str(Path.cwd()),
        arms=tuple(parsed),
        baseline=next(arm.name for arm in parsed if arm.role == "standing"),
        points=tuple(_points(config, request, pinned)),
        source_sha256=sha256_file(prompts),
        names=_names(config, folder, parsed),
    )
    _same_request(folder, plan)
    write_json(folder / "plan.json", plan)
    run_here("compare", folder / "plan.json", console)
    publish_comparison(folder)
    return read_comparison(folder)


def _settled(config: Config, request: ComparisonRequest, arms: list[Arm]) -> Config:
    from draftsmith.api.settings import absolute

    config, _ = absolute(config)  # the job runs in a folder of its own
    timed = request.arrivals or config.compare.primary == "goodput"
    loads = tuple(request.concurrency or (() if timed else config.compare.concurrency))
    update: dict[str, Any] = {"concurrency": loads} | ({"blocks": request.blocks} if request.blocks else {})
    if all(arm.endpoint is not None for arm in arms):
        update["restart_every"] = 0
    target = str(Path(config.target).resolve()) if config.target else None
    return config.model_copy(update={"compare": config.compare.model_copy(update=update), "target": target})


def _points(config: Config, request: ComparisonRequest, times: tuple[float, ...]) -> list[OperatingPoint]:
    settings = config.compare
    common: dict[str, Any] = {"max_tokens": settings.max_tokens, "sampling": settings.sampling}
    points = [OperatingPoint(name=f"c{load}", concurrency=load, **common) for load in settings.concurrency]
    open_loop = [OperatingPoint(name=f"r{rate:g}", concurrency=1, rate_per_s=rate, **common) for rate in settings.rates]
    if request.arrivals:
        sped = tuple(round(time / settings.arrival_speed, 4) for time in times)
        open_loop.append(OperatingPoint(name="recorded", concurrency=1, arrivals_s=sped, **common))
    every = [*open_loop, *points] if settings.primary == "goodput" else [*points, *open_loop]
    return [every[0].model_copy(update={"primary": True}), *every[1:]]


def _names(config: Config, folder: Path, arms: list[Arm]) -> dict[str, str]:
    known = {"{comparison}": str(folder), **({"{target}": config.target} if config.target else {})} | home()
    return known | {name: path for name, path in path_names(arms).items() if path not in known.values()}


def _same_request(folder: Path, plan: ComparePlan) -> None:
    """A folder holds one comparison: going on with other arms or prompts would mix two."""
    path = folder / "plan.json"
    before = read_json(path) if path.exists() else {}
    if "arms" not in before:
        return
    known = ComparePlan.model_validate(before)
    other = [name for name in FIXED if getattr(known, name) != getattr(plan, name)]
    if other:
        raise InputError(
            f"{folder.name} holds another comparison (different: {', '.join(other)})", "name another folder with --out"
        )


def pin(prompts: Path, folder: Path, config: Config, request: ComparisonRequest, *, choose: bool) -> tuple[float, ...]:
    """Fix the prompts that decide, and with `choose` those on which K is chosen. Returns the recorded arrivals, if asked for."""
    from draftsmith.corpus.prompts import read_prompts, write_prompts
    from draftsmith.work.compare.pinning import ARRIVALS, set_aside

    own, tuning, times = (folder / name for name in ("prompts-own.jsonl", "prompts-tuning.jsonl", ARRIVALS))
    if not prompts.exists():
        raise InputError(f"{prompts} does not exist", "give a JSON-lines file of prompts")
    if own.exists():
        return tuple(read_json(times)) if times.exists() else ()
    prompt_set, arrivals = _read(prompts, config, request.arrivals)
    deciding: tuple[Prompt, ...] = prompt_set.prompts
    aside: tuple[Prompt, ...] = ()
    if request.tuning:
        aside = _read(request.tuning, config, False)[0].prompts[: config.compare.tuning_prompts]
    elif choose:
        deciding, aside = set_aside(prompt_set.prompts, config.compare.tuning_prompts)
        arrivals = arrivals[: len(deciding)]
    write_prompts(tuning, _set(aside))
    if request.arrivals:
        write_json(times, arrivals)
    write_prompts(own, _set(deciding))
    read_prompts(own)
    return tuple(arrivals)


def _read(path: Path, config: Config, by_arrival: bool) -> tuple[PromptSet, list[float]]:
    """The prompts in a stable order of their own, or in the order of their arrival with the seconds since the first."""
    from draftsmith.client.log import read_requests
    from draftsmith.corpus.prompts import Prompt, pinned
    from draftsmith.work.compare.pinning import pool

    requests = list(read_requests(path, pool(config.compare), None))
    if by_arrival:
        if any(request.arrival_s is None for request in requests):
            raise InputError(f"{path.name}: --arrivals needs arrival_s at every prompt", "record them, or leave it out")
        requests.sort(key=lambda request: request.arrival_s or 0.0)
    prompts = [
        Prompt(
            prompt_id=request.id,
            content_class=request.route or "all",
            messages=request.messages,
            prompt_token_ids=request.prompt_token_ids,
            params=request.params,
            max_tokens=request.max_tokens or config.compare.max_tokens or 128,
        )
        for request in requests
    ]
    if not prompts:
        raise InputError(f"{path.name} holds no prompt", "give a JSON-lines file of prompts")
    if len({prompt.prompt_id for prompt in prompts}) < len(prompts):
        raise InputError(f"{path.name}: two prompts have the same id", "give every prompt an id of its own")
    if not by_arrival:
        return pinned(prompts, config.corpus.seed), []
    first = requests[0].arrival_s or 0.0
    return _set(tuple(prompts)), [round((request.arrival_s or 0.0) - first, 4) for request in requests]


def _set(prompts: Any) -> PromptSet:
    from draftsmith.contract.base import digest
    from draftsmith.corpus.prompts import PromptSet

    return PromptSet(prompts=prompts, sha256=digest([p.model_dump(mode="json") for p in prompts]))


def recorded_differences(place: Path, decision: Decision) -> list[str]:
    """In what the verdict beside the samples differs from the one they give; empty if it is the same, or none is there."""
    from draftsmith.store.bundle_check import verdict_differences

    path = (place.parent if place.name == "samples.jsonl" else place) / "verdict.json"
    if not path.is_file():
        return []
    try:
        stored = read_json(path)
    except ValueError:
        stored = None
    if not isinstance(stored, dict):
        return ["verdict.json is torn or not JSON"]
    return list(verdict_differences(stored, decision.model_dump(mode="json", by_alias=True)))


def decide(place: Path | str) -> Comparison:
    """Decide again from recorded samples: the folder of a comparison, or its samples.jsonl. Nothing is measured.

    `Comparison.recorded_differs` says in what the verdict that lies beside them is another one.
    """
    comparison = read_comparison(Path(place))
    return replace(comparison, recorded_differs=tuple(recorded_differences(Path(place), comparison.decision)))


def read_comparison(place: Path) -> Comparison:
    """Plan, samples and facts of a folder (or of its samples.jsonl), decided again.

    Raises InputError naming the file that is missing or broken.
    """
    from draftsmith.verdict.decide import decide as decide_again
    from draftsmith.verdict.samples import bundle_digest

    folder = place.parent if place.name == "samples.jsonl" else place
    try:
        plan_file = next(folder / name for name in PLAN_NAMES if (folder / name).exists())
        plan = ComparisonPlan.model_validate(read_json(plan_file))
        if not (folder / "samples.jsonl").exists():
            raise FileNotFoundError
        trials = [Trial.model_validate(orjson.loads(line)) for line in read_lines(folder / "samples.jsonl")]
        facts = [(arm, EngineFacts.model_validate(fact)) for arm, fact in read_json(folder / "facts.json")]
    except (StopIteration, OSError):
        raise InputError(
            f"{folder} holds no comparison", "name a folder with plan.json, samples.jsonl and facts.json"
        ) from None
    except ValueError as error:
        raise InputError(f"a file of {folder} does not follow its schema: {error}", "compare again") from None
    return Comparison(plan, trials, facts, decide_again(plan, trials, facts, samples_sha256=bundle_digest(trials)))
