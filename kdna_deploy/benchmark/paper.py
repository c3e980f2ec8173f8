"""What the KernelDNA paper prints of the networks that this project knows: Tables 1 and 3, 224×224.

Measured there on an RTX 4090 (throughput, batch 128) and an AMD EPYC 7H12 (latency, batch 1, one thread, mean of 1,000
runs).
Absolute times do not carry over to another machine; the ratio of a network to its plain backbone may.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Printed:
    """A row of a table, as printed: parameters in millions, FLOPs in billions, None where a table lacks the column."""

    parameters_m: float
    flops_g: float | None
    gpu_fps: float
    cpu_ms: float | None


# Architecture → row of Table 1.
TABLE1: dict[str, Printed] = {
    "resnet18_plain": Printed(11.69, 1.82, 8463, 22.16),
    "resnet18": Printed(9.24, 2.28, 7683, 28.43),
    "resnet50_plain": Printed(25.56, 4.11, 2432, 90.77),
    "resnet50": Printed(22.78, 4.33, 2346, 93.12),
    "mobilenet_v2_plain": Printed(3.50, 0.31, 6323, 30.21),
    "mobilenet_v2": Printed(3.14, 0.31, 6260, 33.46),
    "mobilenet_v2_1d2_plain": Printed(1.97, 0.10, 12787, 10.04),
    "mobilenet_v2_1d2": Printed(1.88, 0.11, 12461, 10.27),
}

# Layout of ResNet-18's last two stages → row of Table 3. The first is the plain backbone.
TABLE3: dict[str, Printed] = {
    "FF-FF": Printed(11.69, None, 8463, None),
    "FF-FFF": Printed(14.64, None, 7944, None),
    "FF-FF-FF": Printed(17.59, None, 7496, None),
    "FS-FSF": Printed(9.07, None, 7814, None),
    "FS-SSF": Printed(6.29, None, 7756, None),
    "FS-SF-SF": Printed(9.24, None, 7683, None),
}
