"""Whether a CPU is quick at 16-bit floats. Standard library alone: trainers in interpreters of their own import it."""

from __future__ import annotations

from pathlib import Path

# What oneDNN needs to multiply 16-bit floats at least as fast as 32-bit ones: on x86 wide registers, on ARM its own extension.
_QUICK = frozenset({"avx512bw", "avx512_bf16", "amx_bf16", "bf16"})


def quick_bfloat16(cpuinfo: str | None = None) -> bool:
    """Whether a CPU computes in bfloat16 at least as fast as in float32.

    With AVX2 alone a product in bfloat16 takes two to eight times as long. `cpuinfo`: the text of /proc/cpuinfo, this machine's by
    default; where it cannot be read or says nothing the answer is yes.
    """
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text()
        except OSError:
            return True
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    flags = {flag for name, _, value in lines if name.strip() in ("flags", "Features") for flag in value.split()}
    return not flags or bool(flags & _QUICK)
