"""Does an artifact compute what the trained network computes? One rule, for every check; `compare` runs the sessions.

    |candidate − reference| ≤ max(atol + rtol · spread, rounding)        for every image and every output

spread      standard deviation of that output over the images of the same kind, so that a constant of −1e9 in one column
            (a class mask) hides nothing in the others. At least a hundredth of the median over all outputs: none is
            asked for more than its neighbours' float32 rounding.
rounding    what rounding explains: 8 times the reference's own distance from float64, and from itself with its weights
            moved by the format's roundoff, on the same images (`runtimes.rounding`), and 8 units in the last place of
            the output's largest number, or more where a runtime adds products one after another (`tolerance`). The
            distances are measured only where the spread does not do.

Of a stage output [n, c', h', w'] each channel is judged, by its spread over images and positions.

Infinities must be equal where the reference has them. NaN never passes. Where the highest logit differs, its lead must
be within the two tolerances: a tie; `rtol` and `atol` of a user's own do not widen that.

Stressed images on which the network is chaotic, so that rounding explains more than a hundredth of the spread, are
skipped where they do not pass, and that is said; noise and a user's own images never are.

rtol is 1e-4 for float32, 1e-2 for half precision, and 1e-1 for weights in int8: their largest numbers are rounded by
2⁻⁸ of themselves, and a filter's largest number is about four times the usual one. Weights in int4 have 5e-1, and no
larger roundoff: eight times 2⁻⁶ is an eighth of a weight, and they are moved by a thirteenth on average.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kdna_deploy.evaluation.agreement import Agreement
from kdna_deploy.evaluation.tolerance import Tolerance
from kdna_deploy.images.batch import Images
from kdna_deploy.images.probes import FLAT, Probe, is_stressed

Array = NDArray[np.float64]

# On average the float32 rounding of a graph and of what it was made from are alike; the largest difference on a few
# images scatters, and must not refuse a correct network.
ROUNDING_FACTOR = 8.0
_LEAST_SPREAD = 1e-2
_FEWEST = 3  # images for a spread of their own
# One image may amplify rounding far more in one run than in the next: times what is usual among the outputs.
_USUAL_FACTOR = 3.0
# All pixels of a flat image are rounded alike, so that no mean over a map averages it out, as it does with weights that
# are moved at random: ONNX Runtime was twelve times as far from float64 as they show, PyTorch twice (a MobileNetV2).
_ALIKE = 4.0
# Beyond this share of the spread, rounding on stressed images is chaotic, and a difference tells nothing.
_TELLING = 1e-2


@dataclass(frozen=True)
class Outputs:
    """What a candidate and its reference return for the images of one probe: all, or their stage output `stage`."""

    probe: Probe
    got: Images
    expected: Images
    stage: str = ""

    def flat(self, outputs: Images) -> Array:
        """`outputs` as [n, k]; a map as [n · h' · w', channels].

        Some networks drop the axis of a batch that is one image.
        """
        array = np.asarray(outputs, dtype=np.float64)
        if self.stage:
            return np.moveaxis(array, 1, -1).reshape(-1, array.shape[1])
        images = len(self.probe.images)
        return array.reshape(images, -1) if array.size % images == 0 else array.reshape(len(array), -1)


Rounding = Callable[[Outputs], Iterator[Images]]


def judge(
    outputs: Sequence[Outputs], tolerance: Tolerance, rounding: Rounding | None = None, noise: Array | None = None
) -> tuple[list[Agreement], Array]:
    """Judge outputs for images of one kind, an agreement a probe; also returns the spread of each output, [k].

    `rounding` measures how far rounding alone moves the reference's outputs, once and again: it is asked
    only where the spread does not do, and no further than until it explains the differences. `noise` is the spread
    over random images, for kinds with too few images for one of their own.
    """
    rows = [_Rows(o, o.flat(o.got), o.flat(o.expected)) for o in outputs]
    expected = rows[0].expected if len(rows) == 1 else np.concatenate([row.expected for row in rows])  # maps are large
    if np.isnan(expected).any() and is_stressed(outputs[0].probe.kind):
        reason = "the reference itself returns NaN there"
        return [row.skipped(reason) for row in rows], np.zeros(expected.shape[1])
    spread, magnitude = _spread(expected), _magnitude(expected)
    if noise is not None and len(expected) < _FEWEST and noise.shape == spread.shape:
        spread = np.maximum(spread, noise)
    alike = _ALIKE if outputs[0].probe.kind == FLAT else 1.0
    limits = _Limits(spread, magnitude, tolerance, np.zeros_like(spread), alike)
    if rounding is not None and not all(limits.agreement(row).passed for row in rows):
        size = _size(magnitude, noise if noise is not None and noise.shape == spread.shape else spread)
        stressed = is_stressed(outputs[0].probe.kind)
        for furthest in _observed(rounding, outputs):
            limits = replace(limits, rounding=_explained(furthest, size))
            if all(limits.agreement(row).passed for row in rows):
                break
            if stressed and limits.tells_nothing:
                reason = f"the reference amplifies rounding beyond {_TELLING:.0%} of its spread there"
                return [row.skipped(reason) for row in rows], spread
    return [limits.agreement(row) for row in rows], spread


def _observed(rounding: Rounding, outputs: Sequence[Outputs]) -> Iterator[Array]:
    """How far rounding has moved each of k outputs, [k], after each observation: the first is on the fewest images."""
    several = [o for o in outputs if len(o.probe.images) > 1] or outputs
    few = [min(several, key=lambda o: len(o.probe.images))]
    first = itertools.islice(_distances(rounding, few), 1 if len(outputs) > 1 else 0)
    return itertools.accumulate(itertools.chain(first, _distances(rounding, outputs)), np.maximum)


def _distances(rounding: Rounding, outputs: Sequence[Outputs]) -> Iterator[Array]:
    """The largest finite distance of each output, [k], in each observation."""
    for moved in zip(*map(rounding, outputs), strict=True):
        distances = np.concatenate([o.flat(m) for m, o in zip(moved, outputs, strict=True)])
        yield np.where(np.isfinite(distances), distances, 0.0).max(0)


@dataclass(frozen=True)
class _Rows:
    """Outputs [rows, k] of one probe: a row an image, of a map a row a position."""

    source: Outputs
    got: Array
    expected: Array

    @property
    def logits(self) -> bool:
        """Whether they were so before they were flattened."""
        return self.source.expected.ndim == 2

    @property
    def positions(self) -> int:
        """Rows of an image."""
        return len(self.expected) // len(self.source.probe.images) if self.source.stage else 1

    def skipped(self, reason: str) -> Agreement:
        kind, stage = self.source.probe.kind, self.source.stage
        return Agreement(kind, len(self.expected) // self.positions, skipped=reason, stage=stage)


@dataclass(frozen=True)
class _Limits:
    """What each of k outputs is allowed; `spread`, `magnitude` and `rounding` are [k].

    `alike` is how many times that rounding may move them on images whose pixels are all rounded alike.
    """

    spread: Array
    magnitude: Array
    tolerance: Tolerance
    rounding: Array
    alike: float = 1.0

    @property
    def _rounded(self) -> Array:
        return np.maximum(
            self.tolerance.last_places * self.tolerance.roundoff * self.magnitude, self.alike * self.rounding
        )

    @property
    def _varying(self) -> Array:
        """The spread, with its floor."""
        moving = self.spread[self.spread > 0]
        return np.maximum(self.spread, _LEAST_SPREAD * np.median(moving)) if moving.size else self.spread

    @property
    def tells_nothing(self) -> bool:
        """Whether rounding explains so much that how much it is, is luck: the network is chaotic on these images."""
        return bool(np.median(self.rounding) > _TELLING * np.median(self._varying))

    def agreement(self, row: _Rows) -> Agreement:
        off = difference(row.got, row.expected)
        with np.errstate(invalid="ignore"):  # an infinite rtol, of an output that does not vary
            by_spread = self.tolerance.atol + self.tolerance.rtol * self._varying
        allowed = np.maximum(by_spread, self._rounded)
        with np.errstate(invalid="ignore", divide="ignore"):
            used = np.where(off == 0, 0.0, off / allowed)
        place = np.unravel_index(np.argmax(np.where(np.isnan(used), np.inf, used)), used.shape)
        column = int(place[1])
        finite = np.abs(row.expected[np.isfinite(row.expected)])
        same, ties = self._top1(row) if row.logits else (None, 0)
        return Agreement(
            images=row.source.probe.kind,
            batch=len(row.got) // row.positions,
            max_difference=float(off.max()),
            mean_difference=float(off.mean()),
            scale=float(finite.max()) if finite.size else 0.0,
            worst=float(off[place]),
            allowed=float(allowed[column]),
            image=int(place[0]) // row.positions,
            column=column,
            spread=float(self.spread[column]),
            explained=bool(self._rounded[column] > by_spread[column]),
            same_top1=same,
            ties=ties,
            stage=row.source.stage,
        )

    def _top1(self, row: _Rows) -> tuple[int, int]:
        """Images with the same highest logit, and those in which it is another by a tie."""
        images = np.arange(len(row.got))
        wanted, found = row.expected.argmax(1), row.got.argmax(1)
        same = wanted == found
        first, second = row.expected[images, wanted], row.expected[images, found]
        with np.errstate(invalid="ignore"):
            lead = np.where(first == second, 0.0, first - second)
        tie = np.maximum(self.tolerance.tie * self._varying, self._rounded)
        ties = ~same & (lead <= tie[wanted] + tie[found])
        return int(same.sum()), int(ties.sum())


def difference(got: Array, expected: Array) -> Array:
    """|got − expected|; 0 where both are the same infinity, NaN where either is NaN."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(expected) & (got == expected), 0.0, np.abs(got - expected))


