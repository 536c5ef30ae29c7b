"""What each phase hands to its job and what the job hands back: one frozen plan and one frozen result a phase.

A plan is the job's `plan.json`, word for word. A result is the `outputs` (paths and identities that later phases use) and
`figures` (numbers for people) of `result.json`. Laws:
- Files of an older version are read: what was added later has a default, what is gone is ignored.
- A configuration is validated where a plan is read, and nowhere after.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field, ValidationError

from draftsmith.contract.base import Frozen
from draftsmith.contract.config import Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import BackendError
from draftsmith.contract.job import JobResult
from draftsmith.contract.measure import Arm, OperatingPoint
from draftsmith.contract.plan import DraftRecord
from draftsmith.contract.verdict import Interval, Outcome, Tier


class Readable(Frozen):
    """A value of this or another version: unknown keys are ignored."""

    model_config = Frozen.model_config | {"extra": "ignore"}


# -- plans ----------------------------------------------------------------------------------------------------------------


class PhasePlan(Readable):
    """The common part of every job plan of a run.

    `registry`: folder where started processes are recorded. `names`: how paths of this machine are written in the evidence.
    """

    config: Config
    target: TargetFacts
    registry: str
    layer_ids: tuple[int, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    names: dict[str, str] = Field(default_factory=dict)


class ProfilePlan(PhasePlan):
    """Traffic -> workload-profile.json at `out`."""

    sources: tuple[str, ...]
    out: str
    format: str | None = None
    rejects: str | None = None
    aa_shapes: str | None = None


class CorpusPlan(PhasePlan):
    """Traffic -> corpus folder at `out`; hidden states of answers that are given meanwhile go to `states`."""

    sources: tuple[str, ...]
    profile: str | None = None
    out: str
    states: str
    format: str | None = None


class CapturePlan(PhasePlan):
    """Corpus -> hidden states of its rows, in the folder `states`."""

    corpus: str
    states: str


class TrainPlan(PhasePlan):
    """Corpus and states -> a draft's folder at `out`."""

    corpus: str
    states: str
    out: str


class RecordedArrivals(Readable):
    """Which operating point replays the arrivals of which logs, `speed` times as fast."""

    point: str
    speed: float = 1.0
    sources: tuple[str, ...]


class CanaryRequest(Readable):
    """Canaries of this experiment serve the arms; without `allow_cluster` nothing is started."""

    experiment: str
    workspace: str
    allow_cluster: bool = False


