"""Does a file that was written compute what the network was trained to?

    the file on its runtime beside the network, on probes of every kind and on given images → agreements, or a refusal

At batch 1, 2 and 5, and at the fixed batch alone where one is fixed; where any height and width are allowed, at two
other sizes as well.

A float32 file that departs from the network by rounding alone (`fused_rounding`) proves the fused graph that it was
translated from, which then need not run; where it departs by more, the graph is compared, to tell whose fault it is.
"""

from __future__ import annotations

from pathlib import Path

from kdna_deploy.errors import ExportError, InputError
from kdna_deploy.evaluation.agreement import Agreement
from kdna_deploy.evaluation.compare import compare
from kdna_deploy.evaluation.tolerance import FLOAT32, HALF, INT4_WEIGHTS, INT8_WEIGHTS
from kdna_deploy.files import scratch_folder
from kdna_deploy.graph.shapes import is_traced
from kdna_deploy.images.batch import Images, Shape
from kdna_deploy.images.interface import Interface
from kdna_deploy.images.probes import GIVEN, Probe, few_probes, is_stressed, standard_probes
from kdna_deploy.progress import Listener
from kdna_deploy.runtimes.onnx_file import save
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.runtimes.remembered import Remembered
from kdna_deploy.runtimes.session import Session
from kdna_deploy.targets.fuse import Fused
from kdna_deploy.targets.fused_rounding import ROUNDING_ONLY
from kdna_deploy.targets.onnx.interface import answering_logits
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.skeleton import parity

_TOO_COARSE = {
    HALF: "Half precision is too coarse for this network: leave it in float32.",
    INT8_WEIGHTS: "8 bits a weight are too coarse for this network: choose `weights='fp16'`.",
    INT4_WEIGHTS: "4 bits a weight are too coarse for this network: choose `weights='int8'`.",
}

# Pooling a map of one pixel is nothing, and left out of the graph.
_OF_ONE_SIZE = (
    "Where the network depends on the size of its images, leave `dynamic_size` out; where one of its maps is one pixel "
    "at this size, fuse it with a larger `input_size`."
)


def stands_for(fused: Fused | None, options: OnnxOptions) -> bool:
    """Whether a file of `options` is to prove the graph of `fused` as well: it takes the same images, in float32."""
    as_it_is = options.interface.plain and options.batch is None and not options.dynamic_size
    return fused is not None and fused.rounding is None and as_it_is and options.allowed == FLOAT32


def _prove(fused: Fused, candidate: Session, reference: Remembered) -> None:
    """Have the `candidate` prove the graph of `fused`; else compare it.

    Raises:
        ParityError: it departs from the network.
    """
    few = few_probes(fused.graph.image_shape)
    if is_traced(fused.graph):  # of code that is known to answer each image by itself
        reference.answer_together([probe.images for probe in few if is_stressed(probe.kind)])
    if not all(agreement.passed for agreement in compare(candidate, reference, few, ROUNDING_ONLY)):
        _ = fused.compared


def proving_probes(
    shape: Shape, options: OnnxOptions, interface: Interface, sample: Images | None
) -> tuple[Probe, ...]:
    """Probes of every kind that a file of `options` takes, as `interface` says, and the images of `sample`."""
    strong = options.allowed.roundoff < HALF.roundoff
    probes = standard_probes(shape, options.batch, strong, interface, options.dynamic_size)
    return probes if sample is None else (*probes, Probe(GIVEN, sample))


def verify_file(
    path: Path,
    shape: tuple[int, int, int],
    reference: Remembered,
    options: OnnxOptions,
    sample: Images | None,
    listener: Listener,
    optimised_to: Path | None = None,
    unproved: Fused | None = None,
) -> tuple[Agreement, ...]:
    """Agreement of the file at `path` with `reference` on probes of every kind and on the images of `sample`.

    ONNX Runtime writes what it makes of it to `optimised_to`. The file `stands_for` the graph of `unproved`.
    Probabilities that are 0 or 1 tell little of logits, and of classes that are not named nothing: of a file that
    answers with them, the logits on its way are compared first.

    Raises:
        ParityError: they do not agree, or not at another size where any is allowed, or the graph of `unproved` does
            not.
    """
    listener.step("verify")
    probes = proving_probes(shape, options, options.interface, sample)
    plain = _OF_ONE_SIZE if options.dynamic_size else "Fuse again with the `input_size` to export for."
    remedy = _TOO_COARSE.get(options.allowed, plain)
    departs = f"The ONNX file departs from the {reference.name}"

    def judged(file: Path, optimised_to: Path | None = None) -> tuple[Agreement, ...]:
        with OrtSession(file, optimised_to=optimised_to) as session:
            candidate: Session = session
            if unproved is not None:
                candidate = Remembered(session)
                _prove(unproved, candidate, reference)
            return parity(candidate, reference, probes, options.allowed, departs, remedy)

    try:
        if options.interface.answers_probabilities:
            with scratch_folder("logits") as folder:
                save(answering_logits(path), folder / "logits.onnx")
                judged(folder / "logits.onnx")
        return judged(path, optimised_to)
    except InputError as error:  # of one of the two, at another size
        if not options.dynamic_size:
            raise
        _, h, w = shape
        raise ExportError(
            f"The network cannot be run on images of another size than {h}×{w}; nothing was written. {_OF_ONE_SIZE}"
        ) from error
