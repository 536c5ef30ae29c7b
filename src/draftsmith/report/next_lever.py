"""What to try next, what it should bring, and the gate that would prove it: read off the evidence by rules, nothing else.

Every expected gain is an estimate from a model that is stated with it, never a promise: the gate decides. The models:

* AL = 1 + sum of the shares accepted at each position, and TPOT falls as AL grows at equal cost per step.
* Cost of a step relative to one without speculation = AL / speed-up over no speculation; what exceeds 1 is the price of
  drafting and verifying, taken as proportional to K.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from draftsmith.contract.frontier import Lever
from draftsmith.contract.measure import Arm
from draftsmith.contract.verdict import ArmSummary
from draftsmith.report.numbers import count, milliseconds, percent, ratio
from draftsmith.report.parts import ReportParts
from draftsmith.report.reduce import accepted_by, conditional, length_of, training
from draftsmith.verdict.schedule import propose

WIRING_GAP = 0.25
CONDITIONAL_DROP = 0.10
ENOUGH_COVERAGE = 0.995
PRICE_WORTH_CUTTING = 0.25
CLASS_GAP = 0.25
CLASS_SHARE = 0.08
SMALL_CORPUS_TOKENS = 2_000_000
STILL_RISING = 0.01


@dataclass(frozen=True)
class _Lead:
    """The arm that the run is about, at the primary point."""

    arm: Arm
    summary: ArmSummary

    @property
    def length(self) -> int:
        return (self.arm.speculation.k if self.arm.speculation else None) or 0


def next_levers(parts: ReportParts) -> tuple[Lever, ...]:
    """All levers that the evidence speaks for: urgent ones first, then by expected gain. Never empty."""
    levers = [lever for rule in _RULES if (lever := rule(parts)) is not None]
    order = sorted(levers, key=lambda lever: (not lever.urgent, -(lever.gain or 1.0)))
    return tuple(order) or (_watch(parts),)


def _lead(parts: ReportParts) -> _Lead | None:
    arm = parts.leading
    summary = parts.summary(arm.name, parts.primary) if arm else None
    return _Lead(arm, summary) if arm and summary and arm.spec_config else None


def _gate(parts: ReportParts, extra: str = "") -> str:
    baseline = parts.plan.baseline if parts.plan else "the standing configuration"
    point = parts.primary or "the primary operating point"
    pair = parts.pair(parts.leading.name, parts.primary) if parts.leading else None
    bar = f" clears {ratio(pair.min_speedup)}" if pair else " clears the bar"
    return (
        f"compare against {baseline} at {point}: the lower end of the interval{bar} at tier verdict with every guard"
        f"{f'; {extra}' if extra else ''}"
    )


def _wiring(parts: ReportParts) -> Lever | None:
    lead, seen = _lead(parts), parts.draft.validation_acceptance if parts.draft else ()
    if lead is None or not seen or not lead.summary.acceptance_by_position or lead.arm.role != "candidate":
        return None
    served = lead.summary.acceptance_by_position
    if seen[0] - served[0] < WIRING_GAP:
        return None
    gain = length_of(seen[: len(served)]) / length_of(served)
    return Lever(
        key="wiring",
        title="Find out why serving accepts less than validation",
        why=f"position 1 is accepted in {percent(served[0])} of drafts while serving, {percent(seen[0])} on validation rows: "
        "layer ids, vocabulary map, rotary settings or the chat template differ between training and serving",
        expected=f"up to {ratio(gain)} if serving reaches what validation shows (AL "
        f"{length_of(served):.2f} to {length_of(seen[: len(served)]):.2f})",
        gate=_gate(parts, "first the probe of captured states, at no cost"),
        gain=gain,
        urgent=True,
    )


def _tier(parts: ReportParts) -> Lever | None:
    decision = parts.decision
    if decision is None or decision.tier == "verdict" or decision.outcome != "WIN":
        return None
    first = decision.tier_reasons[0] if decision.tier_reasons else "its reasons are not recorded"
    return Lever(
        key="tier",
        title="Raise the tier from draft to verdict",
        why=f"the gain is there, the proof is not: {first}",
        expected="no speed; only a verdict of tier verdict may be promoted",
        gate=_gate(parts, "the same arms, with the reason above removed"),
        urgent=True,
    )


def _blocks(parts: ReportParts) -> Lever | None:
    decision = parts.decision
    pair = parts.pair(parts.leading.name, parts.primary) if decision and parts.leading else None
    if decision is None or pair is None or not decision.need_more_blocks:
        return None
    width = f", now {ratio(pair.speedup.low)} to {ratio(pair.speedup.high)}" if pair.speedup else ""
    return Lever(
        key="blocks",
        title="Measure more blocks",
        why=f"{pair.blocks} blocks leave the question open{width}",
        expected=f"no speed; {2 * pair.blocks} blocks shrink the interval to about 0.7 of its width",
        gate=_gate(parts),
        urgent=True,
    )


def _better_arm(parts: ReportParts) -> Lever | None:
    """A trainless arm is faster than the candidate of the run."""
    arm, best = parts.leading, None
    own_summary = parts.summary(arm.name, parts.primary) if arm else None
    if arm is None or own_summary is None or not own_summary.median_tpot_s:
        return None
    for other in parts.arms:
        row = parts.summary(other.name, parts.primary)
        if other.name == arm.name or other.role not in ("no_spec", "trainless") or not row or not row.median_tpot_s:
            continue
        if row.median_tpot_s < 0.98 * own_summary.median_tpot_s and (best is None or row.median_tpot_s < best[1]):
            best = (other, row.median_tpot_s)
    if best is None:
        return None
    other, time = best
    gain = own_summary.median_tpot_s / time
    action = "Turn speculation off" if other.role == "no_spec" else f"Serve {other.name}, which needs no training"
    return Lever(
        key="better_arm",
        title=action,
        why=f"{other.name} needs {milliseconds(time)} ms a token, {arm.name} {milliseconds(own_summary.median_tpot_s)} ms",
        expected=f"{ratio(gain)} against {arm.name}, as measured",
        gate=_gate(parts, f"with {other.name} as the arm to promote"),
        gain=gain,
    )


def _forgetting(parts: ReportParts) -> Lever | None:
    pair = parts.pair(parts.leading.name, parts.primary) if parts.leading else None
    guard = next((g for g in pair.guards if g.name == "forgetting" and g.passed is False), None) if pair else None
    if guard is None:
        return None
    return Lever(
        key="forgetting",
        title="Mix general traffic into the corpus",
        why=guard.sentence,
        expected="none on the own traffic; it makes the draft fit to be promoted",
        gate=_gate(parts, "guard forgetting above all"),
        urgent=True,
    )


def _late_positions(parts: ReportParts) -> Lever | None:
    lead = _lead(parts)
    if lead is None or lead.arm.role != "candidate" or len(lead.summary.acceptance_by_position) < 2:
        return None
    shares = lead.summary.acceptance_by_position
    steps = conditional(shares)
    drops = [(steps[0] - step, k) for k, step in enumerate(steps) if k]
    drop, k = max(drops)
    if drop < CONDITIONAL_DROP:
        return None
    mended = list(steps)
    mended[k] = steps[k - 1]
    raised, product = [], 1.0
    for step in mended:
        product *= step
        raised.append(product)
    gain = length_of(raised) / length_of(shares)
    return Lever(
        key="late_positions",
        title=f"Train position {k + 1} longer: more epochs or rows, and at least {k + 1} training steps ahead",
        why=f"given that position {k} was accepted, position {k + 1} is accepted in {percent(steps[k])} of drafts, against "
        f"{percent(steps[0])} at position 1",
        expected=f"about {ratio(gain)}: AL {length_of(shares):.2f} to {length_of(raised):.2f} if it reached {percent(steps[k - 1])}",
        gate=_gate(parts),
        gain=gain,
    )


def _vocabulary(parts: ReportParts) -> Lever | None:
    vocabulary = parts.corpus.vocabulary if parts.corpus else None
    if vocabulary is None or not vocabulary.coverage:
        return None
    split = (
        "heldout"
        if "heldout" in vocabulary.coverage
        else min(vocabulary.coverage, key=lambda s: vocabulary.coverage[s])
    )
    coverage = vocabulary.coverage[split]
    if coverage >= ENOUGH_COVERAGE:
        return None
    lead = _lead(parts)
    shares = lead.summary.acceptance_by_position if lead else ()
    gain = None
    if shares:
        lift = min(ENOUGH_COVERAGE / coverage, 1 / max(shares[0], 1e-9))
        gain = length_of([share * lift ** (k + 1) for k, share in enumerate(shares)]) / length_of(shares)
    return Lever(
        key="vocabulary",
        title="Enlarge the draft vocabulary",
        why=f"its {count(vocabulary.size)} tokens hold {percent(coverage, 4)} of the {split} answer tokens; what it lacks it "
        "can never propose",
        expected=f"at most {ratio(gain)} at a coverage of {percent(ENOUGH_COVERAGE)}, less the price of a larger output head"
        if gain
        else "more acceptance at the price of a larger output head",
        gate=_gate(parts),
        gain=gain,
    )


def _price(parts: ReportParts) -> Lever | None:
    """AL is high but little of it arrives: the draft, or a K that is too long, costs too much."""
    lead = _lead(parts)
    plain = next((a for a in parts.arms if a.role == "no_spec"), None)
    base = parts.summary(plain.name, parts.primary) if plain else None
    if lead is None or base is None or not lead.summary.acceptance_length:
        return None
    if not base.median_tpot_s or not lead.summary.median_tpot_s or not lead.length:
        return None
    speed = base.median_tpot_s / lead.summary.median_tpot_s
    price = lead.summary.acceptance_length / speed - 1
    if price < PRICE_WORTH_CUTTING:
        return None
    shares, k = lead.summary.acceptance_by_position, lead.length
    options = {m: length_of(shares[:m]) / (1 + price * m / k) for m in range(1, min(k, len(shares)) + 1)}
    best = max(options, key=lambda m: options[m], default=k)
    halved = (1 + price) / (1 + price / 2)
    if options and best < k and options[best] / speed > 1.02:
        gain, action = options[best] / speed, f"Shorten K from {k} to {best}"
        how = f"about {ratio(gain)} if the price of a step falls with K"
    else:
        gain, action = halved, "Make the draft cheaper: fewer layers, a smaller vocabulary, or a lighter method"
        how = f"up to {ratio(gain)} if the price is halved at equal acceptance"
    return Lever(
        key="price",
        title=action,
        why=f"AL is {lead.summary.acceptance_length:.2f}, the speed-up over no speculation {ratio(speed)}: drafting and verifying "
        f"make a step {percent(price)} longer",
        expected=how,
        gate=_gate(parts),
        gain=gain,
    )


def _load(parts: ReportParts) -> Lever | None:
    """Faster at one concurrency and slower at another: K should follow the load."""
    arm = parts.leading
    if arm is None or parts.plan is None or parts.decision is None:
        return None
    pairs = {p.name: parts.pair(arm.name, p.name) for p in parts.points}
    speeds = {name: pair.speedup for name, pair in pairs.items() if pair and pair.speedup}
    slower = [p for p in parts.points if p.name in speeds and speeds[p.name].high < 1]
    faster = [p for p in parts.points if p.name in speeds and speeds[p.name].low > 1]
    if not slower or not faster:
        return None
    worst = min(slower, key=lambda p: speeds[p.name].value)
    gain = 1 / speeds[worst.name].value
    schedule = propose(parts.plan, parts.decision)
    tiers = f" ({', '.join(f'{low} to {high}: K={k}' for low, high, k in schedule)})" if schedule else ""
    return Lever(
        key="load",
        title=f"Schedule K by batch size{tiers}",
        why=f"{arm.name} is {ratio(speeds[faster[-1].name].value)} at {faster[-1].name} but {ratio(speeds[worst.name].value)} at "
        f"{worst.name}: verifying costs more as the batch grows",
        expected=f"{ratio(gain)} at {worst.name} by giving up speculation there, nothing lost below it",
        gate=f"compare at every operating point: no point under 1.000×, and {parts.primary} keeps its gain",
        gain=gain,
    )


def _classes(parts: ReportParts) -> Lever | None:
    lead = _lead(parts)
    mix = parts.profile.content_class_mix if parts.profile else {}
    if lead is None or len(mix) < 2 or not lead.summary.acceptance_length:
        return None
    trials = [t for t in parts.at(parts.primary) if t.arm == lead.arm.name]
    lengths = accepted_by(trials, lambda sample: sample.content_class)
    mean = lead.summary.acceptance_length
    weak = [
        (name, a.length)
        for name, a in lengths.items()
        if mix.get(name, 0) >= CLASS_SHARE and a.length < mean * (1 - CLASS_GAP)
    ]
    if not weak:
        return None
    name, length = max(weak, key=lambda item: mix[item[0]] * (1 / item[1] - 1 / mean))
    gain = 1 / (1 - mix[name] * (1 - length / mean))
    return Lever(
        key="class",
        title=f"Give {name} more weight in the corpus, or a draft of its own",
        why=f"{name} is {percent(mix[name])} of the requests and has AL {length:.2f}, all requests together {mean:.2f}",
        expected=f"about {ratio(gain)} over all traffic if it reached the mean",
        gate=_gate(parts, f"AL of {name} reported beside it"),
        gain=gain,
    )


def _corpus(parts: ReportParts) -> Lever | None:
    """Still rising at the last epoch, or few tokens: a learning curve says whether more data pays."""
    epochs = [e for e in training(parts.training).epochs if e.acceptance]
    train = parts.corpus.splits.get("train") if parts.corpus else None
    if len(epochs) >= 2:
        before, after = length_of(epochs[-2].acceptance), length_of(epochs[-1].acceptance)
        if after - before > STILL_RISING:
            # Halving at every further epoch, the rise sums to once the last one.
            gain = 1 + (after - before) / after
            return Lever(
                key="epochs",
                title="Train longer: acceptance was still rising when training ended",
                why=f"validation AL rose from {before:.2f} to {after:.2f} in the last of {len(epochs)} epochs",
                expected=f"about {ratio(gain)} if every further epoch brings half of the one before",
                gate=_gate(parts),
                gain=gain,
            )
    if train is not None and train.answer_tokens < SMALL_CORPUS_TOKENS:
        return Lever(
            key="corpus",
            title="Draw a learning curve: train on a quarter, a half and all of the corpus",
            why=f"the draft saw {count(train.answer_tokens)} answer tokens in {count(train.rows)} rows",
            expected="not to be told from one size; if AL rises from half to all, twice the rows should bring about as much again",
            gate=_gate(parts, "validation AL at each size first, without a server"),
        )
    return None


def _profile_only(parts: ReportParts) -> Lever | None:
    if parts.decision is not None or parts.profile is None:
        return None
    recommended = parts.profile.recommended_spec_decode
    best = max(
        (e for e in parts.profile.expected_acceptance if e.tokens_per_step),
        key=lambda e: e.tokens_per_step or 0,
        default=None,
    )
    known = (
        f"{best.method} without training: {best.tokens_per_step:.2f} tokens per step in simulation, before its costs"
        if best
        else "unknown until it is measured"
    )
    action = "Keep speculation off" if recommended.method == "none" else f"Try {recommended.method}"
    return Lever(
        key="profile",
        title=action,
        why=recommended.rationale,
        expected=known,
        gate=_gate(parts),
        gain=best.tokens_per_step if best else None,
    )


def _watch(parts: ReportParts) -> Lever:
    return Lever(
        key="watch",
        title="Keep it and watch for drift",
        why="nothing in this evidence points at a larger gain",
        expected="none; it guards the gain that is there",
        gate=_gate(parts, "run again when the traffic's profile drifts"),
    )


_RULES: tuple[Callable[[ReportParts], Lever | None], ...] = (
    _wiring,
    _tier,
    _blocks,
    _forgetting,
    _better_arm,
    _load,
    _late_positions,
    _price,
    _vocabulary,
    _classes,
    _corpus,
    _profile_only,
)
