"""Checks of the tensors: shapes, sharing, precision, vocabulary map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from draftsmith.contract.draft import Finding
from draftsmith.trainers.draft_shapes import UNSHAPED, expected_tensors
from draftsmith.trainers.findings import Case, error, ok, some, warn
from draftsmith.trainers.quantised import belongs, is_quantised, packed
from draftsmith.trainers.target import DTYPES
from draftsmith.trainers.vocabulary_map import read_map


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
    in_place = {name for name, shape in shapes.items() if is_quantised(draft) and packed(draft.tensors, name, shape)}
    missing = sorted(shapes.keys() - draft.tensors.keys() - optional - in_place)
    extra = sorted(
        name
        for name in draft.tensors.keys() - shapes.keys() - UNSHAPED
        if not (is_quantised(draft) and belongs(name, shapes))
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
        if name in draft.tensors and draft.tensors[name].shape != shape and name not in in_place
    ]
    findings = [
        error("shapes", f"{sentence}: {some(names)}", "export the draft again; config.json and weights do not match")
        for sentence, names in (
            ("tensors are missing", missing),
            ("the engine has no place for", extra),
            ("shapes differ", wrong),
        )
        if names
    ]
    yield from findings or [ok("shapes", f"{len(draft.tensors)} tensors with the shapes that config.json implies")]


def check_sharing(case: Case) -> Iterator[Finding]:
    """What the draft takes from the target is what its manifest says."""
    draft, manifest = case.draft, case.manifest
    own = {"embeddings": "embed_tokens.weight" in draft.tensors, "output head": "lm_head.weight" in draft.tensors}
    findings = []
    if not own["output head"] and draft.draft_vocab_size != draft.vocab_size:
        findings.append(
            error(
                "sharing",
                "it has no output head and a vocabulary of its own: the target's head has other rows",
                "export the draft with lm_head.weight",
            )
        )
    if not own["embeddings"] and draft.hidden_size != case.target.hidden_size:
        findings.append(
            error(
                "sharing",
                f"it takes the target's embeddings ({case.target.hidden_size} wide) for layers {draft.hidden_size} "
                "wide",
                "export the draft with embed_tokens.weight",
            )
        )
    if manifest:
        declared = {"embeddings": manifest.has_own_embeddings, "output head": manifest.has_own_lm_head}
        for name in own:
            if own[name] != declared[name]:
                findings.append(
                    error(
                        "sharing",
                        f"the manifest says {'its own' if declared[name] else 'the target'}"
                        f"{'' if declared[name] else chr(39) + 's'} {name}, the weights say otherwise",
                        "package the checkpoint again",
                    )
                )
    words = ", ".join(f"{'own' if value else 'shared'} {name}" for name, value in own.items())
    yield from findings or [ok("sharing", words)]


def check_dtype(case: Case) -> Iterator[Finding]:
    """One floating type, the one that config.json names."""
    sizes: Counter[str] = Counter()
    for tensor in case.draft.tensors.values():
        if tensor.dtype.startswith(("F", "BF")) and tensor.name not in ("d2t", "t2d"):
            sizes[tensor.dtype] += tensor.size
    if not sizes:
        yield error("dtype", "there is no floating tensor", "export the draft again")
        return
    whole = [
        name
        for name, tensor in case.draft.tensors.items()
        if name.endswith(".weight") and not tensor.dtype.startswith(("F", "BF"))
    ]
    if whole and not is_quantised(case.draft):
        yield error("dtype", f"whole numbers in {some(sorted(whole))}, and config.json says nothing of a quantisation",
                    "export the draft again")  # fmt: skip
    names = [DTYPES.get(dtype, dtype) for dtype, _ in sizes.most_common()]
    text = str(case.draft.config.get("dtype") or case.draft.config.get("torch_dtype") or names[0])
    findings = []
    if len(names) > 1:
        findings.append(warn("dtype", f"weights of several types: {', '.join(names)}", "save the draft in one type"))
    if text.removeprefix("torch.") != names[0]:
        findings.append(
            warn("dtype", f"config.json says {text}, the weights are {names[0]}", "write the type of the weights")
        )
    if names[0] == "float32" and case.target.dtype != "float32":
        findings.append(
            warn("dtype", "float32 weights: twice the memory for the same acceptance", "save the draft in bfloat16")
        )
    yield from findings or [ok("dtype", names[0])]


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
