"""Signed verdicts: an in-toto statement over a bundle and its draft, in a DSSE envelope beside the bundle.

The statement names the bundle by the sha256 of its manifest and the draft by that of its weights. Signatures are Ed25519;
keys are PEM files, as `openssl genpkey -algorithm ed25519` writes them. Needs the extra `sign` (cryptography).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from draftsmith.contract.base import canonical
from draftsmith.contract.errors import EvidenceError, InputError
from draftsmith.kit.files import write_atomic
from draftsmith.store.bundle_check import VerifyReport

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://draftsmith.dev/verdict/v1"
SUFFIX = ".dsse.json"
LARGEST = 1_000_000  # bytes of an envelope


def envelope_of(bundle: Path) -> Path:
    """Where the envelope of a bundle lies: beside its folder, since the manifest names every file inside."""
    whole = bundle.resolve()
    return whole.with_name(whole.name + SUFFIX)


def statement(report: VerifyReport) -> dict[str, Any]:
    """The in-toto statement over a bundle that verified."""
    decision = report.stored
    if not report.ok or decision is None:
        raise EvidenceError(
            "only a bundle that verifies and holds a verdict can be signed: " + "; ".join(report.sentences()),
            "run `draftsmith verify` on it",
        )
    subjects = [{"name": "MANIFEST.json", "digest": {"sha256": report.manifest_sha256}}]
    subjects += [
        {"name": f"draft of {arm}", "digest": {"sha256": sha256}}
        for arm, sha256 in _drafts(report.path)
        if arm == decision.winner
    ]
    return {
        "_type": STATEMENT,
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": {
            "outcome": decision.outcome,
            "tier": report.tier,
            "winner": decision.winner,
            "reason": decision.reason,
            "plan_sha256": decision.plan_sha256,
            "samples_sha256": decision.samples_sha256,
        },
    }


def sign(report: VerifyReport, key: Path) -> Path:
    """Sign a bundle that verified; returns the envelope's file. Raises InputError for a key that is none."""
    private = _private(key)
    payload = canonical(statement(report)).encode()
    signature = private.sign(_encoded(payload))
    place = envelope_of(report.path)
    own = {"keyid": key_id(private.public_key()), "sig": base64.b64encode(signature).decode()}
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [*_others(place, payload, own["keyid"]), own],
    }
    write_atomic(place, json.dumps(envelope, indent=1) + "\n")
    return place


def signed_by(report: VerifyReport, key: Path) -> str:
    """The id of the key that signed this bundle. Raises EvidenceError, naming why, if `key` (public, PEM) did not."""
    from cryptography.exceptions import InvalidSignature

    public, place = _public(key), envelope_of(report.path)
    if not place.is_file():
        raise EvidenceError(f"the bundle is not signed: there is no {place.name} beside it", "draftsmith sign BUNDLE")
    payload, signatures = _opened(place)
    for signature in signatures:
        try:
            public.verify(signature, _encoded(payload))
        except InvalidSignature:
            continue
        _require_same(payload, report)
        return key_id(public)
    raise EvidenceError(f"{place.name} carries no signature of this key", "give the public key of who signed it")


def signers(place: Path, keys: Sequence[Path]) -> list[str]:
    """Ids of those of `keys` (public, PEM) that signed the envelope at `place`, whatever it says."""
    from cryptography.exceptions import InvalidSignature

    payload, signatures = _opened(place)
    signers_read = []
    for public in map(_public, keys):
        for signature in signatures:
            try:
                public.verify(signature, _encoded(payload))
            except InvalidSignature:
                continue
            signers_read.append(key_id(public))
            break
    return sorted(set(signers_read))


def signed_statement(place: Path) -> dict[str, Any]:
    """What an envelope says; its signatures are not looked at. Raises EvidenceError if it is no statement."""
    try:
        statement = json.loads(_opened(place)[0])
    except (ValueError, RecursionError):
        statement = None
    if not isinstance(statement, dict):
        raise EvidenceError(f"{place.name} holds no statement", "sign the bundle again")
    return statement


def key_id(public: Ed25519PublicKey) -> str:
    """sha256 (hex) of a public key's raw bytes."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()


def _others(place: Path, payload: bytes, own: str) -> list[dict[str, str]]:
    """Signatures of other keys over the very same statement: they stay when another key signs it too."""
    if not place.is_file():
        return []
    try:
        if _opened(place)[0] != payload:
            return []
        signatures = json.loads(place.read_bytes())["signatures"]
        return [
            {"keyid": str(signature["keyid"]), "sig": str(signature["sig"])}
            for signature in signatures
            if signature.get("keyid") not in (None, own)
        ]
    except EvidenceError:
        return []


def _require_same(payload: bytes, report: VerifyReport) -> None:
    payload_json = json.loads(payload)
    if payload_json != json.loads(canonical(statement(report))):
        raise EvidenceError(
            "the signature is of another bundle or another verdict than this one", "fetch bundle and envelope together"
        )


def _encoded(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _opened(place: Path) -> tuple[bytes, list[bytes]]:
    try:
        if place.stat().st_size > LARGEST:
            raise ValueError("too large")
        envelope_json = json.loads(place.read_bytes())
        if envelope_json["payloadType"] != PAYLOAD_TYPE:
            raise ValueError("another type")
        signatures = [base64.b64decode(signature["sig"], validate=True) for signature in envelope_json["signatures"]]
        return base64.b64decode(envelope_json["payload"], validate=True), signatures
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        raise EvidenceError(
            f"{place.name} is no DSSE envelope of an in-toto statement", "sign the bundle again"
        ) from None


def _drafts(bundle: Path) -> list[tuple[str, str]]:
    plan = json.loads((bundle / "plan.json").read_bytes())
    return [(arm["name"], arm["draft_sha256"]) for arm in plan["arms"] if arm.get("draft_sha256")]


def _private(path: Path) -> Ed25519PrivateKey:
    serialization, ed25519 = _library()
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        raise _no_key(path, "private") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise _no_key(path, "private")
    return cast("Ed25519PrivateKey", key)


def _public(path: Path) -> Ed25519PublicKey:
    serialization, ed25519 = _library()
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, TypeError):
        raise _no_key(path, "public") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise _no_key(path, "public")
    return cast("Ed25519PublicKey", key)


def _no_key(path: Path, kind: str) -> InputError:
    return InputError(
        f"{path.name} is no {kind} Ed25519 key in a PEM file without a password",
        "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub",
    )


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise InputError("signatures need the package cryptography", "pip install 'draftsmith[sign]'") from None
    return serialization, ed25519
