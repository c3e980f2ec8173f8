"""One self-contained page of a network and its files, and its figures for a paper."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.errors import RuntimeFailure, UsageError
from kdna_deploy.extras import require_converter
from kdna_deploy.files import atomic_output, check_open, check_output
from kdna_deploy.input_files import Kind, check_input
from kdna_deploy.network.configuration import Words, configured
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.verbs.arguments import Numbers, PathLike, Size, image_size, newest, optional_path
from kdna_deploy.verbs.evaluate import check_labelled_images
from kdna_deploy.verbs.image_words import ImageWords
from kdna_deploy.verbs.report_inputs import check_used, told_apart
from kdna_deploy.verbs.result import Result
from kdna_deploy.verbs.source import file_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from kdna_deploy.evaluation.evaluate import DataRequest
    from kdna_deploy.reports.page.sections import LeftOut, Section
    from kdna_deploy.reports.report import Report
    from kdna_deploy.verbs.source import Files

OUTPUT = "report.html"


@dataclass(frozen=True, repr=False)
class Page(Result):
    """A page that was written.

    Attributes:
        path: where.
        sections: what is on it.
        left_out: what is not, and what brings it.
        figures: files that the figures were written to as well.
        notes: what a user should know, a sentence each.
    """

    path: Path
    sections: tuple[Section, ...]
    left_out: tuple[LeftOut, ...]
    figures: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.page.written import page_report

        return page_report(self.path, self.sections, self.left_out, self.figures, self.notes)

    def _repr_html_(self) -> str:
        """The page itself, in a frame that may run its own script and nothing else."""
        page = escape(self.path.read_text(encoding="utf-8"))
        return (
            f'<iframe sandbox="allow-scripts" title="{escape(self.path.name)}" srcdoc="{page}" '
            'style="width:100%;height:40rem;border:1px solid #888"></iframe>'
        )


def report(
    *inputs: Files,
    output: PathLike = OUTPUT,
    figures: PathLike | None = None,
    calibration: PathLike | None = None,
    data: PathLike | None = None,
    ground_truth: PathLike | None = None,
    synsets: PathLike | None = None,
    limit: int | None = None,
    seed: int | None = None,
    plain: PathLike | None = None,
    bench: bool = True,
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
) -> Page:
    """Write one HTML page of all that is known of `inputs`: it needs no network, and may be sent or printed.

    Args:
        inputs: checkpoints, ``.onnx``, ``.xml``, ``.pt2``, ``.engine``, what `fuse` or `export` wrote, and what `bench`
            or `sweep` saved as ``.json``, in any number. The newest ``.onnx`` in the current folder by default.
        output: the page.
        figures: folder for each figure as PDF, SVG and PNG, of one and of two columns' width.
        calibration: folder of images, ``.npy`` or ``.npz``: what attention and layers do on them.
        data: labelled images, as for `evaluate`: accuracy of every network and file.
        ground_truth, synsets, limit, seed: of these, as for `evaluate`.
        plain: checkpoint of a plain network, whose layers are put beside.
        bench: measure files shortly, beside the plain backbone.
        mean, std, resize, crop, color: how image files become input; as the files record, else ImageNet's.
        arch, model, ema, architecture: how to load a checkpoint, see `load`.
        input_size: of the images; as the checkpoint records, else 224.

    Raises:
        UsageError: what was said makes no sense.
        InputError: a file cannot be loaded.
        RuntimeFailure: matplotlib, Jinja2 or PyTorch is not installed.
    """
    _require_extra()
    size, said = image_size(input_size), configured(arch, architecture)
    words = ImageWords(optional_path(calibration), mean, std, resize, crop, color)
    words.check()
    beside, labelled = optional_path(plain), optional_path(data)
    if beside is not None:
        check_input(beside, (Kind.checkpoint,), "`plain`")
        if words.path is None:
            raise UsageError("`plain` is put beside on images; give some with `calibration`.")
    if labelled is None:
        words.check_read(words.path, instead="name a folder of them with `calibration`, or labelled ones with `data`")
    table, ids = optional_path(ground_truth), optional_path(synsets)
    _check_data(labelled, table, ids, limit, seed)
    given = tuple(file_of(one, "report") for one in inputs) or (_newest(listener),)
    found = told_apart(given)
    loading = {"arch": arch, "model": model, "ema": ema or None, "input_size": input_size, **architecture}
    check_used(found, {"calibration": words.path, "data": labelled, "plain": beside, **loading})
    target, folder = Path(output), optional_path(figures)
    read = (*given, *(one for one in (words.path, labelled, beside, table, ids) if one is not None))
    check_output(target, read)
    _check_folder(folder)
    require_converter("Writing a page")
    listener.step("inspect")
    from kdna_deploy.figures.drawing import save
    from kdna_deploy.reports.page.drawings import drawings_of
    from kdna_deploy.reports.page.render import rendered
    from kdna_deploy.reports.page.sections import sections
    from kdna_deploy.reports.page.summary import title_of
    from kdna_deploy.verbs.report_asked import Asked
    from kdna_deploy.verbs.report_gathering import gather

    images = None if labelled is None else _images(labelled, table, ids, limit, seed)
    asked = Asked(words.path, images, beside, bench, words.asked(), size, said, model, ema)
    evidence = gather(found, asked, listener)
    listener.step("draw")
    drawn = drawings_of(evidence)
    shown, left_out = sections(evidence, drawn)
    page = rendered(title_of(evidence), shown, left_out)
    several = [drawing for own in drawn.values() for drawing in own]
    with atomic_output(target, read) as temporary:
        temporary.write_bytes(page)
        kept = save(several, folder, listener) if folder is not None else []
    return Page(target, shown, left_out, tuple(kept), evidence.notes)


def _require_extra() -> None:
    missing = [name for name, module in (("matplotlib", "matplotlib"), ("Jinja2", "jinja2")) if not _there(module)]
    if missing:
        is_not = "are not" if len(missing) > 1 else "is not"
        raise RuntimeFailure(
            f"The page is made with matplotlib and Jinja2, and {' and '.join(missing)} {is_not} installed; "
            "run: pip install 'kdna-deploy[report]'."
        )


def _there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _check_data(
    data: Path | None, ground_truth: Path | None, synsets: Path | None, limit: int | None, seed: int | None
) -> None:
    if data is not None:
        check_labelled_images(data, ground_truth, synsets, limit, seed)
    elif (ground_truth, synsets, limit, seed) != (None, None, None, None):
        raise UsageError(
            "`ground_truth`, `synsets`, `limit` and `seed` are about labelled images; give these with `data`."
        )


def _images(
    data: Path, ground_truth: Path | None, synsets: Path | None, limit: int | None, seed: int | None
) -> DataRequest:
    from kdna_deploy.evaluation.evaluate import DataRequest

    return DataRequest(data, ground_truth, synsets, limit, seed or 0)


def _newest(listener: Listener) -> Path:
    found = newest("*.onnx", "`export(onnx=True)`")
    listener.note(f"using {found}, the newest ONNX file here")
    return found


def _check_folder(folder: Path | None) -> None:
    """Told before anything is computed; it is made when there is something to write."""
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"`figures` '{folder}' is a file; name a folder.")
    if not folder.is_dir() and not folder.parent.is_dir():
        raise UsageError(f"There is no folder '{folder.parent}' to make `figures` in; make it, or choose another.")
    check_open(folder / "figure" if folder.is_dir() else folder, "figures")
