"""The state of the GPU while it was measured: clocks, power, temperature, and whether it was throttled.

    throttled by a reason : share of the samples, taken while the measurement ran, in which the driver named it

Power and temperature bring the clocks down in the middle of a measurement. Candidate and baseline meet the same clocks,
so that their ratio stands; a throughput is that of the clocks it was measured at. A GPU that idles, or whose clocks an
administrator or an application has set, is not throttled, though the driver lists that among its reasons.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# nvmlClocksEventReason*, by bit. Only those that a measurement should know of.
SLOWDOWNS = {
    0x04: "its power limit",
    0x08: "the hardware's protection",
    0x20: "its temperature, by the driver",
    0x40: "its temperature, by the hardware",
    0x80: "the power supply",
}
_IDLE = 0x01
_SEEN = 0.02  # share of the samples from which a slowdown is worth a warning
_DROP = 0.05  # likewise, how far the clock may fall from its median


@dataclass(frozen=True)
class Sample:
    """At one moment, None what is not told; `reasons` is the driver's bit mask of what holds the clocks down."""

    sm_mhz: int | None
    memory_mhz: int | None
    power_w: float | None
    temperature_c: int | None
    reasons: int | None


@dataclass(frozen=True)
class GpuMachine:
    """A GPU and its software; None where nobody tells."""

    name: str
    compute_capability: str
    driver: str | None = None
    cuda: str | None = None
    power_limit_w: float | None = None
    max_sm_mhz: int | None = None

    @property
    def record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class GpuState:
    """What the samples say, None what the GPU does not tell; `before` and `after` are the GPU at rest.

    Attributes:
        sm_mhz: lowest, median and highest while measuring.
        memory_mhz: median.
        power_w: median and highest.
        temperature_c: highest.
        throttled: reason → share of the samples.
    """

    samples: int
    sm_mhz: tuple[int, int, int] | None
    memory_mhz: int | None
    power_w: tuple[float, float] | None
    temperature_c: int | None
    throttled: dict[str, float] = field(default_factory=dict)
    before: Sample | None = None
    after: Sample | None = None

    @property
    def record(self) -> dict[str, Any]:
        """As it is stored, in types that JSON has."""
        ranges = {"sm_mhz": self.sm_mhz, "power_w": self.power_w}
        return {**asdict(self), **{name: list(value) if value else None for name, value in ranges.items()}}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what limits the figures."""
        found = [
            f"the GPU was throttled by {reason} in {share:.0%} of the samples: throughputs are those of lower clocks"
            for reason, share in self.throttled.items()
            if share >= _SEEN
        ]
        low, middle, _ = self.sm_mhz or (0, 0, 0)
        if not found and low < (1 - _DROP) * middle:
            found.append(f"the GPU's clock fell from {middle} to {low} MHz meanwhile: expect more spread")
        return tuple(found)


def interpret(during: Sequence[Sample], before: Sample | None = None, after: Sample | None = None) -> GpuState | None:
    """What samples say; None without any.

    Between two blocks sessions are opened, and the GPU idles at low clocks: such samples count only where there are no
    others.
    """
    during = [sample for sample in during if not (sample.reasons or 0) & _IDLE] or during
    if not during:
        return None
    clocks = [sample.sm_mhz for sample in during if sample.sm_mhz is not None]
    memory = [sample.memory_mhz for sample in during if sample.memory_mhz is not None]
    power = [sample.power_w for sample in during if sample.power_w is not None]
    shares = {
        text: sum(bool((sample.reasons or 0) & bit) for sample in during) / len(during)
        for bit, text in SLOWDOWNS.items()
    }
    return GpuState(
        samples=len(during),
        sm_mhz=(min(clocks), int(statistics.median(clocks)), max(clocks)) if clocks else None,
        memory_mhz=int(statistics.median(memory)) if memory else None,
        power_w=(statistics.median(power), max(power)) if power else None,
        temperature_c=max((s.temperature_c for s in during if s.temperature_c is not None), default=None),
        throttled={text: share for text, share in shares.items() if share},
        before=before,
        after=after,
    )
