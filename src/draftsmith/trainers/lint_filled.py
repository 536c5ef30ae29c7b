"""Checks of the values: none is NaN, none was left unfilled, and what the trainers copy from the target is the target's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from draftsmith.contract.draft import Finding
from draftsmith.contract.errors import InputError
from draftsmith.trainers.findings import Case, error, ok, some, warn
from draftsmith.trainers.stand_in import NORM_FROM_ONE, find_ends
from draftsmith.trainers.weights import Tensor, count_not_finite, only_value, read_tensors, row_likeness, weight_files

EMBEDDINGS = "embed_tokens.weight"
FLOATS = ("BF16", "F16", "F32", "F64")  # packed values are not judged: what they mean is in their scales
MOST_BYTES = 16 << 30  # of all values: what is larger is no draft, and a file with holes may claim any size
UNLIKE, ALIKE = 0.5, 0.98  # cosine of embedding rows
FOREIGN = 0.25  # share of unlike rows from which the embeddings are not the target's


def check_finite(case: Case) -> Iterator[Finding]:
    """No NaN, no infinity."""
    size = sum(tensor.size for tensor in case.draft.tensors.values())
    if size > MOST_BYTES:
        yield error("finite", f"{size >> 30:,} GiB of weights: no draft is so large, its values were not read",
                    "point to the folder of a draft")  # fmt: skip
        return
    bad = {name: count for name, tensor in case.draft.tensors.items() if (count := count_not_finite(tensor))}
    if bad:
        yield error(
            "finite",
            f"NaN or infinite values in {some([f'{name} ({count})' for name, count in bad.items()])}",
            "take an earlier checkpoint; embeddings or heads full of NaN were never filled from the target",
        )
    else:
        yield ok("finite", "all values are finite")


def check_filled(case: Case) -> Iterator[Finding]:
    """Weights were filled: no matrix holds one value only, no norm only zeros, and own embeddings are the target's."""
    draft = case.draft
    if sum(tensor.size for tensor in draft.tensors.values()) > MOST_BYTES:
        return  # said by the check before
    alone = {name: value for name, tensor in draft.tensors.items() if (value := _only(name, tensor)) is not None}
    from_one = draft.layer.get("model_type") in NORM_FROM_ONE  # a norm of zeros multiplies by one
    empty = sorted(
        n for n, value in alone.items() if value == 0 and not (from_one and len(draft.tensors[n].shape) == 1)
    )
    same = sorted(name for name, value in alone.items() if value != 0 and len(draft.tensors[name].shape) > 1)
    findings = [
        error("filled", f"{fault} in {some(names)}: it was never filled", "export the draft again, with its weights")
        for fault, names in (("only zeros", empty), ("one value throughout", same))
        if names
    ]
    if EMBEDDINGS not in alone and EMBEDDINGS in draft.tensors:
        findings += _embeddings(_likeness(case, draft.tensors[EMBEDDINGS]))
    yield from findings or [ok("filled", "no weight is empty, embeddings are the target's where both have them")]


def _only(name: str, tensor: Tensor) -> float | None:
    """The one value of a tensor that should have many; None for a filled one, and for what may well be constant."""
    judged = f".{name}".endswith(".weight") and tensor.dtype in FLOATS and max(tensor.shape, default=0) > 1
    return only_value(tensor) if judged else None


def _embeddings(cosines: tuple[float, ...]) -> list[Finding]:
    """What the likeness of sampled rows says. Trained embeddings drift from the target's a little, each row."""
    if not cosines:
        return []
    mean = sum(cosines) / len(cosines)
    unlike = sum(cosine < UNLIKE for cosine in cosines) / len(cosines)
    if mean < UNLIKE or unlike > FOREIGN:
        return [
            error(
                "filled",
                f"its embeddings are not the target's (likeness {mean:.2f}, 1 = the same; {unlike:.0%} of the sampled "
                "rows unlike): they were never filled, or are of another target",
                "export the draft with the target's embeddings",
            )
        ]
    if mean < ALIKE or unlike:
        return [
            warn(
                "filled",
                f"its embeddings differ from the target's (likeness {mean:.2f}, {unlike:.0%} of the sampled rows unlike)",
                "trained on purpose? then ignore this",
            )
        ]
    return []


def _likeness(case: Case, own: Tensor) -> tuple[float, ...]:
    """Cosines of sampled rows of the draft's embeddings and the target's; none where they cannot be compared."""
    try:
        target_embeddings = find_ends(read_tensors(weight_files(Path(case.target.path)))).embeddings
    except (InputError, OSError):
        return ()
    return row_likeness(own, target_embeddings)
