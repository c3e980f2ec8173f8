"""Does an artifact compute what the trained network computes?"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.errors import UsageError
from kdna_deploy.extras import require_converter
from kdna_deploy.files import check_output
from kdna_deploy.input_files import MODELS, check_images, check_input
from kdna_deploy.network.configuration import Words, configured
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.verbs.arguments import PathLike, Size, check_number, image_size, optional_path
from kdna_deploy.verbs.result import Result
from kdna_deploy.verbs.source import file_of, original_in_memory

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from kdna_deploy.evaluation.verify import FileVerification
    from kdna_deploy.reports.report import Report
    from kdna_deploy.targets.bisect import Bisection
    from kdna_deploy.verbs.proved import Proved
    from kdna_deploy.verbs.source import Files


@dataclass(frozen=True, repr=False)
class Verification(Result):
    """Agreement of an artifact with its reference.

    Attributes:
        path: the artifact.
        result: a row for each kind of images.
        bisection: the first layer that departs, where that was looked for.
        saved: where the image that departs most was written.
    """

    path: Path
    result: FileVerification
    bisection: Bisection | None = None
    saved: Path | None = None

    @property
    def passed(self) -> bool:
        return self.result.passed

    @property
    def notes(self) -> tuple[str, ...]:
        return self.result.notes

    @property
    def complaint(self) -> str:
        """What is wrong and what to do, a sentence; empty where it passed."""
        from kdna_deploy.evaluation.agreement import worst_of

        worst, result = worst_of(self.result.agreements), self.result
        if worst is None:
            return ""
        return (
            f"{result.candidate} does not compute what {result.reference} computes: {worst.complaint}; "
            f"{_remedy(self.path)}."
        )

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.verify import verify_report

        return verify_report(self.result, self.bisection)


def verify(
    file: Files,
    *,
    against: PathLike | None = None,
    inputs: PathLike | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    bisect: bool = False,
    save_worst: PathLike | None = None,
    arch: str | None = None,
    model: str | None = None,
    ema: bool = False,
    input_size: Size | None = None,
    listener: Listener = SILENT,
    **architecture: Unpack[Words],
) -> Verification | Proved:
    """Compare an artifact with the network that it was made from, on generated images and on given ones.

    A folder that `ship` wrote is proved by itself: its bytes, and what its files answer beside what is recorded there.

    Args:
        file: ``.onnx``, ``.xml``, ``.pt2``, ``.engine`` or checkpoint, or what `fuse` or `export` wrote; or a
            folder that `ship` wrote, which takes nothing of what follows.
        against: what it must agree with; the checkpoint that it was made from by default.
        inputs: images beside the generated ones: folder, ``.npy`` or ``.npz``.
        rtol: allowed difference, share of an output's spread over images; 1e-4, in half precision 1e-2.
        atol: allowed on top of that.
        bisect: find the first layer that departs, and the stage at fault.
        save_worst: ``.npy`` file for the image that departs most.
        arch, model, ema, architecture: how to load a checkpoint, see `load`.
        input_size: for networks that take any.

    Raises:
        UsageError: what was said makes no sense.
        InputError: a file cannot be loaded, or the two do not take the same images.
        RuntimeFailure: an engine does not fit the library or the GPU here, or PyTorch is needed and not installed.
    """
    size, said = image_size(input_size), configured(arch, architecture)
    check_number("rtol", rtol)
    check_number("atol", atol)
    path, reference, images = file_of(file, "verify"), optional_path(against), optional_path(inputs)
    if path.is_dir():
        others = (reference, images, rtol, atol or None, bisect or None, save_worst, model, ema or None, size)
        return _proved(path, bool(said) or any(one is not None for one in others), listener)
    check_input(path, MODELS, "verify")
    if reference is not None:
        check_input(reference, MODELS, "`against`")
    if images is not None:
        check_images(images, "`inputs`")
    read = tuple(one for one in (path, reference, images) if one is not None)
    worst = optional_path(save_worst)
    if worst is not None:
        check_array_output(worst, read)
    if bisect:
        require_converter("`bisect`, which makes the stages of an export again,")
    listener.plan(("open", "open the reference", "compare", *(("bisect",) if bisect else ())))
    listener.step("open")
    from kdna_deploy.evaluation.verify import save_image, verify_files

    original = original_in_memory(file)
    result = verify_files(path, reference, images, rtol, atol, size, model, said, ema, original, listener)
    found = None
    if bisect:
        listener.step("bisect")
        from kdna_deploy.targets.bisect_file import bisect_file

        found = bisect_file(path, reference, model, listener)
    if worst is not None and result.worst_image is not None:
        save_image(result.worst_image, worst, read)
        return Verification(path, result, found, worst)
    return Verification(path, result, found)


def _proved(folder: Path, told_more: bool, listener: Listener) -> Proved:
    """Raises: UsageError where a folder is to be compared otherwise than with what lies in it."""
    if told_more:
        raise UsageError(
            f"'{folder}' is a folder, and has with it what it is proved by; give it alone, or one of its files."
        )
    from kdna_deploy.verbs.proved import proved

    return proved(folder, listener)


def check_array_output(path: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Refuse a file that no array could be read from again, before any work.

    Raises:
        UsageError: its suffix is not ``.npy``, or it cannot be written.
    """
    if path.suffix != ".npy":
        raise UsageError(f"'{path}' must end in .npy, so that `inputs` can read it.")
    check_output(path, inputs, "save_worst")


def _remedy(path: Path) -> str:
    """An int8 file rounds by design: no export would make it pass."""
    from kdna_deploy.errors import KdnaError
    from kdna_deploy.runtimes.open import read_provenance

    with contextlib.suppress(KdnaError):
        if read_provenance(path).options.get("precision") == "int8":
            return f"it is int8, which rounds: judge it with `evaluate({str(path)!r}, data='DIR', against='REF')`"
    return "export it again from that checkpoint"
