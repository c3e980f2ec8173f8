"""Fused graph → int8 ONNX file, guarded by an evaluation against the float file.

    export in float32, verified → calibrate → quantise → run on images that calibration has not seen → rename

int8 changes the function, so there is no parity to prove. What is measured instead is how far the int8 file departs
from the float32 file on held-out images: agreement of the highest logit, SQNR and cosine of the logits, and, where
there are labels, the drop of top-1. With a limit for that drop, the layers that harm most alone are left in float32
until it holds.

Does not apply to children multiplied at run time: int8 kernels are materialised (see onnx/quantize.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from kdna_deploy.errors import ParityError, UsageError
from kdna_deploy.evaluation import Evaluation, evaluate
from kdna_deploy.files import atomic_output, check_output
from kdna_deploy.fused_source import FusedSource
from kdna_deploy.held_out import Split
from kdna_deploy.labelled_images import Labels
from kdna_deploy.onnx.cost import file_bytes
from kdna_deploy.onnx.half_storage import store_half
from kdna_deploy.onnx.quantize import Method, calibrate, quantisable, quantise
from kdna_deploy.onnx_export import OnnxExport, OnnxOptions, export_fused, finish
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.runtimes.session import Images

Step = Callable[[str], None]
Count = Callable[[int], None]

_SEARCH_IMAGES = 32  # of the held-out ones, for the sensitivity of single layers


@dataclass(frozen=True)
class Int8Options:
    """How to quantise.

    Attributes:
        images: to calibrate with, and to judge by.
        method: of calibration.
        max_drop: percentage points that top-1, or, without labels, agreement may lose; None for no limit.
    """

    images: Split
    method: Method = "minmax"
    max_drop: float | None = None


@dataclass(frozen=True)
class Sensitivity:
    """SQNR in decibels of the logits when a layer alone is quantised: the lower, the more it harms."""

    layer: str
    sqnr: float


@dataclass(frozen=True)
class Int8Export:
    """A guarded int8 file.

    Attributes:
        float_export: the verified float32 file that it was made from.
        evaluation: of the int8 file on the held-out images, the float32 file being the reference.
        labelled: whether top-1 was measured with labels; without them it is the agreement.
        drop: percentage points lost, see `Int8Options.max_drop`.
        kept_float: layers left in float32.
        sensitivities: of all layers, the most harmful first; empty where no search was needed.
    """

    path: Path
    bytes: int
    float_export: OnnxExport
    evaluation: Evaluation
    labelled: bool
    drop: float
    kept_float: tuple[str, ...]
    sensitivities: tuple[Sensitivity, ...]


def export_int8(
    opened: FusedSource,
    output: Path,
    options: OnnxOptions,
    int8: Int8Options,
    inputs: tuple[Path, ...] = (),
    on_step: Step = lambda _: None,
    on_images: Count = lambda _: None,
) -> Int8Export:
    """Write an int8 ONNX file for ONNX Runtime on a CPU.

    Raises:
        UsageError: children are shared, or multiplied on the fly.
        InputError: too few calibration or held-out images, or all of them equal.
        ParityError: the float32 file departs from the network, or int8 loses more than `max_drop`. Nothing is written.
    """
    check_output(output, inputs)
    if opened.provenance.options.get("children") == "share" or options.on_the_fly:
        raise UsageError("int8 gives every child kernels with scales of their own; use --children materialize.")
    with tempfile.TemporaryDirectory(prefix="kdna-int8-") as folder:
        # A widened gate would have to be quantised at the size of the map; at its own size it stays in float32.
        path = Path(folder) / "float.onnx"
        float_export = export_fused(opened, path, replace(options, target="any"), on_step=on_step)
        on_step(f"calibrate ({int8.method})")
        ranges = calibrate(path, int8.images.calibration(), int8.method, on_images)
        guard = _Guard(path, int8, Path(folder), on_step, on_images)

        def build(keep_float: Iterable[str]) -> onnx.ModelProto:
            model = quantise(path, ranges, keep_float)
            store_half(model)  # what is still in float32: the gates' layers
            return model

        model, evaluation, kept, sensitivities = _within_limit(build, guard, quantisable(path), int8)
        provenance = opened.provenance.beside(output, opened.network.checkpoint.path).with_options(
            precision="int8", int8={"method": int8.method, "kept_float": list(kept), **int8.images.record}
        )
        finish(model, provenance, replace(options, target="cpu"))
        with atomic_output(output, (*inputs, opened.network.checkpoint.path)) as temporary:
            on_step("write")
            onnx.save_model(model, temporary)
            onnx.checker.check_model(temporary, full_check=True)
            OrtSession(temporary)
    return Int8Export(
        path=output,
        bytes=file_bytes(output),
        float_export=float_export,
        evaluation=evaluation,
        labelled=int8.images.labelled,
        drop=_drop(evaluation),
        kept_float=kept,
        sensitivities=sensitivities,
    )


def _drop(evaluation: Evaluation) -> float:
    """Percentage points of top-1 lost to the float32 file."""
    assert evaluation.agreement is not None
    return 100 * (evaluation.agreement.reference_top1 - evaluation.top1)


class _Guard:
    """Runs candidates beside the float32 file on the held-out images."""

    def __init__(self, float_path: Path, int8: Int8Options, folder: Path, on_step: Step, on_images: Count) -> None:
        self._reference = OrtSession(float_path)
        self._images = int8.images
        self._folder = folder
        self._on_images = on_images
        self.on_step = on_step

    def evaluate(self, model: onnx.ModelProto) -> Evaluation:
        batches = self._images.held_out()
        batches = batches if self._images.labelled else self._with_labels(batches)
        return evaluate(self._session(model), batches, self._reference, self._on_images)

    def sqnr(self, model: onnx.ModelProto) -> float:
        """Of the logits, over the first held-out images."""
        batches, count = [], 0
        for images, _ in self._images.held_out():
            batches.append((images, np.zeros(len(images), np.int64)))
            count += len(images)
            if count >= _SEARCH_IMAGES:
                break
        agreement = evaluate(self._session(model), batches, self._reference).agreement
        assert agreement is not None
        return agreement.sqnr

    def _with_labels(self, batches: Iterable[tuple[Images, Labels]]) -> Iterator[tuple[Images, Labels]]:
        """What the float32 file says, in place of labels: top-1 is then the agreement."""
        for images, _ in batches:
            yield images, self._reference.run(images).argmax(axis=1)

    def _session(self, model: onnx.ModelProto) -> OrtSession:
        path = self._folder / "candidate.onnx"
        onnx.save_model(model, path)
        return OrtSession(path)


Build = Callable[[Iterable[str]], onnx.ModelProto]
Found = tuple[onnx.ModelProto, Evaluation, tuple[str, ...], tuple[Sensitivity, ...]]


def _within_limit(build: Build, guard: _Guard, layers: list[str], int8: Int8Options) -> Found:
    """The model with the fewest layers in float32 that loses no more than `max_drop`."""
    guard.on_step("evaluate on held-out images")
    model = build(())
    evaluation = guard.evaluate(model)
    if int8.max_drop is None or _drop(evaluation) <= int8.max_drop:
        return model, evaluation, (), ()
    sensitivities = _sensitivities(build, guard, layers)
    ranked = [s.layer for s in sensitivities]
    low, high, best = 0, 1, None  # with `low` layers in float32 too much is lost
    while best is None or high - low > 1:
        tried = high if best is None else (low + high) // 2
        guard.on_step(f"evaluate with {tried} of {len(layers)} layers in float32")
        model = build(ranked[:tried])
        evaluation = guard.evaluate(model)
        if _drop(evaluation) <= int8.max_drop:
            best, high = (model, evaluation), tried
        elif tried >= len(layers) - 1:  # one layer more, and nothing would be in int8
            raise ParityError(_too_lossy(evaluation, int8.max_drop, sensitivities))
        else:
            low, high = tried, (min(2 * tried, len(layers) - 1) if best is None else high)
    return *best, tuple(ranked[:high]), sensitivities


def _sensitivities(build: Build, guard: _Guard, layers: list[str]) -> tuple[Sensitivity, ...]:
    found = []
    for number, layer in enumerate(layers):
        guard.on_step(f"quantise layer {number + 1} of {len(layers)} alone")
        found.append(Sensitivity(layer, guard.sqnr(build([other for other in layers if other != layer]))))
    return tuple(sorted(found, key=lambda s: s.sqnr))


def _too_lossy(evaluation: Evaluation, limit: float, sensitivities: tuple[Sensitivity, ...]) -> str:
    worst = ", ".join(f"{s.layer} {s.sqnr:.1f} dB" for s in sensitivities[:5])
    return (
        f"int8 loses {_drop(evaluation):.2f} percentage points, more than --max-drop {limit:g} allows, even with all "
        f"layers but one in float32; nothing was written. Most sensitive layers: {worst}. Calibrate with images like "
        "those that the network will see."
    )
