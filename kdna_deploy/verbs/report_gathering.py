"""What a page is made of, found out step by step: each step is a verb's own work.

    checkpoints            inspected; on images attention and similarity, on labelled ones accuracy
    artifacts              their record read, verified against the checkpoint, evaluated beside it, measured shortly
    saved runs, sweeps     read: nothing of them is measured again

The checkpoint of an artifact is read as if it had been named, where it lies where the record says. An artifact whose
function was changed on purpose (int8, codes, frozen attention) is not held to parity, which its row says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kdna_deploy.benchmark.environment import environment
from kdna_deploy.errors import KdnaError
from kdna_deploy.evaluation.freezing_cost import freezing_costs
from kdna_deploy.evaluation.similarity import FEWEST, NamedGraph, layer_similarity
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.gate_statistics import measure_gates
from kdna_deploy.graph.inspection import inspect_network
from kdna_deploy.graph.provenance import Provenance, find_source
from kdna_deploy.images.folder import ImageSource
from kdna_deploy.images.preprocessing import AskedPreprocessing, from_record
from kdna_deploy.kinds import Kind, named_kind
from kdna_deploy.network.load import Network, load_network
from kdna_deploy.progress import Listener, Part
from kdna_deploy.reports.bench_read import read_result
from kdna_deploy.reports.page.evidence import Evidence, FileEvidence, NetworkEvidence
from kdna_deploy.runtimes.onnx_file import file_bytes
from kdna_deploy.runtimes.open import recorded_provenance
from kdna_deploy.runtimes.own_files import own_file
from kdna_deploy.runtimes.prepared import prepared_record
from kdna_deploy.selection.saved import read_sweep
from kdna_deploy.targets.source import Request, fuse_network
from kdna_deploy.verbs.report_asked import Asked, Source
from kdna_deploy.verbs.report_inputs import Inputs
from kdna_deploy.verbs.report_judging import evaluated, evaluated_network, measured, shown_images, verified
from kdna_deploy.words import first_sentence

_LOOKED_AT = 128  # images: each layer's attention is frozen in turn, on each of them


def gather(inputs: Inputs, asked: Asked, listener: Listener) -> Evidence:
    """Everything that the page says.

    Raises:
        KdnaError: an input cannot be read, or what was asked for does not fit it.
    """
    runs = tuple((f"in {path.name}", read_result(path)) for path in inputs.runs)
    sweeps = tuple((path.name, read_sweep(path)) for path in inputs.sweeps)
    listener.plan(tuple(_steps(inputs, asked)))
    part, notes = Part(listener), list[str]()
    artifacts = [_artifact(path) for path in inputs.artifacts]
    sources = {
        sha256: _named(path, sha256, artifacts, asked) for path in inputs.checkpoints if (sha256 := file_sha256(path))
    }
    for one in artifacts:
        _add_source(one, asked, sources, notes)
    networks = [_network(sha256, source, asked, part, notes) for sha256, source in sources.items()]
    files = [verified(one, sources, asked, part) for one in artifacts]
    if asked.data is not None:
        listener.step("evaluate")
        networks = [replace(one, file=evaluated_network(one, sources, asked, part)) for one in networks]
        files = [evaluated(one, sources, asked, part, notes) for one in files]
    if asked.bench and files:
        listener.step("measure")
        runs += measured(files, asked, part, notes)
    found = Evidence(environment(), tuple(networks), tuple(files), runs, sweeps, notes=tuple(notes))
    if asked.data is not None:
        listener.step("look at the worst images")
    return replace(found, images=shown_images(found, sources, asked, part))


def _steps(inputs: Inputs, asked: Asked) -> Iterator[str]:
    models = inputs.checkpoints or inputs.artifacts
    yield from ("inspect",) if models else ()
    yield from ("look at attention",) if models and asked.calibration else ()
    yield from ("verify",) if inputs.artifacts else ()
    yield from ("evaluate",) if models and asked.data else ()
    yield from ("measure",) if inputs.artifacts and asked.bench else ()
    yield from ("look at the worst images",) if models and asked.data else ()
    yield "draw"


def _artifact(path: Path) -> FileEvidence:
    made = recorded_provenance(path)
    prepared = prepared_record(path)
    return FileEvidence(path, file_sha256(path), _size(path), made, prepared.source if prepared else "")


def _size(path: Path) -> int:
    if named_kind(path) is Kind.onnx:
        return file_bytes(path)
    found = own_file(path, weights=False)
    return found.bytes if found else path.stat().st_size


def _add_source(file: FileEvidence, asked: Asked, sources: dict[str, Source], notes: list[str]) -> None:
    """The checkpoint of an artifact joins those that were named, where it is to be found."""
    made = file.provenance
    if made is None:
        notes.append(f"{file.path.name} does not say which checkpoint it was made from")
        return
    if made.source_sha256 in sources:
        return
    if made.factory and not asked.factory:
        notes.append(
            f"{file.path.name} holds the network of {made.factory}, whose code was not run; "
            f"add `model={made.factory_hint(file.path)!r}` to have its checkpoint inspected"
        )
        return
    try:
        path = find_source(made, file.path)
        factory = asked.factory if made.factory else None
        sources[made.source_sha256] = Source(path, made.loading(path), factory, made.ema, *_seen_by(made, asked))
        notes.append(f"{path.name}, which {file.path.name} was made from, was read as well")
    except KdnaError as error:
        notes.append(first_sentence(error))


def _named(path: Path, sha256: str, artifacts: Sequence[FileEvidence], asked: Asked) -> Source:
    made = next(
        (one.provenance for one in artifacts if one.provenance and one.provenance.source_sha256 == sha256), None
    )
    seen = _seen_by(made, asked) if made else (asked.size, asked.preprocessing)
    return Source(path, asked.arch, asked.factory, asked.ema, *seen)


def _seen_by(made: Provenance, asked: Asked) -> tuple[tuple[int, int], AskedPreprocessing]:
    """The image size and the preprocessing of an artifact, unless others were said."""
    recorded = from_record(made.preprocessing, made.source)
    whole = asked.preprocessing.over(recorded) if recorded else None
    return asked.size or made.image_shape[1:], AskedPreprocessing(**vars(whole)) if whole else asked.preprocessing


def _network(sha256: str, source: Source, asked: Asked, listener: Listener, notes: list[str]) -> NetworkEvidence:
    listener.step("inspect")
    network = load_network(source.path, source.arch, source.factory, source.ema)
    inspection = inspect_network(network, source.size, listener)
    file = FileEvidence(source.path, sha256, source.path.stat().st_size)
    found = NetworkEvidence(inspection, file)
    if asked.calibration is None:
        return found
    listener.step("look at attention")
    return _seen(found, network, source, asked, listener, notes)


def _seen(
    found: NetworkEvidence, network: Network, source: Source, asked: Asked, listener: Listener, notes: list[str]
) -> NetworkEvidence:
    """With what attention and layers do on the calibration images."""
    assert asked.calibration is not None
    shape = found.inspection.image_shape
    preprocessing = source.preprocessing.over(network.checkpoint.training.preprocessing)
    images = ImageSource(asked.calibration, shape, preprocessing, listener)
    if found.inspection.stages:
        notes.append(f"{found.file.path.name} returns stage outputs, whose attention is not looked at over images")
        return found
    graph = fuse_network(network, Request(size=shape[1:], proof="float32"), listener).graph
    count = min(len(images), _LOOKED_AT)
    if count < len(images):
        notes.append(f"attention and similarity are those of {count} images at random, of {len(images)}")
    listener.expect(count)
    gates = measure_gates(graph, images.drawn(count), listener)
    listener.expect(count)
    costs = freezing_costs(graph, gates, images.drawn(count), listener) if gates else ()
    graphs = [NamedGraph(network.name, graph)]
    if asked.plain is not None:
        plain = load_network(asked.plain, asked.arch if asked.arch and not asked.arch.of_sharing else None)
        graphs.append(
            NamedGraph(plain.name, fuse_network(plain, Request(size=shape[1:], proof="float32"), listener).graph)
        )
    listener.expect(count)
    found = replace(found, gates=gates, costs=costs)
    if count < FEWEST:
        notes.append(f"layers are compared on {FEWEST} images or more, and there are {count}")
        return found
    return replace(found, similarity=layer_similarity(graphs, images.drawn(count), listener))
