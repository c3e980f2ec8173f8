"""ncnn's package, set to compute in float32, and to compute all of a net.

By itself it computes in half precision, or bfloat16, on processors that have instructions for it, and of a net with
several outputs only what leads to those that are extracted.
"""

from __future__ import annotations

from typing import Any

import ncnn

_INPUT, _OUTPUT = "in0", "out{}"  # as pnnx names them
# Of its options, those by which it would compute in less than float32.
_NARROWER = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage")

__all__ = ["extracted", "float32_alone", "ncnn"]


def float32_alone(options: Any) -> dict[str, int]:
    """Set float32, and no GPU, in the `options` of a net that has not loaded anything; what narrows, and is off."""
    narrower = [name for name in _NARROWER if hasattr(options, name)]
    for name in (*narrower, "use_vulkan_compute"):
        setattr(options, name, False)
    return dict.fromkeys(narrower, 0)


def extracted(net: Any, image: Any, outputs: int) -> list[tuple[int, Any]]:
    """All `outputs` of `net` for an image, a float32 array [c, h, w], each with a code: 0 where it was computed."""
    extractor = net.create_extractor()
    # A copy of its own: ncnn keeps channels apart by as much as its instructions like.
    extractor.input(_INPUT, ncnn.Mat(image).clone())
    return [extractor.extract(_OUTPUT.format(number)) for number in range(outputs)]
