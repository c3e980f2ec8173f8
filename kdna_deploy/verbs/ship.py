"""Checkpoint → everything for a release, in one folder that can be proved later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.extras import require_converter
from kdna_deploy.files import check_folder
from kdna_deploy.input_files import Kind, check_input
from kdna_deploy.kinds import RELEASE, stem
from kdna_deploy.network.configuration import Words, configured
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.targets.release.plan import plan
from kdna_deploy.verbs.arguments import Numbers, PathLike, Size, chosen, image_size, optional_path
from kdna_deploy.verbs.export_source import class_names
from kdna_deploy.verbs.fuse import CHILDREN
from kdna_deploy.verbs.image_words import ImageWords
from kdna_deploy.verbs.result import Result
from kdna_deploy.verbs.ship_words import JudgedBy, chosen_licence, chosen_targets, require_libraries
from kdna_deploy.verbs.source import file_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from kdna_deploy.reports.report import Report
    from kdna_deploy.targets.release.manifest import Manifest
    from kdna_deploy.verbs.source import Files


@dataclass(frozen=True, repr=False)
class Shipped(Result):
    """A release that was written and proved.

    Attributes:
        path: the folder.
        manifest: what is in it.
        sha256: of the manifest's file, which stands for all the rest.
    """

    path: Path
    manifest: Manifest
    sha256: str

    @property
    def notes(self) -> tuple[str, ...]:
        return self.manifest.notes

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.release import ship_report

        return ship_report(self.path, self.manifest, self.sha256)


def ship(
    network: Files,
    targets: str | Sequence[str] = "cpu",
    to: PathLike | None = None,
    *,
    licence: PathLike | None = None,
    labels: PathLike | None = None,
    children: str = "materialize",
    calibration: PathLike | None = None,
    held_out: PathLike | None = None,
    max_drop: float | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    resize: int | None = None,
    crop: Size | None = None,
    color: str | None = None,
    arch: str | None = None,
    model: str | None = None,
    ema: bool = False,
    input_size: Size | None = None,
    listener: Listener = SILENT,
    **architecture: Unpack[Words],
) -> Shipped:
    """Write everything for a release into one folder: files, folders for servers, manifest, and what proves them.

    `verify` proves the folder later, on another machine, without PyTorch.

    Args:
        network: file of the checkpoint.
        targets: ``"cpu,openvino,triton"`` or a sequence of such names: files ("cpu", "cpu-fp16", "cpu-int8", "any",
            "openvino", "openvino-int8", "ncnn", "mnn", "litert", "litert-int8", "executorch", "gpu-fp16", "tensorrt",
            "tensorrt-rtx"), and folders for servers ("triton", "openvino-model-server", "kserve",
            "kserve-model-server", "onnxruntime-cpp").
        to: the folder to write, which is not there, or empty; ``NAME.release`` by default, in the current folder.
        licence: of the weights: its name, or a file; as the checkpoint records by default.
        labels: file of class names, or "imagenet", see `export`.
        children: of the files that may share, see `fuse`.
        calibration, held_out, max_drop, mean, std, resize, crop, color: of the targets in int8, see `export`.
        arch, model, ema, architecture: how to load the checkpoint, see `load`.
        input_size: of the images; as the checkpoint records, else 224.

    Raises:
        UsageError: what was said makes no sense, or the folder holds something.
        InputError: something cannot be loaded or traced.
        ParityError, AccuracyError, ExportError: a file is not what it must be; nothing is written.
        RuntimeFailure: what a target needs is not installed.
    """
    size, said = image_size(input_size), configured(arch, architecture)
    asked, shared = chosen_targets(targets), chosen("children", children, CHILDREN)
    images = ImageWords(optional_path(calibration), mean, std, resize, crop, color)
    judged_by = JudgedBy(images, optional_path(held_out), max_drop)
    judged_by.check(asked)
    path, names = file_of(network, "ship"), optional_path(labels)
    check_input(path, (Kind.checkpoint,), "ship")
    class_names(names)
    folder, own = optional_path(to) or Path(stem(path) + RELEASE), chosen_licence(licence)
    check_folder(folder)
    require_converter("Making a release")
    planned = plan(asked, stem(path))
    require_libraries(planned.files)
    from kdna_deploy.verbs.shipment import Shipment
    from kdna_deploy.verbs.shipping import shipped

    shipment = Shipment(
        *(path, folder, asked, planned, said, model, ema, size, shared, judged_by, names, licence, own),
    )
    return Shipped(folder, *shipped(shipment, listener))
