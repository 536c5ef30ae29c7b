"""Signed bundles: what a signature covers, and that others' tools read it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from bundle_world import parts
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from test_evidence import reseal

from draftsmith import api
from draftsmith.contract.errors import EvidenceError, InputError
from draftsmith.store.attestation import envelope_of
from draftsmith.store.evidence import write_bundle


def keys(folder: Path, name: str = "key") -> tuple[Path, Path]:
    private = Ed25519PrivateKey.generate()
    pem, pub = folder / f"{name}.pem", folder / f"{name}.pub"
    pem.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    pub.write_bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return pem, pub


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", parts())


def test_a_signed_bundle_names_its_key_and_what_was_signed(bundle: Path, tmp_path: Path) -> None:
    pem, pub = keys(tmp_path)
    place = api.sign(bundle, pem)
    report = api.verify(bundle, pub)
    assert report.ok
    envelope = json.loads(place.read_text())
    assert report.signed_by == envelope["signatures"][0]["keyid"]
    said = json.loads(base64.b64decode(envelope["payload"]))
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["subject"][0]["digest"]["sha256"] == report.manifest_sha256
    assert said["predicate"]["outcome"] == "WIN"


def test_openssl_reads_the_signature(bundle: Path, tmp_path: Path) -> None:
    """Another tool, over DSSE's encoding written by hand."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    pem, pub = keys(tmp_path)
    envelope = json.loads(api.sign(bundle, pem).read_text())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    (tmp_path / "signed").write_bytes(f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload)
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", pub, "-rawin", "-in", tmp_path / "signed"]
    done = subprocess.run([*command, "-sigfile", tmp_path / "sig"], capture_output=True, text=True, check=False)
    assert "Verified Successfully" in done.stdout, done.stderr


@pytest.mark.parametrize("attack", ["none", "other key", "moved", "payload", "torn", "resealed"])
def test_a_signature_that_does_not_hold_is_refused(bundle: Path, tmp_path: Path, attack: str) -> None:
    pem, pub = keys(tmp_path)
    if attack != "none":
        place = api.sign(bundle, pem)
        envelope = json.loads(place.read_text())
    if attack == "other key":
        _, pub = keys(tmp_path, "other")
    elif attack == "moved":
        other = write_bundle(tmp_path / "bundle", parts(blocks=5, run_id="0002"))
        shutil.copy(place, envelope_of(other))
        bundle = other
    elif attack == "payload":
        said = json.loads(base64.b64decode(envelope["payload"]))
        said["predicate"]["outcome"] = "LOSS"
        envelope["payload"] = base64.b64encode(json.dumps(said).encode()).decode()
        place.write_text(json.dumps(envelope))
    elif attack == "torn":
        place.write_text(place.read_text()[:40])
    elif attack == "resealed":
        (bundle / "summary.md").write_text("all is well")
        reseal(bundle)
    with pytest.raises(EvidenceError):
        api.verify(bundle, pub)


def test_what_does_not_verify_is_not_signed(bundle: Path, tmp_path: Path) -> None:
    pem, _ = keys(tmp_path)
    (bundle / "samples.jsonl").write_text("")
    with pytest.raises(EvidenceError, match="only a bundle that verifies"):
        api.sign(bundle, pem)


def test_a_file_that_is_no_key_is_named_with_how_to_make_one(bundle: Path, tmp_path: Path) -> None:
    _, pub = keys(tmp_path)
    with pytest.raises(InputError, match="no private Ed25519 key") as said:
        api.sign(bundle, pub)
    assert "openssl genpkey" in said.value.next_step
