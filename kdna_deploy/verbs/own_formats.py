"""What a user says of files that one runtime alone opens, and what that excludes.

    openvino   NAME.xml, NAME.bin      ncnn   NAME.ncnn.param, NAME.ncnn.bin      mnn   NAME.mnn
    litert     NAME.tflite             executorch   NAME.pte

A further format is a further entry of `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kdna_deploy.errors import RuntimeFailure, UsageError
from kdna_deploy.kinds import SUFFIXES, Kind, beside_own
from kdna_deploy.precision import CODES
from kdna_deploy.verbs.output_names import check_name

Refusals = tuple[tuple[bool, str], ...]


@dataclass(frozen=True)
class Said:
    """What else was said.

    Attributes:
        interface: whether the file is to take pixels, or to answer with something else than logits.
        workers: whether any were named to judge it.
    """

    engine: bool
    prepare: bool
    target: str | None
    precision: str
    weights: str
    children: str | None
    external_data: bool
    batch: int | None
    dynamic_size: bool
    interface: bool
    with_baseline: bool
    workers: bool


@dataclass(frozen=True)
class OwnFormat:
    """A format of one runtime.

    Attributes:
        title: of the runtime.
        kind: of the file.
        suffix: what NAME gets where no other is said.
        refusals: of what such a file cannot have.
        why: of its last suffix.
        extra: that has what writing one takes, where running takes less.
        packages: of that, by the names they are imported by.
    """

    title: str
    kind: Kind
    suffix: str
    refusals: Callable[[Said], Refusals]
    why: str
    extra: str = ""
    packages: tuple[str, ...] = ()


def _openvino(said: Said) -> Refusals:
    return (
        (
            said.precision == "fp16",
            'OpenVINO computes in float32 or int8 on CPUs; `weights="fp16"` halves the file for them.',
        ),
        (
            said.children == "on-the-fly",
            'OpenVINO multiplies children out when it opens a file; choose `children="share"`.',
        ),
        (said.external_data, "The weights of an OpenVINO file lie beside it anyway; leave `external_data` out."),
    )


def _plain(title: str, weights: tuple[str, ...], fp16: str, int8: str, batch: str) -> Callable[[Said], Refusals]:
    """Of formats whose files take normalised images of one size and return what the network does.

    `fp16` and `int8` say why there is no such `precision`, a sentence each; `batch` how many images a file takes.
    """

    def refusals(said: Said) -> Refusals:
        return (
            (said.precision == "fp16", fp16),
            (said.precision == "int8", int8),
            (
                said.weights not in weights,
                f'{title} does not store weights in {said.weights}; choose `weights="{weights[-1]}"`.',
            ),
            (
                said.children in ("share", "on-the-fly"),
                f"{title} stores a kernel with every layer, so that none is shared; leave `children` out.",
            ),
            (
                said.external_data,
                f"A file for {title} holds its weights as {title} wants them; leave `external_data` out.",
            ),
            (said.batch is not None, f"A file for {title} takes {batch}; leave `batch` out."),
            (said.dynamic_size, f"A file for {title} takes images of one size here; leave `dynamic_size` out."),
            (
                said.interface,
                f"A file for {title} takes normalised images and returns logits; leave `preprocess` and `postprocess` "
                "out.",
            ),
            (said.with_baseline, f"{title} does not open the plain backbone, an ONNX file; leave `with_baseline` out."),
        )

    return refusals


def _litert(said: Said) -> Refusals:
    return (
        (
            said.precision == "fp16",
            'LiteRT computes in float32 or int8 on CPUs; `weights="fp16"` halves the file for them.',
        ),
        (said.weights == "int4", 'LiteRT does not store weights in int4; choose `weights="int8"`.'),
        (
            said.children in ("share", "on-the-fly"),
            "LiteRT takes kernels that are stored, so that children are multiplied out; leave `children` out.",
        ),
        (said.external_data, "A LiteRT file holds its weights; leave `external_data` out."),
        (said.dynamic_size, "A LiteRT file takes images of one size here; leave `dynamic_size` out."),
        (said.with_baseline, "LiteRT does not open the plain backbone, an ONNX file; leave `with_baseline` out."),
    )


FORMATS = {
    "openvino": OwnFormat("OpenVINO", Kind.openvino, ".xml", _openvino, "so that OpenVINO finds its weights"),
    "ncnn": OwnFormat(
        "ncnn",
        Kind.ncnn,
        ".ncnn.param",
        _plain(
            "ncnn",
            ("fp32", "fp16"),
            'ncnn computes in half precision by itself, where the processor does; `weights="fp16"` halves the file.',
            'int8 for ncnn takes its programs ncnn2table and ncnn2int8, which no Python package has; `weights="fp16"` '
            "halves the file.",
            "one image at a time",
        ),
        "so that ncnn finds its weights",
        extra="ncnn-convert",
        packages=("ncnn", "pnnx"),
    ),
    "mnn": OwnFormat(
        "MNN",
        Kind.mnn,
        ".mnn",
        _plain(
            "MNN",
            ("fp32", "fp16", "int8"),
            "MNN computes in half precision where it is opened with its precision 'low' and the processor does; "
            '`weights="fp16"` halves the file.',
            'The quantiser in MNN\'s package aborts, see docs/edge.md; `weights="int8"` makes the file as small.',
            "any number of images",
        ),
        "by which MNN files are told",
    ),
    "litert": OwnFormat("LiteRT", Kind.litert, ".tflite", _litert, "by which LiteRT files are told"),
    "executorch": OwnFormat(
        "ExecuTorch",
        Kind.executorch,
        ".pte",
        _plain(
            "ExecuTorch",
            ("fp32",),
            'ExecuTorch files are not written in half precision here; choose `litert` with `weights="fp16"`, for half '
            "the size.",
            "ExecuTorch files are not written in int8 here; choose `litert`, for the same kernels.",
            "one image at a time",
        ),
        "by which ExecuTorch files are told",
    ),
}


@dataclass(frozen=True)
class OwnWords:
    """Which of the formats were `named`, and what else was said."""

    named: Mapping[str, bool]
    said: Said

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of those that are."""
        return tuple(name for name, said in self.named.items() if said)

    @property
    def form(self) -> OwnFormat | None:
        """The one that is wanted; None for an ONNX file."""
        return FORMATS[self.wanted[0]] if self.wanted else None

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: another kind of file is wanted too, or something that such a file cannot have.
        """
        form = self.form
        refusal = form and next((text for applies, text in self._refusals(form) if applies), None)
        if refusal:
            raise UsageError(refusal)

    def _refusals(self, form: OwnFormat) -> Refusals:
        name, *others = self.wanted
        file = form.kind.value
        return (
            (bool(others), written_alone(name, f"`{others[0]}`" if others else "")),
            (self.said.engine, written_alone(name, "the engine")),
            (self.said.prepare, written_alone(name, "`prepare`, which is for ONNX Runtime,")),
            (
                self.said.target is not None,
                f"{file[0].upper()}{file[1:]} is for {form.title}; leave `target` out.",
            ),
            *form.refusals(self.said),
            (
                self.said.workers and self.said.weights in CODES and form.kind is not Kind.openvino,
                f"Codes for {form.title} are judged by this process alone; leave `workers` and `ray` out.",
            ),
        )

    @property
    def steps(self) -> tuple[str, ...]:
        """For a listener's plan, behind those of the ONNX file."""
        return (f"convert to {self.form.title}", "write") if self.form else ()

    @property
    def children(self) -> str | None:
        """What is asked of the fused graph, where it is not for the user to say."""
        return "materialize" if self.form and self.form.kind is not Kind.openvino else None

    def files(self, output: Path) -> tuple[Path, ...]:
        """What is written for `output`."""
        return output, *beside_own(output)

    def check_name(self, output: Path) -> None:
        """Refuse a name by which `output` would not be told.

        Raises:
            UsageError: it is one.
        """
        if self.form is None:
            check_name(output, Kind.onnx)
        else:
            check_name(output, self.form.kind, self.form.why)

    def require(self) -> None:
        """Refuse what could not be written before any work is done for it.

        Raises:
            RuntimeFailure: a package is not installed.
        """
        for name in self.wanted:
            require_format(name)


def written_alone(name: str, other: str) -> str:
    """That the format `name` excludes `other`, which is another file; a sentence."""
    return f"`{name}` writes {FORMATS[name].kind.value} alone; leave {other} out, or run again for it."


def require_format(name: str) -> None:
    """Refuse to write the format `name` before any work is done for it.

    Raises:
        RuntimeFailure: a package is not installed.
    """
    if absent := missing(name):
        raise RuntimeFailure(f"{absent}.")


def missing(name: str) -> str | None:
    """What writing the format `name` lacks and how to get it, a sentence; None where nothing is missing."""
    from kdna_deploy.runtimes.table import RUNTIMES, package

    form = FORMATS[name]
    if not form.extra:
        return RUNTIMES[name].missing
    found = (package(one, one, f"pip install 'kdna-deploy[{form.extra}]'")() for one in form.packages)
    return next(filter(None, found), None)


def own_suffix(named: Mapping[str, object]) -> str:
    """Of what is written where no other name is said, of the formats among what was `named`."""
    return next((form.suffix for name, form in FORMATS.items() if named.get(name)), SUFFIXES[Kind.onnx])
