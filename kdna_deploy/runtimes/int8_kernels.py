"""Which processors need a session option for exact int8 on ONNX Runtime, decided in this one place.

    y = Σ u·s,  u in 0..255, s in −127..127        VNNI instructions add the products in 32 bits: exact
                                                   x86 without them adds two products in 16 bits, where they saturate

With `session.x64quantprecision` = 1 ONNX Runtime turns S8 weights into U8 and takes kernels for those, which are exact
everywhere. It does so on every x86 processor, also where the kernels for S8 are exact already and far faster: it
compares its tables of kernels, which differ between the two types whatever the instructions. Measured on an AMD EPYC
with AVX512-VNNI: docs/benchmarks/int8_kernels.md. So the entry is set on x86 without VNNI, and nowhere else. The C++
program of `package` has the same rule in its own words (`targets/serving/cpp/processor.hpp`).

Which kernel ONNX Runtime takes (`mlas/lib/platform.cpp`): with the AVX-512 of servers (F, BW, DQ, VL) VNNI means
`avx512_vnni`, and the 256-bit form does not count; without it, it means `avx_vnni`. Both need AVX2 and FMA. AMX is not
looked at: processors that have it have `avx512_vnni`.

Does not apply to float32 files, for which the entry does nothing, nor to ARM, whose kernels are exact.
"""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import dataclass

from kdna_deploy.runtimes.processor import first_processor, instruction_sets

EXACT_INT8 = ("session.x64quantprecision", "1")

_X86 = {"x86_64", "amd64", "x86", "i386", "i486", "i586", "i686"}
_BASE = {"avx2", "fma"}
_SERVER_AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}


@dataclass(frozen=True)
class Int8Kernels:
    """What int8 needs on a processor.

    Attributes:
        entries: of the session's configuration; empty where the kernels are exact as they are.
        note: what whoever runs an int8 file there should know; None where there is nothing.
    """

    entries: dict[str, str]
    note: str | None = None


def int8_kernels(flags: Collection[str] | None, machine: str) -> Int8Kernels:
    """What int8 needs on `machine` (as `platform.machine()` says it) with the instruction sets `flags`.

    Where the system does not tell the flags of an x86 processor, they are None, and it is taken to have no VNNI: a
    guess, which costs time where it is wrong; the other guess would cost accuracy.
    """
    if machine.lower() not in _X86 or (flags is not None and _has_vnni(set(flags))):
        return Int8Kernels({})
    entry = "=".join(EXACT_INT8)
    if flags is None:
        note = (
            f"this system does not tell whether the processor has VNNI; it is taken to have none, so sessions here set "
            f"{entry}, which is slower than needed where it has (docs/precision.md)"
        )
    else:
        note = (
            f"this processor has no VNNI: sessions need {entry} to be exact, and int8 gains less speed than elsewhere "
            "(docs/precision.md)"
        )
    return Int8Kernels(dict([EXACT_INT8]), note)


def int8_kernels_here() -> Int8Kernels:
    """`int8_kernels` of the processor that this runs on."""
    return int8_kernels(instruction_sets(first_processor()), platform.machine())


def _has_vnni(flags: set[str]) -> bool:
    """Whether ONNX Runtime has a kernel with VNNI for these instruction sets."""
    vnni = "avx512_vnni" if flags >= _SERVER_AVX512 else "avx_vnni"
    return flags >= _BASE and vnni in flags
