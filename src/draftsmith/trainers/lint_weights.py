"""Checks of the tensors: shapes, sharing, precision, vocabulary map, finite values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from draftsmith.contract.draft import Finding
from draftsmith.contract.errors import InputError
from draftsmith.trainers.draft_shapes import UNSHAPED, expected_tensors
from draftsmith.trainers.findings import Case, error, ok, warn
from draftsmith.trainers.stand_in import find_ends
from draftsmith.trainers.target import DTYPES
from draftsmith.trainers.vocabulary_map import read_map
from draftsmith.trainers.weights import (
    Tensor,
    all_zero,
    count_not_finite,
    read_tensors,
    row_likeness,
    shown,
    weight_files,
)

SHOWN = 4
FLOATS = ("BF16", "F16", "F32", "F64")
UNLIKE, ALIKE = 0.5, 0.98  # cosine of embedding rows


def check_shapes(case: Case) -> Iterator[Finding]:
    """Every tensor that config.json implies is there, has its shape, and nothing else is."""
    draft = case.draft
    expected = expected_tensors(draft)
    if expected is None:
        yield warn(
            "shapes",
            f"layers of type {draft.layer.get('model_type')} are not known here: shapes were not compared",
            "start the engine once with it",
        )
        return
    shapes, optional = expected
    missing = sorted(name for name in shapes if name not in draft.tensors and name not in optional)
    quantised = isinstance(draft.config.get("quantization_config"), dict)
    extra = sorted(
        name
        for name in draft.tensors
        if name not in shapes and name not in UNSHAPED and not (quantised and _of_quantised(name, shapes))
    )
    if draft.draft_vocab_size == draft.vocab_size and (held := [name for name in ("d2t", "t2d") if name in extra]):
        extra = [name for name in extra if name not in held]
        yield warn(
            "shapes",
            "a vocabulary map lies beside a full vocabulary; the engine may refuse it",
            f"remove {' and '.join(held)} from the weights",
        )
    wrong = [
        f"{name} is {list(draft.tensors[name].shape)}, expected {list(shape)}"
        for name, shape in shapes.items()
        if name in draft.tensors and draft.tensors[name].shape != shape
    ]
    found = [
        error("shapes", f"{sentence}: {_some(names)}", "export the draft again; config.json and weights do not match")
        for sentence, names in (
            ("tensors are missing", missing),
            ("the engine has no place for", extra),
            ("shapes differ", wrong),
        )
        if names
    ]
    yield from found or [ok("shapes", f"{len(draft.tensors)} tensors with the shapes that config.json implies")]


SCALES = (
    "weight_scale",
    "weight_zero_point",
    "weight_scale_inv",
    "weight_shape",
    "weight_g_idx",
    "input_scale",
    "weight_packed",
)


def _of_quantised(name: str, shapes: Mapping[str, object]) -> bool:
    """Whether a tensor belongs to a quantised weight that config.json implies: its scale, its zero point, its packed form."""
    stem, _, last = name.rpartition(".")
    return last in SCALES and f"{stem}.weight" in shapes


def check_filled(case: Case) -> Iterator[Finding]:
    """Weights were filled: none is zero throughout, and embeddings and head are like the target's where the trainers copy them."""
    draft = case.draft
    empty = sorted(
        name
        for name, tensor in draft.tensors.items()
        if tensor.dtype in FLOATS and len(tensor.shape) > 1 and all_zero(tensor)
    )
    found = []
    if empty:
        found.append(
            error(
                "filled",
                f"only zeros in {_some(empty)}: it was never filled",
                "export the draft again, with its weights",
            )
        )
    own = draft.tensors.get("embed_tokens.weight")
    if own is not None and "embed_tokens.weight" not in empty:
        like = _likeness(case, own)
        if like is not None and like < UNLIKE:
            found.append(
                error(
                    "filled",
                    f"its embeddings are not the target's (likeness {like:.2f}, 1 = the same): they were never filled, or are of another target",
                    "export the draft with the target's embeddings",
                )
            )
        elif like is not None and like < ALIKE:
            found.append(
                warn(
                    "filled",
                    f"its embeddings differ from the target's (likeness {like:.2f})",
                    "trained on purpose? then ignore this",
                )
            )
    yield from found or [ok("filled", "no weight is empty, embeddings are the target's where both have them")]


def _likeness(case: Case, own: Tensor) -> float | None:
    """Mean cosine of sampled rows of the draft's embeddings and the target's; None where they cannot be compared."""
    try:
        theirs = find_ends(read_tensors(weight_files(Path(case.target.path)))).embeddings
    except (InputError, OSError):
        return None
    if own.shape != theirs.shape:
        return None
    return row_likeness(own, theirs)