def _spread(expected: Array) -> Array:
    """Standard deviation of each output over the images for which it is finite."""
    finite = np.isfinite(expected)
    count = np.maximum(finite.sum(0), 1)
    values = np.where(finite, expected, 0.0)
    # From a value of its own, not from zero: what is left of 1e9 after two roundings is no spread.
    centred = np.where(finite, values - values[np.argmax(finite, axis=0), np.arange(values.shape[1])], 0.0)
    mean = centred.sum(0) / count
    deviation: Array = np.sqrt((np.where(finite, centred - mean, 0.0) ** 2).sum(0) / count)
    return deviation


def _magnitude(expected: Array) -> Array:
    return np.where(np.isfinite(expected), np.abs(expected), 0.0).max(0)


def _size(magnitude: Array, spread: Array) -> Array:
    """How large each output is on images of a kind: not less than its spread over random images lets expect.

    One or two images may find an output close to zero by chance.
    """
    varies = spread > 0
    usual = np.median(magnitude[varies] / spread[varies]) if varies.any() else 0.0
    return np.maximum(magnitude, usual * spread)


def _explained(largest: Array, size: Array) -> Array:
    """What rounding may do to each output: a multiple of its largest distance, or of what is usual for its size."""
    sized = size > 0
    usual = np.median(largest[sized] / size[sized]) if sized.any() else 0.0
    return ROUNDING_FACTOR * np.maximum(largest, _USUAL_FACTOR * usual * size)
