"""The two libraries that build engines, and everything in which they differ.

    tensorrt       chooses its kernels by timing them on the GPU at hand: a GPU is needed, the engine is for that GPU
    tensorrt-rtx   leaves that to the machine that runs the engine: no GPU is needed, the engine is for a list of
                   compute capabilities

Their parsers and builders have the same interface. What differs is in `LIBRARIES` and in the functions below; no other
file asks which library it has. TensorRT 11 and current releases of TensorRT-RTX are always strongly typed; TensorRT 10
has to be told.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass
from typing import Any, Literal

from kdna_deploy.errors import RuntimeFailure, UsageError
from kdna_deploy.runtimes.nvidia.gpu import Gpu, first_gpu

LibraryName = Literal["tensorrt", "tensorrt-rtx"]
Version = tuple[int, ...]


@dataclass(frozen=True)
class Library:
    """A library that builds engines.

    Attributes:
        name: the key in `LIBRARIES`; with ``--`` before it, the option of ``export``.
        title: for messages and tables.
        module: that is imported.
        install: the command that installs it.
        oldest, before: the range of versions whose interface is used here.
        suffix: of engine files; an engine of one library is nothing to the other.
        ahead_of_time: builds without a GPU, for a list of compute capabilities, and without timing.
    """

    name: LibraryName
    title: str
    module: str
    install: str
    oldest: Version
    before: Version
    suffix: str
    ahead_of_time: bool

    @property
    def missing(self) -> str | None:
        """A sentence on how to get it; None where it is installed."""
        if importlib.util.find_spec(self.module) is not None:
            return None
        return f"{self.title} is not installed; run: {self.install}"


LIBRARIES: dict[LibraryName, Library] = {
    "tensorrt": Library(
        "tensorrt",
        "TensorRT",
        "tensorrt",
        "pip install 'kdna-deploy[tensorrt]'",
        oldest=(10, 0),
        before=(12, 0),
        suffix=".engine",
        ahead_of_time=False,
    ),
    "tensorrt-rtx": Library(
        "tensorrt-rtx",
        "TensorRT-RTX",
        "tensorrt_rtx",
        "pip install 'kdna-deploy[tensorrt-rtx]'",
        # Earlier ones refuse int8 convolutions.
        oldest=(1, 7),
        before=(2, 0),
        suffix=".rtx.engine",
        ahead_of_time=True,
    ),
}

# What TensorRT-RTX builds for where it is told nothing: these and later ones.
DEFAULT_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")


@dataclass(frozen=True)
class OpenedLibrary:
    """An imported library of a version that fits. `gpu` is the one it builds on, None where it needs none."""

    library: Library
    trt: Any
    version: str
    gpu: Gpu | None


def library(name: str) -> Library:
    """The entry of `name`.

    Raises:
        UsageError: there is none.
    """
    for key, entry in LIBRARIES.items():
        if key == name:
            return entry
    raise UsageError(f"There is no engine library '{name}'; choose from {', '.join(LIBRARIES)}.")


def open_library(name: str, to_build: bool = True) -> OpenedLibrary:
    """Import a library, to build engines with or to run them.

    Raises:
        RuntimeFailure: it is not installed, cannot be loaded, has a version that does not fit, or needs a GPU that is
            not there.
    """
    entry = library(name)
    if entry.missing:
        raise RuntimeFailure(f"{entry.missing}.")
    try:
        trt = importlib.import_module(entry.module)
    except Exception as error:  # its loader raises whatever the dynamic linker does
        cause = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise RuntimeFailure(f"{entry.title} cannot be loaded: {cause}; run: {entry.install}.") from error
    check_version(entry, trt.__version__)
    needs_gpu = not (to_build and entry.ahead_of_time)
    return OpenedLibrary(entry, trt, trt.__version__, _needed_gpu(entry, to_build) if needs_gpu else None)


def check_version(entry: Library, version: str) -> None:
    """Refuse a version whose interface is not the one used here.

    Raises:
        RuntimeFailure: `version` is outside of the library's range.
    """
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if not entry.oldest <= numbers < entry.before:
        oldest, before = (".".join(map(str, bound)) for bound in (entry.oldest, entry.before))
        raise RuntimeFailure(
            f"{entry.title} {version} is installed, but a version from {oldest} to below {before} is needed; "
            f"run: {entry.install}."
        )


def _needed_gpu(entry: Library, to_build: bool) -> Gpu:
    try:
        return first_gpu()
    except RuntimeFailure as reason:
        purpose = "builds engines on the GPU that they are for" if to_build else "runs engines on a GPU"
        remedy = "build ahead of time with `tensorrt_rtx=True`, or run this" if to_build else "run this"
        raise RuntimeFailure(
            f"{entry.title} {purpose}, and there is none here: {reason}; {remedy} on a machine with an NVIDIA GPU."
        ) from reason


def network_flags(opened: OpenedLibrary) -> int:
    """The creation flags of a strongly typed network: precision is in the graph, not in the builder's hands."""
    # Where strong typing is all there is, the flag is ignored, or may be gone.
    flag = getattr(opened.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def set_capabilities(opened: OpenedLibrary, config: Any, wanted: tuple[str, ...]) -> None:
    """Build for the compute capabilities `wanted`, as ``8.6``; for none, the library's own choice.

    Raises:
        UsageError: the library does not build for them.
    """
    if not wanted:
        return
    offered = check_capabilities(opened, wanted)
    config.num_compute_capabilities = len(wanted)
    for index, capability in enumerate(wanted):
        config.set_compute_capability(offered[capability], index)


def check_capabilities(opened: OpenedLibrary, wanted: tuple[str, ...]) -> dict[str, Any]:
    """The compute capabilities that the library builds for, which those `wanted` are among.

    Raises:
        UsageError: they are not.
    """
    entry = opened.library
    if wanted and not entry.ahead_of_time:
        raise UsageError(
            f"{entry.title} builds for the GPU at hand and takes no compute capability; leave it out, or use "
            "`tensorrt_rtx=True`."
        )
    members = opened.trt.ComputeCapability.__members__.items() if entry.ahead_of_time else ()
    offered = {_capability(name): value for name, value in members if _capability(name)}
    unknown = [capability for capability in wanted if capability not in offered]
    if unknown:
        raise UsageError(
            f"{entry.title} {opened.version} cannot build for compute capability '{unknown[0]}'; "
            f"choose from {', '.join(offered)}."
        )
    return offered


def _capability(member: str) -> str:
    """``SM120`` → ``12.0``; empty for members that name none."""
    found = re.fullmatch(r"SM(\d+)(\d)", member)
    return f"{found[1]}.{found[2]}" if found else ""


def create_context(opened: OpenedLibrary, engine: Any, cuda_graph: bool) -> Any:
    """An execution context. TensorRT-RTX captures CUDA graphs by itself, for it also compiles kernels as it goes."""
    if not opened.library.ahead_of_time:
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    # Shapes are set once. By default stand-ins run while the kernels for a shape are compiled beside them, and would be
    # what is measured.
    eager = opened.trt.DynamicShapesKernelSpecializationStrategy.EAGER
    config.dynamic_shapes_kernel_specialization_strategy = eager
    if cuda_graph:
        config.cuda_graph_strategy = opened.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return engine.create_execution_context(config)