def check_sharing(case: Case) -> Iterator[Finding]:
    """What the draft takes from the target is what its manifest says."""
    draft, manifest = case.draft, case.manifest
    own = {"embeddings": "embed_tokens.weight" in draft.tensors, "output head": "lm_head.weight" in draft.tensors}
    found = []
    if not own["output head"] and draft.draft_vocab_size != draft.vocab_size:
        found.append(
            error(
                "sharing",
                "it has no output head and a vocabulary of its own: the target's head has other rows",
                "export the draft with lm_head.weight",
            )
        )
    if not own["embeddings"] and draft.hidden_size != case.target.hidden_size:
        found.append(
            error(
                "sharing",
                f"it takes the target's embeddings ({case.target.hidden_size} wide) for layers {draft.hidden_size} "
                "wide",
                "export the draft with embed_tokens.weight",
            )
        )
    if manifest:
        said = {"embeddings": manifest.has_own_embeddings, "output head": manifest.has_own_lm_head}
        for name in own:
            if own[name] != said[name]:
                found.append(
                    error(
                        "sharing",
                        f"the manifest says {'its own' if said[name] else 'the target'}"
                        f"{'' if said[name] else chr(39) + 's'} {name}, the weights say otherwise",
                        "package the checkpoint again",
                    )
                )
    words = ", ".join(f"{'own' if value else 'shared'} {name}" for name, value in own.items())
    yield from found or [ok("sharing", words)]


def check_dtype(case: Case) -> Iterator[Finding]:
    """One floating type, the one that config.json names."""
    sizes: Counter[str] = Counter()
    for tensor in case.draft.tensors.values():
        if tensor.dtype.startswith(("F", "BF")) and tensor.name not in ("d2t", "t2d"):
            sizes[tensor.dtype] += tensor.size
    if not sizes:
        yield error("dtype", "there is no floating tensor", "export the draft again")
        return
    names = [DTYPES.get(dtype, dtype) for dtype, _ in sizes.most_common()]
    said = str(case.draft.config.get("dtype") or case.draft.config.get("torch_dtype") or names[0])
    found = []
    if len(names) > 1:
        found.append(warn("dtype", f"weights of several types: {', '.join(names)}", "save the draft in one type"))
    if said.removeprefix("torch.") != names[0]:
        found.append(
            warn("dtype", f"config.json says {said}, the weights are {names[0]}", "write the type of the weights")
        )
    if names[0] == "float32" and case.target.dtype != "float32":
        found.append(
            warn("dtype", "float32 weights: twice the memory for the same acceptance", "save the draft in bfloat16")
        )
    yield from found or [ok("dtype", names[0])]


def check_vocabulary_map(case: Case) -> Iterator[Finding]:
    """d2t holds offsets (target id = i + d2t[i]), t2d marks the same ids, each once and in range."""
    draft = case.draft
    if draft.draft_vocab_size == draft.vocab_size:
        yield ok("vocabulary map", "none needed: the draft knows the whole vocabulary")
        return
    if "d2t" not in draft.tensors:
        yield error(
            "vocabulary map",
            f"{draft.draft_vocab_size} of {draft.vocab_size} tokens, and no d2t says which",
            "export the draft with its vocabulary map",
        )
        return
    vocabulary = read_map(draft)
    problem = vocabulary.problem(case.target.vocab_size)
    if problem:
        yield error("vocabulary map", problem, "rebuild the map: d2t[i] = target id - i, ids rising; then train again")
    else:
        yield ok("vocabulary map", f"{draft.draft_vocab_size} tokens, each once and in range, both maps agree")
    if vocabulary.marks is None:
        yield warn("vocabulary map", "there is no t2d: the map cannot be checked against it", "keep t2d in exports")
    if case.manifest and case.manifest.vocab_map_sha256 != vocabulary.sha256():
        yield error("vocabulary map", "it is not the map that the manifest names", "package the checkpoint again")
    if (
        case.parent is not None
        and "d2t" in case.parent.tensors
        and read_map(case.parent).sha256() != vocabulary.sha256()
    ):
        yield error(
            "vocabulary map",
            "it differs from that of the draft it was started from: every output row means another token",
            "start afresh, or keep the parent's vocabulary",
        )


def check_finite(case: Case) -> Iterator[Finding]:
    """No NaN, no infinity."""
    bad = {name: count for name, tensor in case.draft.tensors.items() if (count := count_not_finite(tensor))}
    if bad:
        yield error(
            "finite",
            f"NaN or infinite values in {_some([f'{name} ({count})' for name, count in bad.items()])}",
            "take an earlier checkpoint; embeddings or heads full of NaN were never filled from the target",
        )
    else:
        yield ok("finite", "all values are finite")


def _some(names: list[str]) -> str:
    rest = len(names) - SHOWN
    names = [shown(name) for name in names]
    return "; ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
