"""What is measured, beside what: candidates in groups, each group interleaved with its own baseline.

    group = baseline + every candidate that is compared with it, in one variant (a runtime in a precision)
    or, where the baseline is a runtime (--baseline pytorch), one network on all its runtimes
    or a file alone, where it can have no baseline on this machine

A runtime that is not installed, a precision that it does not have, or a file that cannot be made stays in the plan with
the reason.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdna_deploy.benchmark.baseline import measured_alone, opens_onnx, plain_backbone, plain_identity, written_baseline
from kdna_deploy.benchmark.device import BenchOptions, Candidate, Group, Variant
from kdna_deploy.benchmark.saved import SavedRun
from kdna_deploy.benchmark.subject import Shape, Subject
from kdna_deploy.errors import KdnaError, RuntimeFailure, UsageError
from kdna_deploy.images.interface import Interface
from kdna_deploy.kinds import Kind, named_kind
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.onnx_file import file_bytes
from kdna_deploy.runtimes.own_files import own_file
from kdna_deploy.runtimes.session import run_all
from kdna_deploy.runtimes.table import runtime

# Of a plain backbone: its identity, and whether it is for runtimes that all open the ONNX file that may be written.
_Key = tuple[str, bool]


def plan(models: Sequence[Path], options: BenchOptions, folder: Path, listener: Listener = SILENT) -> tuple[Group, ...]:
    """Groups for a user's `models`; files that must be made for them go into `folder`.

    Raises:
        InputError: a model cannot be opened.
        UsageError: a batch that a model does not take, or no baseline is known.
    """
    files = [options.baseline, *models] if isinstance(options.baseline, Path) else models
    subjects = _subjects(files, options, folder)
    if isinstance(options.baseline, str):
        return _beside_a_runtime(subjects, options, listener)
    if isinstance(options.baseline, SavedRun):
        return _beside_a_saved_run(options.baseline, subjects, options, listener)
    return _beside_a_network(subjects, options, folder, listener)


def candidate(
    subject: Subject, variant: Variant, options: BenchOptions, listener: Listener = SILENT, labelled: bool = False
) -> Candidate:
    """A network in a variant, tried once, so that what cannot run is found before the measuring begins.

    A `labelled` name tells the variant, for a run that has several.

    Raises:
        InputError: the file that the user named cannot run.
    """
    _check_batch(subject, options)
    entry = runtime(variant.runtime, options.device.name)
    labelled = labelled or options.device.labels_all
    found = Candidate(f"{subject.name}, {variant.label}" if labelled else subject.name, subject, variant)
    if entry.missing:
        return replace(found, unavailable=entry.missing)
    if entry.precisions and variant.precision not in entry.precisions:
        return replace(found, unavailable=f"{entry.title} does not compute in {variant.precision}")
    listener.step(f"prepare {found.name}")
    try:
        source = options.device.find(subject, variant, options, listener)
        opener = entry.prepare(source, options.device.how(variant, options))
        with options.device.trying() as cores, opener(cores) as session:
            answers = run_all(session, images_for(subject.image_shape, options.batch, session.interface))
        if entry.precisions and not all(np.isfinite(one).all() for one in answers):
            raise RuntimeFailure(f"{found.name} gives outputs that are not finite; measure it in another precision.")
    except KdnaError as error:
        if variant.runtime == options.device.native(subject):
            raise
        return replace(found, unavailable=str(error))
    return replace(found, source=source, opener=opener, file_bytes=_bytes(source.path))


def _bytes(path: Path) -> int:
    """With those of weights beside it."""
    found = own_file(path, weights=False)
    if found is not None:
        return found.bytes
    return file_bytes(path) if named_kind(path) is Kind.onnx else path.stat().st_size


@functools.lru_cache(maxsize=1)  # a batch of the paper's takes 77 MB
def images_for(shape: Shape, batch: int, interface: Interface) -> NDArray[Any]:
    """Random images, the same for every candidate, as it takes them."""
    return interface.taken(np.random.default_rng(0).standard_normal((batch, *shape), dtype=np.float32))


def plain_of(subject: Subject, plains: dict[_Key, Subject], options: BenchOptions, folder: Path) -> Subject:
    """The plain backbone of `subject`, one for all networks that have the same."""
    key = _key(subject, options)
    if key not in plains:
        place = folder / f"plain-{len(plains)}"
        made = _named(plain_backbone(subject, place), key, plains)
        plains[key] = options.device.made(made, place, options)
    return plains[key]


def _written(subjects: Sequence[Subject], options: BenchOptions, listener: Listener) -> dict[_Key, Subject]:
    """The plain backbones that were written with files of `subjects`: the first of each."""
    found: dict[_Key, Subject] = {}
    for subject in subjects:
        key = _key(subject, options)
        plain = None if key in found else written_baseline(subject, options, listener)
        if plain is not None:
            found[key] = _named(plain, key, found)
    return found


def _key(subject: Subject, options: BenchOptions) -> _Key:
    """Of its plain backbone; that of a file of unknown origin is no one's."""
    identity = plain_identity(subject.provenance) if subject.provenance else ""
    return identity, opens_onnx(subject, options)


