"""ONNX Runtime on the CPU."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kdna_deploy.errors import ArtifactError, InputError, KdnaError, RuntimeFailure
from kdna_deploy.external_data import external_files
from kdna_deploy.files import scratch_folder
from kdna_deploy.images.batch import Answers, Images
from kdna_deploy.images.interface import PLAIN, Interface
from kdna_deploy.network.stages import are_stages
from kdna_deploy.runtimes.image_graph import misfit
from kdna_deploy.runtimes.int8_kernels import int8_kernels_here
from kdna_deploy.runtimes.onnx_metadata import metadata, provenance_in_metadata
from kdna_deploy.runtimes.prepared import LEVEL, PreparedRecord, check_fits, record_in_metadata
from kdna_deploy.runtimes.session import Closing, logits_of, run_in_parts

try:
    import onnxruntime
except ImportError as error:
    raise RuntimeFailure("ONNX Runtime is not installed; run: pip install onnxruntime.") from error


# "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : ", in front of what has happened.
_TYPES = {"tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_STATUS = re.compile(r"^\[\w+\] : \d+ : \w+ : ")


class OrtSession(Closing):
    """A `Session` over an ONNX file with one image input and one output, either of which may be half precision.

    Or with the stage outputs of a backbone (`network.stages`), by their names.
    What else it takes and returns (`images.interface`) is in its metadata.

    `threads` bounds the threads of an operator; None leaves the choice to ONNX Runtime. `cores` are those that the
    threads beside the calling one are pinned to, the first being the caller's. `optimised_to` is a file for the graph
    that it makes of the model, the weights beside it; `profile_to` is the beginning of the name of a profile (see
    `end_profiling`). A file exported with children on the fly says in its metadata that constant folding must stay off,
    and that is honoured; a prepared file is opened as its record says.

    Raises:
        ArtifactError: the file cannot be opened, or is no network for images.
        RuntimeFailure: it was prepared for another processor or version (`runtimes.prepared`).
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        name: str | None = None,
        optimised_to: Path | None = None,
        cores: tuple[int, ...] = (),
        profile_to: Path | None = None,
    ) -> None:
        if not path.is_file():
            raise ArtifactError(f"There is no file '{path}'.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # nothing: errors come back as exceptions
        recorded = _configure(options, threads, cores)
        needs = session_needs(path)
        if needs.prepared:
            check_fits(path, needs.prepared, onnxruntime.__version__)
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            recorded |= LEVEL
        if optimised_to is not None:
            options.optimized_model_filepath = str(optimised_to)
            # All weights beside it: those that lie beside the model would be referred to where they are not.
            for key, value in (("file_name", f"{optimised_to.name}.data"), ("min_size_in_bytes", "0")):
                options.add_session_config_entry(f"session.optimized_model_external_initializers_{key}", value)
        if profile_to is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile_to)
        try:
            self._session = onnxruntime.InferenceSession(
                path,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=list(needs.disabled_optimizers),
                enable_fallback=0,  # to the same provider, with a banner on stdout
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            if optimised_to is not None and optimised_to.exists():
                raise KdnaError(
                    f"Temporary files could not be written to '{optimised_to.parent.parent}': {_cause(error)}; "
                    "make room there, or set TMPDIR to another folder."
                ) from error
            again = f"; prepare it anew: {needs.prepared.again(path)}" if needs.prepared else ""
            gone = [file.name for file in external_files(path) if not file.is_file()]
            cause = f"its weights '{gone[0]}' are not beside it" if gone else _cause(error)
            raise ArtifactError(f"ONNX Runtime cannot open '{path}': {cause}{again}.") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        interface, names = needs.interface, tuple(output.name for output in outputs)
        self.stage_names = names if are_stages(names) else ()
        if wrong := misfit(interface, [(one.type, len(one.shape)) for one in inputs], names):
            raise ArtifactError(f"'{path}' {wrong}; write one with `export`.")
        self._path = path
        self.options: Mapping[str, str | int] = recorded
        self.name = name or path.name
        self.runtime = f"ONNX Runtime {onnxruntime.__version__}"
        self._input = inputs[0].name
        self.interface = interface
        self._type = _TYPES.get(inputs[0].type, np.float32)
        first, *rest = inputs[0].shape
        self.batch = first if isinstance(first, int) else None
        fixed = all(isinstance(n, int) for n in rest)
        self.image_shape = interface.image_shape((rest[0], rest[1], rest[2])) if fixed else None

    def run(self, images: Images) -> Images:
        return logits_of(self, images)

    def run_all(self, images: Images) -> Answers:
        self._check_open()
        try:
            taken = self.interface.taken(images).astype(self._type, copy=False)
            return self.interface.returned(list(map(np.asarray, self._session.run(None, {self._input: taken}))))
        except Exception as error:  # see above
            takes, got = (self.batch or "n", *(self.image_shape or "chw")), images.shape
            raise InputError(
                f"{self.name} takes images {_by(takes)} and cannot run on {_by(got)}: {_cause(error)}."
            ) from error

    def rounding(self, images: Images, answers: Answers, roundoff: float) -> Iterator[Answers]:
        """How far rounding the weights to `roundoff` moves the `answers` for `images`, a few times over."""
        self._check_open()
        return self._moved(images, answers, roundoff)

    def _moved(self, images: Images, answers: Answers, roundoff: float) -> Iterator[Answers]:
        from kdna_deploy.runtimes.rounding import MOVES, perturbed_file

        for seed in range(MOVES):
            with scratch_folder("rounding") as folder:
                perturbed_file(self._path, folder / "moved.onnx", roundoff, seed)
                moved = _answers(folder / "moved.onnx", images)
            with np.errstate(invalid="ignore"):  # −∞ for classes that are not named
                yield tuple(np.abs(a - b) for a, b in zip(moved, answers, strict=True))

    def metadata(self) -> dict[str, str]:
        """The custom metadata of the file."""
        self._check_open()
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def end_profiling(self) -> Path:
        """Stop profiling; the file that the profile was written to, a JSON list of events."""
        self._check_open()
        return Path(self._session.end_profiling())

    def _release(self) -> None:
        del self._session


def _answers(path: Path, images: Images) -> Answers:
    with OrtSession(path) as session:
        return run_in_parts(session, images, session.batch)


def _configure(
    options: onnxruntime.SessionOptions, threads: int | None, cores: tuple[int, ...]
) -> dict[str, str | int]:
    """Set threads, spinning, affinity and what int8 needs here; returns what was set."""
    options.inter_op_num_threads = 1
    exact = int8_kernels_here().entries
    for key, value in exact.items():
        options.add_session_config_entry(key, value)
    recorded: dict[str, str | int] = {"inter_op_num_threads": 1, **exact}
    if threads is None:
        return recorded
    options.intra_op_num_threads = threads
    recorded["intra_op_num_threads"] = threads
    if threads > 1:  # one thread has no pool that could spin
        entries = {"session.intra_op.allow_spinning": "1"}
        if len(cores) == threads:
            # One entry for each thread of the pool, which the calling thread is not in; processors count from 1.
            entries["session.intra_op_thread_affinities"] = ";".join(str(core + 1) for core in cores[1:])
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        recorded |= entries
    return recorded


@dataclass(frozen=True)
class SessionNeeds:
    """What the metadata of a file say of its sessions.

    Attributes:
        disabled_optimizers: see `Provenance.options`.
        prepared: None of a portable file.
        interface: what it takes and returns.
    """

    disabled_optimizers: tuple[str, ...] = ()
    prepared: PreparedRecord | None = None
    interface: Interface = PLAIN


def session_needs(path: Path) -> SessionNeeds:
    """What the sessions of the ONNX file at `path` need.

    Raises:
        ArtifactError: the metadata are damaged.
    """
    try:
        found = metadata(path)
    except ArtifactError:
        return SessionNeeds()  # ONNX Runtime will say what is wrong with the file
    made = provenance_in_metadata(found, path)
    disabled = made.options.get("session", {}).get("disabled_optimizers", []) if made else []
    return SessionNeeds(tuple(disabled), record_in_metadata(found, path), made.interface(path) if made else PLAIN)


def _by(shape: Iterable[object]) -> str:
    return "×".join(map(str, shape))


def _cause(error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = _STATUS.sub("", text).rstrip(".").removesuffix(" for the following indices")  # on lines that are left out
    return text.replace(". ", "; ")[:200]
