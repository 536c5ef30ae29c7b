"""Checks the hidden states of a dozen rows before thousands of rows are captured.

    python -m draftsmith.work.inside.probe PLAN.json --report REPORT.json

A capture that is off by a layer, by a token or by a request still trains: the loss falls, and the served draft accepts
almost nothing. So each assumption is tested against something independent of it: the ids that the engine returned, the
answers it decoded, the log probabilities it reported, and the target: run by transformers, or its two ends as stored. Fails closed: exit code 0
means every check was made and passed, 1 that one did not. No gradient; figures and never text in the report.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from draftsmith.contract.errors import InputError
from draftsmith.kit.files import write_json
from draftsmith.work.inside.ends import Ends
from draftsmith.work.inside.probe_layers import Beside, check_feet, check_layers
from draftsmith.work.inside.probe_plan import TARGET, CapturedRow, ProbeCheck, ProbePlan, ProbeReport, ladder_ids
from draftsmith.work.inside.probe_reference import Reference

POSITIONS = 256  # looked at in each row, spread evenly
TIE = 2**-7  # of the top logit: two bfloat16 steps, within which two tokens count as equally likely
MIN_POSITIONS = 8  # fewer say nothing about one row
MIN_AGREEMENT, MIN_ROW_AGREEMENT = 0.95, 0.85
MAX_SHIFTED = 0.3
MAX_LOGPROB_GAP, MAX_ROW_LOGPROB_GAP = 0.05, 0.1  # nats, median over positions
Known = Reference | Ends


@dataclass(frozen=True)
class Capture:
    """A row with its file. states [T, layers, H], ids [T]."""

    number: int
    row: CapturedRow
    states: Tensor
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Agreement:
    """Shares of positions of one row where the token that follows is the likeliest, and the same one token off."""

    positions: int
    right: float
    earlier: float | None
    later: float | None


def probe(plan: ProbePlan) -> ProbeReport:
    """Make every check of the plan. Never raises for what the files or the target hold."""
    checks = [_covered(plan)]
    captures, files = _load(plan)
    checks += files
    figures: dict[str, float] = {"rows": len(plan.rows)}
    reference: Known
    try:
        reference = Ends(Path(plan.target)) if plan.ladder else Reference(Path(plan.target), plan.device)
    except (
        OSError,
        ValueError,
        RuntimeError,
        ImportError,
        KeyError,
        AttributeError,
        SafetensorError,
        InputError,
    ) as problem:
        fault = "the two ends of the target cannot be read" if plan.ladder else "transformers cannot load the target"
        checks.append(_check(TARGET, False, f"{fault}: {type(problem).__name__}"))
        return _report(checks, figures)
    steps: tuple[Callable[..., list[ProbeCheck]], ...] = (_shapes, _answers, _logprobs, _layers)
    for step in steps:
        try:
            checks += step(plan, captures, reference, figures)
        except (RuntimeError, ValueError, IndexError, TypeError, KeyError) as problem:
            checks.append(_check(step.__name__.strip("_"), False, f"could not be made: {type(problem).__name__}"))
        if not all(check.passed for check in checks) and step is _shapes:
            break  # what follows would compare the wrong things
    return _report(checks, figures)


def _report(checks: list[ProbeCheck], figures: dict[str, float]) -> ProbeReport:
    figures["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return ProbeReport(passed=all(check.passed for check in checks), checks=tuple(checks), figures=figures)


def _check(name: str, passed: bool, sentence: str) -> ProbeCheck:
    return ProbeCheck(name=name, passed=passed, sentence=sentence)


def _covered(plan: ProbePlan) -> ProbeCheck:
    """The rows stand for the capture: some taken while others ran, and one as long as the longest."""
    together = sum(row.concurrency > 1 for row in plan.rows)
    longest = max((len(row.fed_ids()) for row in plan.rows), default=0)
    missing = []
    if not plan.rows:
        missing.append("no rows")
    if plan.concurrent and not together:
        missing.append("no row was captured beside others")
    if plan.longest_tokens is not None and longest < plan.longest_tokens:
        missing.append(f"the longest row has {longest} tokens, the capture goes to {plan.longest_tokens}")
    words = f"{len(plan.rows)} rows, {together} of them captured beside others, the longest of {longest} tokens"
    return _check("coverage", not missing, "; ".join(missing) or words)


def _load(plan: ProbePlan) -> tuple[list[Capture], list[ProbeCheck]]:
    """Read the files; compare ids; look for values that are no numbers. Only sound rows go further."""
    captures, unread, unequal, holes = [], [], [], []
    for number, row in enumerate(plan.rows):
        try:
            tensors = load_file(row.file)
            states, ids = tensors["hidden_states"], tuple(tensors["token_ids"].reshape(-1).tolist())
        except (OSError, KeyError, SafetensorError, ValueError):
            unread.append(number)
            continue
        if ids != row.fed_ids() or states.shape[0] != len(ids):
            unequal.append(number)
        elif not torch.isfinite(states).all():
            holes.append(number)
        else:
            captures.append(Capture(number, row, states, ids))
    return captures, [
        _check("files", not unread, f"not readable: rows {unread}" if unread else "every file is readable"),
        _check(
            "token ids",
            not unequal,
            f"ids or their number differ from the engine's answer in rows {unequal}"
            if unequal
            else "the ids of every file are the engine's own",
        ),
        _check("finite", not holes, f"NaN or infinite states in rows {holes}" if holes else "all states are finite"),
    ]


def _shapes(
    plan: ProbePlan, captures: Sequence[Capture], reference: Known, figures: dict[str, float]
) -> list[ProbeCheck]:
    depth, width = reference.num_layers, reference.hidden_size
    ids = plan.layer_ids
    if not ids or tuple(sorted(set(ids))) != ids or ids[0] < 0 or ids[-1] != depth:
        return [_check("shapes", False, f"layer ids {list(ids)} must rise and end with {depth}, before the final norm")]
    wrong = [c.number for c in captures if tuple(c.states.shape[1:]) != (len(ids), width)]
    figures["tokens"] = sum(len(c.ids) for c in captures)
    words = f"rows {wrong} are not [tokens, {len(ids)}, {width}]" if wrong else f"[tokens, {len(ids)}, {width}]"
    return [_check("shapes", bool(captures) and not wrong, words if captures else "no sound row is left")]


def _answers(
    plan: ProbePlan, captures: Sequence[Capture], reference: Known, figures: dict[str, float]
) -> list[ProbeCheck]:
    """Greedy answers: the state at t, normed and put through the head, must choose the token at t + 1."""
    rows = [c for c in captures if c.row.greedy and c.row.output_ids]
    proved = [c for c in captures if c.row.prompt_logprobs is not None]
    unproved = [c.number for c in captures if c not in rows and c not in proved]
    checks = []
    if unproved:
        checks.append(
            _check(
                "proof", False, f"rows {unproved} have neither a greedy answer nor log probabilities to compare with"
            )
        )
    if not rows:
        return checks
    agreements = [(c, _agreement(c, reference)) for c in rows]
    total = sum(a.positions for _, a in agreements)
    right = sum(a.right * a.positions for _, a in agreements) / total
    low = [c.number for c, a in agreements if a.positions >= MIN_POSITIONS and a.right < MIN_ROW_AGREEMENT]
    shifted = {
        name: [value for _, a in agreements if (value := getattr(a, name)) is not None] for name in ("earlier", "later")
    }
    figures |= {
        "answer_positions": total,
        "answer_agreement": right,
        "answer_agreement_worst_row": min(a.right for _, a in agreements),
    }
    enough = total >= MIN_POSITIONS
    checks.append(
        _check(
            "answers",
            enough and right >= MIN_AGREEMENT and not low,
            f"the next token is the likeliest at {right:.1%} of {total} answer positions"
            + (f"; rows {low} agree too rarely: other requests' states?" if low else "")
            + ("" if enough else "; too few positions to tell"),
        )
    )
    for name, where in (("earlier", "the token before"), ("later", "the token after")):
        share = sum(shifted[name]) / len(shifted[name]) if shifted[name] else None
        if share is not None:
            figures[f"answer_agreement_{name}"] = share
        checks.append(
            _check(
                f"shift {'-1' if name == 'earlier' else '+1'}",
                share is not None and share <= MAX_SHIFTED < right,
                f"agreement with {where} it is {share:.1%}"
                if share is not None
                else "the answers are too uniform to tell",
            )
        )
    return checks


def _agreement(capture: Capture, reference: Known) -> Agreement:
    tokens = capture.row.prompt_ids + capture.row.output_ids
    rows = _spread(len(capture.row.prompt_ids) - 1, len(capture.ids))
    logits = reference.logits(capture.states[rows, -1])
    limit = logits.max(1).values - TIE * logits.abs().max(1).values

    def share(offset: int) -> float | None:
        """Agreement with the token `offset` from the right one, where the two differ."""
        hits = []
        for i, t in enumerate(rows):
            at = t + 1 + offset
            if at < len(tokens) and (offset == 0 or tokens[at] != tokens[t + 1]):
                hits.append(bool(logits[i, tokens[at]] >= limit[i]))
        return sum(hits) / len(hits) if hits else None

    return Agreement(len(rows), share(0) or 0.0, share(-1), share(1))


def _logprobs(
    plan: ProbePlan, captures: Sequence[Capture], reference: Known, figures: dict[str, float]
) -> list[ProbeCheck]:
    """Engine log probabilities: the state at t - 1 must give the same to the token at t, and not its neighbours."""
    rows = [c for c in captures if c.row.prompt_logprobs is not None]
    if not rows:
        return []
    if other := [c.number for c in rows if _of_other_ids(c)]:
        return [_check("log probabilities", False, f"those of rows {other} are of other tokens")]
    gaps = {shift: [_gaps(c, reference, shift) for c in rows] for shift in (-1, 0, 1)}
    if not all(gaps[0]):
        return [_check("log probabilities", False, "a row has log probabilities for none of its tokens")]
    pooled = {shift: median([gap for row in lists for gap in row] or [0.0]) for shift, lists in gaps.items()}
    off = [c.number for c, row in zip(rows, gaps[0], strict=True) if median(row) > MAX_ROW_LOGPROB_GAP]
    figures |= {"logprob_gap": pooled[0], "logprob_gap_earlier": pooled[-1], "logprob_gap_later": pooled[1]}
    apart = min(pooled[-1], pooled[1]) > 4 * max(pooled[0], MAX_LOGPROB_GAP / 4)
    return [
        _check(
            "log probabilities",
            pooled[0] <= MAX_LOGPROB_GAP and not off,
            f"median distance from the engine's {pooled[0]:.3f} nats" + (f"; rows {off} are far off" if off else ""),
        ),
        _check(
            "log probability shift",
            apart,
            f"one token off the distance is {pooled[-1]:.3f} and {pooled[1]:.3f} nats",
        ),
    ]


def _of_other_ids(capture: Capture) -> bool:
    """Whether the engine spoke of other tokens: it always tells of the one that stands there, whatever else it lists."""
    logprobs = zip(capture.ids[1:], (capture.row.prompt_logprobs or ())[1:], strict=False)
    return any(entry and token not in entry for token, entry in logprobs)


def _gaps(capture: Capture, reference: Known, shift: int) -> list[float]:
    """|ours - the engine's| for the token at t, from the state at t - 1 + shift."""
    logprobs = capture.row.prompt_logprobs or ()
    known = [
        t
        for t in range(1, min(len(logprobs), len(capture.ids)))
        if logprobs[t] and capture.ids[t] in (logprobs[t] or {})
    ]
    places = [t for t in known if 0 <= t - 1 + shift < len(capture.ids)]
    places = [places[i] for i in _spread(0, len(places))]
    if not places:
        return []
    logs = reference.logits(capture.states[[t - 1 + shift for t in places], -1]).log_softmax(1)
    return [abs(float(logs[i, capture.ids[t]]) - (logprobs[t] or {})[capture.ids[t]]) for i, t in enumerate(places)]