def _named(plain: Subject, key: _Key, plains: dict[_Key, Subject]) -> Subject:
    """Another network of that name, of other widths, say, may be among them."""
    identity, _ = key
    taken = {one.name for (other, _), one in plains.items() if other != identity}
    numbered = itertools.chain([plain.name], (f"{plain.name} #{number}" for number in itertools.count(2)))
    return replace(plain, name=next(name for name in numbered if name not in taken))


def _check_batch(subject: Subject, options: BenchOptions) -> None:
    if subject.batch not in (None, options.batch):
        raise UsageError(f"'{subject.name}' takes batches of {subject.batch} alone; add `batch_size={subject.batch}`.")


def _subjects(models: Sequence[Path], options: BenchOptions, folder: Path) -> list[Subject]:
    found: list[Subject] = []
    for number, (path, name) in enumerate(zip(models, subject_names(models), strict=True)):
        subject = options.device.given(path, folder / f"given-{number}", options)
        found.append(replace(subject, name=name))
        _check_batch(found[-1], options)
    return found


def subject_names(models: Sequence[Path]) -> list[str]:
    """What the rows of files are called, one for each."""
    names: list[str] = []
    for path in models:
        names.append(next(name for name in _free_names(path) if name not in names))
    return names


def _free_names(path: Path) -> Iterator[str]:
    """Names to choose from when the same file, or another of the same name, is measured too."""
    yield path.name
    yield str(path)
    yield from (f"{path} #{number}" for number in itertools.count(2))


def _beside_a_network(
    subjects: list[Subject], options: BenchOptions, folder: Path, listener: Listener
) -> tuple[Group, ...]:
    """Groups by baseline and variant, in the order in which the baselines are met first.

    Raises:
        RuntimeFailure: a file could be measured, and what the user named to compare it with could not.
    """
    groups: dict[tuple[str, str], list[Candidate]] = {}
    compared = subjects[1:] if options.baseline is not None else subjects
    plains = _written(compared, options, listener) if options.baseline is None else {}
    several = _several(compared, options)
    for subject in compared:
        if alone := options.baseline is None and measured_alone(subject):
            subject = replace(subject, notes=(*subject.notes, alone))
        baseline = subject if alone else subjects[0] if options.baseline else plain_of(subject, plains, options, folder)
        for variant in options.device.variants(subject, options):
            members = groups.setdefault((baseline.name, variant.label), [])
            if not members:
                members.append(candidate(baseline, variant, options, listener, several))
            if not alone:
                members.append(candidate(subject, variant, options, listener, several))
    if options.baseline is not None:
        _check_baselines([*groups.values()])
    return tuple(Group(tuple(members)) for members in groups.values())


def _check_baselines(groups: Sequence[Sequence[Candidate]]) -> None:
    for baseline, *others in groups:
        if baseline.unavailable and not all(one.unavailable for one in others):
            raise RuntimeFailure(
                f"What to compare with cannot be measured: {baseline.name}: {baseline.unavailable.rstrip('.')}."
            )


def _beside_a_runtime(subjects: list[Subject], options: BenchOptions, listener: Listener) -> tuple[Group, ...]:
    groups = []
    for subject in subjects:
        first = options.device.variants(subject, replace(options, runtimes=(str(options.baseline),)))
        variants = dict.fromkeys((*first, *options.device.variants(subject, options)))
        for precision in dict.fromkeys(variant.precision for variant in variants):
            chosen = [variant for variant in variants if variant.precision == precision]
            groups.append(Group(tuple(candidate(subject, one, options, listener, True) for one in chosen)))
    return tuple(groups)


def _beside_a_saved_run(
    saved: SavedRun, subjects: list[Subject], options: BenchOptions, listener: Listener
) -> tuple[Group, ...]:
    pairs = [(subject, variant) for subject in subjects for variant in options.device.variants(subject, options)]
    several = _several(subjects, options)
    found = tuple(candidate(*pair, options, listener, several) for pair in pairs)
    for one in found:  # refuse now what cannot be compared afterwards
        saved.row(one.subject.name, one.variant.label, one.subject.image_shape)
    return (Group(found, saved),)


def _several(subjects: Sequence[Subject], options: BenchOptions) -> bool:
    return len({variant.label for subject in subjects for variant in options.device.variants(subject, options)}) > 1
