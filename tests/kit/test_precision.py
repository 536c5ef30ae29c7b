"""Which CPUs are slow at bfloat16, by flags of published /proc/cpuinfo."""

from __future__ import annotations

import pytest

from draftsmith.kit.precision import quick_bfloat16


@pytest.mark.parametrize(
    ("cpuinfo", "quick"),
    [
        ("flags\t\t: fpu sse2 avx avx2 fma f16c", False),  # AMD EPYC before Zen 4, Intel client CPUs
        ("flags\t\t: fpu avx2 avx512f avx512dq avx512bw avx512vl", True),  # Skylake servers: widened inside the kernel
        ("flags\t\t: fpu avx2 avx512bw avx512_bf16 amx_bf16 amx_tile", True),  # Sapphire Rapids
        ("Features\t: fp asimd evtstrm aes sha2 asimdhp", False),  # Graviton 2
        ("Features\t: fp asimd asimdhp sve i8mm bf16", True),  # Graviton 3
        ("processor : 0\n", True),  # nothing is said: no claim
    ],
)
def test_a_cpu_without_wide_registers_is_slow_at_bfloat16(cpuinfo: str, quick: bool) -> None:
    assert quick_bfloat16(cpuinfo) is quick