def _layers(
    plan: ProbePlan, captures: Sequence[Capture], reference: Known, figures: dict[str, float]
) -> list[ProbeCheck]:
    """Every layer against transformers, or against the ladder of layers captured with it."""
    rows = sorted(captures, key=lambda c: len(c.ids))[: plan.reference_rows]
    if isinstance(reference, Reference):
        streams = [dict(enumerate(reference.stream(c.ids))) for c in rows]
        return check_layers(
            [Beside(c.states, s) for c, s in zip(rows, streams, strict=True)], plan.layer_ids, "transformers'", figures
        )
    rungs, files = _load(plan.model_copy(update={"rows": plan.ladder}))
    ids, depth = ladder_ids(plan.layer_ids, reference.num_layers), reference.num_layers
    spoilt = [check for check in files if not check.passed]
    shapes = all(tuple(rung.states.shape[1:]) == (len(ids), reference.hidden_size) for rung in rungs)
    known = {rung.ids: {layer: rung.states[:, place] for place, layer in enumerate(ids)} for rung in rungs}
    beside = [Beside(c.states, known[c.ids]) for c in captures if c.ids in known]
    if spoilt or not shapes or not beside:
        words = "; ".join(check.sentence for check in spoilt) or f"not the states of layers 0 to {depth} for these rows"
        return [_check("ladder", False, words)]
    return [
        check_feet([(rung.ids, known[rung.ids]) for rung in rungs], reference, figures),
        *check_layers(beside, plan.layer_ids, "the engine's own", figures),
    ]


def _spread(start: int, stop: int) -> list[int]:
    """At most POSITIONS places in [start, stop), evenly, the last one among them."""
    count = stop - start
    if count <= POSITIONS:
        return list(range(start, stop))
    return sorted({start + round(i * (count - 1) / (POSITIONS - 1)) for i in range(POSITIONS)})


def main(argv: Sequence[str] | None = None) -> int:
    """Read a plan, write a report, say by the exit code whether every check passed."""
    parser = argparse.ArgumentParser(
        prog="python -m draftsmith.work.inside.probe", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("plan", type=Path, help="JSON of ProbePlan")
    parser.add_argument("--report", type=Path, required=True, help="where to write the JSON of ProbeReport")
    arguments = parser.parse_args(argv)
    report = probe(ProbePlan.model_validate_json(arguments.plan.read_bytes()))
    write_json(arguments.report, report)
    for check in report.checks:
        print(f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.sentence}")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