class ComparePlan(Readable):
    """Arms, operating points and prompts of a comparison, of a run or of `draftsmith compare`.

    `target` is a folder, empty where no arm is started from one. Prompts come from the `corpus`, or from the files in
    `prompts` by kind, or lie in the job's folder already. `cwd`: where commands of arms are started.
    `journal`: of the campaigns that were begun; None = beside the job's folder.
    """

    config: Config
    target: str
    weight_bytes: int = 0
    registry: str
    arms: tuple[Arm, ...]
    baseline: str
    points: tuple[OperatingPoint, ...]
    corpus: str | None = None
    prompts: dict[str, str] = Field(default_factory=dict)
    arrivals: RecordedArrivals | None = None
    canaries: CanaryRequest | None = None
    cwd: str | None = None
    journal: str | None = None
    source_sha256: str | None = None
    layer_ids: tuple[int, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    names: dict[str, str] = Field(default_factory=dict)


class ForecastPlan(Readable):
    """What `draftsmith plan` measures, and what is known beside it. Times in seconds, speeds in tokens/s.

    `measured_sha256` identifies everything that the measured points depend on. `draft`: a folder, None = an untrained one of
    `draft_vocab` and `layer_ids` is made. `synthetic`: who accepts drafts at a chosen rate, the `engine` or a `worker`.
    """

    config: Config
    target: TargetFacts
    profile: str
    registry: str
    measured_sha256: str
    versions: dict[str, str] = Field(default_factory=dict)
    ks: tuple[int, ...]
    concurrencies: tuple[int, ...]
    primary: int
    repeats: int
    tokens: int
    draft: str | None = None
    draft_vocab: int
    layer_ids: tuple[int, ...]
    synthetic: str = ""
    ngram: bool = False
    shape_note: str = ""
    fit_note: str | None = None
    records: tuple[DraftRecord, ...] = ()
    capture_tokens_per_s: float | None = None
    train_tokens_per_s: float | None = None
    speeds_from: str = ""
    standing: dict[str, Any] | None = None
    standing_positions: tuple[float, ...] = ()
    suffix_installed: bool = False
    start_s: float
    start_timed: bool = False
    plain_tpot_s: float


class PublishPlan(PhasePlan):
    """What the finished phases left -> a bundle under `out`. `standing`: the speculative config that served before."""

    results: dict[str, JobResult]
    run_id: str
    folder: str
    out: str
    standing: dict[str, Any] | None = None


# -- results --------------------------------------------------------------------------------------------------------------


class PhaseResult(Readable):
    """What a job made. Fields named in OUTPUTS are its outputs, all others its figures."""

    PHASE: ClassVar[str] = ""
    OUTPUTS: ClassVar[tuple[str, ...]] = ()
    OPTIONAL: ClassVar[tuple[str, ...]] = ()  # outputs that are left out where they are None

    @classmethod
    def of(cls, result: JobResult) -> Self:
        """The typed result of a finished job. Raises BackendError if it lacks what this phase promises."""
        try:
            return cls.model_validate(result.outputs | result.figures)
        except ValidationError as error:
            wrong = ", ".join(sorted({str(item["loc"][0]) for item in error.errors() if item["loc"]}))
            raise BackendError(
                f"the result of {cls.PHASE or 'the job'} does not fit ({wrong})",
                f"run it again: --start-phase {cls.PHASE}",
            ) from None

    def outputs(self) -> dict[str, Any]:
        """As result.json holds them."""
        values = self.model_dump(mode="json", include=set(self.OUTPUTS))
        return {name: value for name, value in values.items() if name not in self.OPTIONAL or value is not None}

    def figures(self) -> dict[str, Any]:
        """As result.json holds them."""
        return self.model_dump(mode="json", exclude=set(self.OUTPUTS))


class ProfileResult(PhaseResult):
    """Lengths in tokens, rates a second, `concurrency_mean` in requests. `skipped`: lines by reason."""

    PHASE = "profile"
    OUTPUTS = ("profile", "profile_sha256")

    profile: str
    profile_sha256: str
    n_requests: int = 0
    skipped: dict[str, int] = Field(default_factory=dict)
    input_p50: int | None = None
    output_p50: int | None = None
    classes: dict[str, float] = Field(default_factory=dict)
    method: str = ""
    rationale: str = ""
    rejected_by_speculation: Any = None
    arrival_rate_per_s: float | None = None
    concurrency_mean: float | None = None
    ngram_tokens_per_step: float | None = None


class CorpusResult(PhaseResult):
    """Rows and answer tokens by split, and what was left out by reason. `capture_bytes_estimate`: of the hidden states."""

    PHASE = "corpus"
    OUTPUTS = ("corpus", "states", "rows_sha256")

    corpus: str
    states: str
    rows_sha256: str
    rows: dict[str, int] = Field(default_factory=dict)
    answer_tokens: dict[str, int] = Field(default_factory=dict)
    draft_vocabulary: int | None = None
    vocabulary_coverage: dict[str, float] | None = None
    regenerated: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    redacted_prompts: int = 0
    mined: int = 0
    capture_bytes_estimate: int | None = None


class ProbeSummary(Frozen):
    """Whether the captured states are correct, check by check."""

    model_config = Frozen.model_config | {"extra": "allow"}

    passed: bool = False
    checks: tuple[dict[str, Any], ...] = ()


class CaptureResult(PhaseResult):
    """Rows, tokens, bytes and seconds; of a shard, those of its own rows. `estimate_bytes`: as the corpus foresaw."""

    PHASE = "capture"
    OUTPUTS = ("states", "layer_ids")

    states: str
    layer_ids: tuple[int, ...] = ()
    rows: int = 0
    captured_rows: int = 0
    captured_tokens: int = 0
    capture_tokens_per_s: float | None = None
    bytes: int = 0
    estimate_bytes: int | None = None
    probe: ProbeSummary = ProbeSummary()
    wall_s: float = 0.0


class TrainResult(PhaseResult):
    """`validation_acceptance` is by position, of the chosen epoch; `expected_al` in tokens a step."""

    PHASE = "train"
    OUTPUTS = ("draft", "draft_sha256", "metrics")

    draft: str
    draft_sha256: str
    metrics: str = ""
    epochs: tuple[dict[str, Any], ...] = ()
    chosen_epoch: int = 0
    validation_acceptance: tuple[float, ...] = ()
    expected_al: float = 0.0
    trained_tokens: int = 0
    tokens_per_s: float = 0.0
    draft_vocabulary: int | None = None
    batch_tokens: int | None = None
    settings: str = ""
    lint_warnings: tuple[str, ...] = ()


class HelperResult(PhaseResult):
    """Of a further rank of the training: it made nothing of its own."""

    rank: int


class CompareResult(PhaseResult):
    """The verdict in figures; see contract.view.VerdictView. `winner_config` None: no speculation, or no winner.

    `served`: fingerprint of the deployment that the arms were copies of.
    """

    # Figures that a later edition of the gate adds are kept.
    model_config = PhaseResult.model_config | {"extra": "allow"}
    PHASE = "compare"
    OUTPUTS = ("plan", "samples", "facts", "verdict", "winner_config", "winner_sha256", "served")
    OPTIONAL = ("served",)

    plan: str
    samples: str
    facts: str
    verdict: str
    winner_config: dict[str, Any] | None = None
    winner_sha256: str | None = None
    served: str | None = None
    outcome: Outcome
    tier: Tier
    reason: str
    winner: str | None = None
    speedup: Interval | None = None
    acceptance_length: dict[str, float] = Field(default_factory=dict)
    median_tpot_ms: dict[str, float] = Field(default_factory=dict)
    schedule: tuple[tuple[int, ...], ...] = ()
    schedule_sentence: str | None = None
    forecast: str | None = None
    repeated_visits: int = 0


class ForecastResult(PhaseResult):
    """Where the plan and its page lie, and what they say."""

    PHASE = "plan"
    OUTPUTS = ("plan", "page")

    plan: str
    page: str
    advice: str
    reason: str


class PublishResult(PhaseResult):
    """The bundle that was written and verified."""

    PHASE = "publish"
    OUTPUTS = ("bundle", "report")

    bundle: str
    report: str
    verified: bool = False
    files: int = 0
    manifest_sha256: str = ""
