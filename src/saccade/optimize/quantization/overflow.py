"""Whether this CPU adds up products of bytes exactly.

AVX2 and AVX512 without VNNI add two products of an unsigned and a signed byte in 16 bits, which
saturate: 2 * 255 * 127 is twice what they hold. Runtimes use that instruction all the same. On a
MobileNetV2 in OpenVINO, where no weights are halved, it is nine tenths of int8's error.
"""

from __future__ import annotations

EXACT_PRODUCTS = frozenset(("avx512_vnni", "avx_vnni", "amx_int8"))
IN_16_BITS = frozenset(("avx2", "avx512f"))


def products_overflow() -> bool:
    """True on x86 without instructions for products of bytes."""
    from saccade.environment import detect

    flags = set(detect().isa_flags)
    return bool(IN_16_BITS & flags) and not EXACT_PRODUCTS & flags
