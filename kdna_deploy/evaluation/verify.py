"""Verification of files: which reference, which images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kdna_deploy.errors import ArtifactError
from kdna_deploy.evaluation.agreement import Agreement
from kdna_deploy.evaluation.compare import compare
from kdna_deploy.evaluation.engine_tolerance import engine_tolerance
from kdna_deploy.evaluation.tolerance import FLOAT32, HALF, Tolerance, recorded_tolerance
from kdna_deploy.extras import require_converter
from kdna_deploy.files import atomic_output
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.images.batch import Images, Shape
from kdna_deploy.images.folder import ImageSource
from kdna_deploy.images.preprocessing import Preprocessing, from_record
from kdna_deploy.images.probes import GIVEN, Probe, standard_probes
from kdna_deploy.kinds import Kind, named_kind
from kdna_deploy.network.configuration import Configuration, configured
from kdna_deploy.network.input_size import DEFAULT_SIZE, InputSize
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.nvidia.engine_record import read_record
from kdna_deploy.runtimes.open import open_session, read_provenance, recorded_provenance
from kdna_deploy.runtimes.session import Session, stage_names

if TYPE_CHECKING:
    from kdna_deploy.network.load import Network

_DEFAULT_SHAPE = (3, *DEFAULT_SIZE)


@dataclass(frozen=True)
class FileVerification:
    """Agreement of two files, a row a probe.

    Attributes:
        worst_image: [1, c, h, w], the one that uses most of what is allowed.
        notes: what a user should know, a sentence each.
    """

    candidate: str
    reference: str
    agreements: tuple[Agreement, ...]
    worst_image: Images | None = None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return all(agreement.passed for agreement in self.agreements)


def verify_files(
    candidate: Path,
    against: Path | None,
    inputs: Path | None,
    rtol: float | None = None,
    atol: float = 0.0,
    size: tuple[int, int] | None = None,
    factory: str | None = None,
    arch: Configuration | str | None = None,
    ema: bool = False,
    original: Network | None = None,
    listener: Listener = SILENT,
) -> FileVerification:
    """Compare the artifact `candidate` with `against`, by default `original`, or the checkpoint that it was made from.

    Without `rtol`, the tolerance and the rounding are those of the precision that the files say they are in; with it,
    the rounding is that of float32. `atol` is added.
    Compared on probes of every kind (`probes`), and on the images of `inputs` (a folder, ``.npy`` or ``.npz``).

    Raises:
        InputError: a file cannot be loaded, or the two do not take the same images.
    """
    listener.step("open")
    with open_session(candidate, factory, arch, ema) as session:
        listener.step("open the reference")
        if against:
            opened = open_session(against, factory, arch if factory else _returning(session, arch), ema)
        else:
            opened = _as_trained(candidate, original, factory)
        with opened as reference:
            made = _recorded(candidate)
            known = session.image_shape or reference.image_shape or (made.image_shape if made else None)
            shape = _sized(known or _DEFAULT_SHAPE, size)
            usual = max((usual_tolerance(path) for path in (candidate, against) if path), key=lambda one: one.roundoff)
            # Who asks for another share than that of a format does not mean that format's rounding either.
            asked = {} if rtol is None else {"rtol": rtol, "roundoff": FLOAT32.roundoff}
            tolerance = replace(usual, atol=atol, **asked)
            batch = session.batch or reference.batch
            interface = session.interface if session.interface.layout else reference.interface
            for one in (session, reference):
                one.interface.require_preprocessing(interface.preprocessing, one.name)
            any_size = made is not None and made.any_size and size is None
            random = standard_probes(shape, batch, usual.roundoff < HALF.roundoff, interface, any_size)

            def probes(listener: Listener = SILENT) -> Iterable[Probe]:
                prepared = interface.preprocessing if interface.layout else _preprocessing(made, candidate)
                given = _from_disk(inputs, shape, batch, prepared, listener) if inputs else ()
                return chain(random, given)

            listener.step("compare")
            notes = () if size or known else InputSize(DEFAULT_SIZE, "assumed").notes
            agreements = compare(session, reference, probes(listener), tolerance)
            return FileVerification(session.name, reference.name, agreements, _worst_image(agreements, probes()), notes)


def _as_trained(candidate: Path, original: Network | None, factory: str | None) -> Session:
    """What `candidate` was made from: `original`, or the network in its checkpoint."""
    if original is None:
        made = read_provenance(candidate)
        what = f"Comparing '{candidate}' with the checkpoint that it was made from"
        require_converter(what, "name a file to compare with by `against`")
        from kdna_deploy.graph.origin import original_network

        original = original_network(made, candidate, None, factory)
    from kdna_deploy.runtimes.pytorch import TorchSession

    return TorchSession(original.module, original.checkpoint.path.name or original.name)


def _returning(session: Session, said: Configuration | str | None) -> Configuration | str | None:
    """`said`, with the stage outputs that `session` returns where nothing was said of outputs."""
    stages, told = stage_names(session), configured(said)
    return replace(told, outputs=stages) if stages and told.outputs is None else said


def _worst_image(agreements: tuple[Agreement, ...], probes: Iterable[Probe]) -> Images:
    """The image that uses most of what is allowed; agreements come probe by probe, of each one a stage output."""
    row = max(range(len(agreements)), key=lambda i: agreements[i].used)
    probe = next(islice(probes, row // len({agreement.stage for agreement in agreements}), None))
    return probe.images[agreements[row].image : agreements[row].image + 1]


def save_image(image: Images, path: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Write `image` [1, c, h, w] as a ``.npy`` file, all or nothing."""
    with atomic_output(path, inputs, "save_worst") as temporary, temporary.open("wb") as stream:
        np.save(stream, image)


def usual_tolerance(path: Path) -> Tolerance:
    """What an artifact of its precision is held to."""
    if named_kind(path) is Kind.engine:
        return engine_tolerance(read_record(path))
    try:
        return recorded_tolerance(read_provenance(path).options)
    except ArtifactError:
        return FLOAT32


def _sized(shape: Shape, size: tuple[int, int] | None) -> Shape:
    c, h, w = shape
    return (c, *(size or (h, w)))


def _preprocessing(made: Provenance | None, candidate: Path) -> Preprocessing:
    """As the artifact records it, so that it is compared on what it was made for; else ImageNet's."""
    recorded = from_record(made.preprocessing, str(candidate)) if made else None
    return recorded or Preprocessing()


def _recorded(candidate: Path) -> Provenance | None:
    try:
        return recorded_provenance(candidate)
    except ArtifactError:
        return None


def _from_disk(
    path: Path,
    shape: tuple[int, int, int],
    batch: int | None,
    preprocessing: Preprocessing,
    listener: Listener,
) -> Iterator[Probe]:
    source = ImageSource(path, shape, preprocessing, listener)
    return (Probe(GIVEN, images) for images in source.batches(batch))
