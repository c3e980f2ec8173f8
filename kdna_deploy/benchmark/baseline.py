"""The plain backbone that a network is measured beside: the one that was written with its file, or one that is built.

    written    `export(with_baseline=True)` puts it beside the file, which records its name and SHA-256
    built      untrained, the same every time (`untrained`), where PyTorch is installed

Both are the same file. The one that was written comes first: a device has no PyTorch, and nothing is to be built.

Does not apply to runtimes that open something else than ONNX files, and to GPUs: what those open is built. Nor to a
user's own model, whose plain backbone is not known.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.subject import Subject, given, same_options
from kdna_deploy.errors import UsageError
from kdna_deploy.extras import converter_installed, require_converter
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.network.architecture import plain_name
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.prepared import prepared_record
from kdna_deploy.runtimes.table import RUNTIMES
from kdna_deploy.targets.onnx.options import OnnxOptions

if TYPE_CHECKING:
    from kdna_deploy.benchmark.untrained import Untrained

_WITH_ONE = ("onnx", "openvino")  # the kinds of file that are written together with theirs
KEY = "baseline"  # among the options of a file's provenance: a record with its "file" and "sha256"
# What tells a network from its plain backbone, in the record of its architecture.
_OF_SHARING = frozenset({"layouts", "attentions", "reductions", "method"})


def plain_identity(made: Provenance) -> str:
    """Equal for artifacts whose plain backbones are the same file: children and attention make no difference."""
    return repr((_plain(made), made.image_shape, same_options(made)))


def _plain(made: Provenance) -> object:
    """The record of the plain architecture; without the table of architectures, as far as a record tells it."""
    if made.architecture is None:
        return made.factory
    if not converter_installed():
        rest = {name: value for name, value in made.architecture.items() if name not in _OF_SHARING}
        return {**rest, "name": plain_name(rest["name"])}
    from kdna_deploy.network.record import from_record, to_record

    return to_record(from_record(made.architecture).plain)


def opens_onnx(subject: Subject, options: BenchOptions) -> bool:
    """Whether all that `subject` is measured on opens ONNX files on a CPU, as which a plain backbone is written."""
    runtimes = [RUNTIMES[one.runtime] for one in options.device.variants(subject, options)]
    return options.device.name == "cpu" and {one.artifact for one in runtimes if not one.missing} <= {"onnx"}


def written_baseline(subject: Subject, options: BenchOptions, listener: Listener = SILENT) -> Subject | None:
    """The plain backbone that was written with the file of `subject`; None where another is to be built.

    Raises:
        InputError: it cannot be opened.
    """
    path = _beside(subject) if opens_onnx(subject, options) else None
    if not isinstance(path, Path):
        return None
    made = subject.provenance
    assert made is not None, "which says so"
    plain = given(path, path.parent, size=subject.image_shape[1:] if made.any_size else None)
    _, h, w = plain.image_shape
    name = plain.provenance.name if plain.provenance else path.name
    listener.note(f"{subject.name} is measured beside {path.name}, the plain backbone that was written with it")
    return replace(plain, name=f"{name} {h}×{w}")


def measured_alone(subject: Subject) -> str:
    """Why there can be no plain backbone beside the file of `subject` on this machine, a sentence; empty otherwise.

    Files of the runtimes of phones are written without one, and nothing builds it where PyTorch is not.
    """
    if converter_installed() or subject.kind in (*_WITH_ONE, "fused", "checkpoint", "engine"):
        return ""
    return (
        f"{subject.name} is measured alone: without PyTorch no plain backbone can be made for it; name a file of its "
        "kind by `baseline` for a ratio"
    )


def plain_backbone(subject: Subject, folder: Path) -> Subject:
    """The baseline of `subject`, built: the same widths, classes, input, batch and export options, without KernelDNA.

    Raises:
        UsageError: it is not known: a user's own model, or a file that kdna-deploy did not make.
        RuntimeFailure: PyTorch is not installed.
    """
    made = subject.provenance
    if made is None:
        raise UsageError(
            f"'{subject.name}' was not exported by kdna-deploy; give what to compare with: `baseline='FILE'`."
        )
    if made.architecture is None:
        raise UsageError(
            f"The plain backbone of {made.name} is not known; name what to compare with by `baseline='FILE'`."
        )
    lost = _beside(subject)
    why = f" '{subject.name}', whose own {lost}," if isinstance(lost, str) else f" '{subject.name}'"
    name_one = "name a file by `baseline`"
    remedy = f"export it with `with_baseline=True`, {name_one}" if subject.kind in _WITH_ONE else name_one
    require_converter(f"Building the plain backbone of{why}", remedy)
    from kdna_deploy.benchmark.untrained import untrained

    shape = subject.image_shape if made.any_size else made.image_shape
    files = _files(made, same_options(made), folder)
    plain = untrained(files, f"{files.name} {shape[1]}×{shape[2]}", shape)
    if lost is None:
        return plain
    reason = (
        f"its own {lost}" if isinstance(lost, str) else f"{lost.name} is for runtimes that open ONNX files on a CPU"
    )
    return replace(plain, notes=(f"the plain backbone of {subject.name} was built: {reason}",))


def write_baseline(made: Provenance, options: OnnxOptions, output: Path) -> None:
    """Write the plain backbone of what `made` tells of, exported with `options`, to `output`.

    Raises:
        UsageError: it is not known.
    """
    if made.architecture is None:
        raise UsageError(f"The plain backbone of {made.name} is not known; leave `with_baseline` out.")
    plain = OnnxOptions(
        opset=options.opset,
        batch=options.batch,
        simplify=options.simplify,
        target=options.target,
        dynamic_size=options.dynamic_size,
        interface=options.interface,
    )
    _files(made, plain, output.parent).make("onnx", output)


def _files(made: Provenance, options: OnnxOptions, folder: Path) -> Untrained:
    from kdna_deploy.benchmark.untrained import Untrained

    architecture = made.restored_architecture()
    assert architecture is not None, "checked"
    return Untrained(architecture.plain, made.image_shape, options, folder)


def _beside(subject: Subject) -> Path | str | None:
    """The baseline that was written with the file of `subject`, or what has become of it; None where none was."""
    recorded = subject.provenance.options.get(KEY) if subject.provenance else None
    if recorded is None:
        return None
    path = subject.artifacts.source(subject.kind).path
    prepared = prepared_record(path)  # from a file that may lie elsewhere
    folders = (path.parent, *([prepared.portable(path).parent] if prepared else []))
    name = recorded["file"]
    found = [folder / name for folder in folders if (folder / name).is_file()]
    unchanged = (one for one in found if file_sha256(one) == recorded["sha256"])
    changed = f"'{name}' has changed since" if found else f"'{name}' is not beside it"
    return next(unchanged, changed)
