"""What a file takes and returns: normalised images and logits, or, where it prepares and answers by itself, more.

    takes     pixels, uint8 in RGB (or grey), [n, h, w, c] or [n, c, h, w]     x = (pixel/255 − mean) / std
    returns   softmax(logits)                                 probabilities [n, classes]
              its K largest, the likeliest first              probabilities [n, K], classes [n, K]

x is computed in float32 in the order of torchvision's `ToTensor` and `Normalize`, here and in a file: equal bit for
bit. A session takes normalised images whatever its file takes: the pixels that they were made of are found again,
exactly, since a step of a pixel is ten thousand times what float32 rounds. It takes pixels as the file does as well.

Of a file that names K classes, the others have −∞ in what a session returns: that is what is known of them.

Does not apply to resizing and cropping, which are done before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kdna_deploy.errors import ArtifactError, InputError
from kdna_deploy.images.batch import Answers, Images, Shape
from kdna_deploy.images.preprocessing import Preprocessing, from_record
from kdna_deploy.json_schema import Kind, Misfit, boolean, integer, one_of, optional, record

Layout = Literal["nhwc", "nchw"]
Pixels = NDArray[np.uint8]

LAYOUTS: tuple[Layout, ...] = get_args(Layout)
PROBABILITIES, CLASSES = "probabilities", "classes"  # outputs of a file, in this order
KEY = "interface"  # among the options of a provenance
_MOST_CLASSES = 1 << 20


@dataclass(frozen=True)
class Interface:
    """What a file takes and returns.

    Attributes:
        layout: of the pixels that it takes; None where it takes normalised images [n, c, h, w].
        preprocessing: whose mean, deviation and colours it applies to pixels.
        softmax: whether it ends in a softmax that the network has not.
        top: number of classes that it names; None for all outputs.
        classes: of the network, where `top` are named.
    """

    layout: Layout | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    softmax: bool = False
    top: int | None = None
    classes: int | None = None

    @property
    def plain(self) -> bool:
        """Whether it takes normalised images and returns what the network does."""
        return self.layout is None and not self.answers_probabilities

    @property
    def answers_probabilities(self) -> bool:
        """Whether it was made to return them; a network may do so by itself."""
        return self.softmax or self.top is not None

    def to_record(self) -> dict[str, Any]:
        """As it is written into provenance, which has the preprocessing already."""
        return {"layout": self.layout, "softmax": self.softmax, "top": self.top, "classes": self.classes}

    def __str__(self) -> str:
        images = (
            f"{self.colors} pixels, uint8 {_AXES[self.layout]}" if self.layout else "normalised images [n, c, h, w]"
        )
        if not self.answers_probabilities:
            return images
        return f"{images} → " + (
            f"the {self.top} largest probabilities and their classes" if self.top else PROBABILITIES
        )

    @property
    def colors(self) -> str:
        """Of the pixels: those of an image file, whatever order the network takes."""
        return "grey" if self.preprocessing.channels == 1 else "RGB"

    def shape(self, image_shape: Shape) -> tuple[int, int, int]:
        """The axes of an image (c, h, w) as the file has them, the batch's left out."""
        c, h, w = image_shape
        return (h, w, c) if self.layout == "nhwc" else (c, h, w)

    def image_shape(self, taken: tuple[int, int, int]) -> Shape:
        """(c, h, w) of the axes that a file takes: the other way."""
        first, second, last = taken
        return (last, first, second) if self.layout == "nhwc" else taken

    def taken(self, images: NDArray[Any]) -> NDArray[Any]:
        """What a file is fed with for normalised `images` [n, c, h, w], or for pixels as it takes them, which stay."""
        if self.layout is None or images.dtype == np.uint8:
            return images
        return self.laid_out(_pixels(images, self.preprocessing))

    def laid_out(self, pixels: Pixels) -> Pixels:
        """Pixels [..., h, w, c] in the layout of the file."""
        return pixels if self.layout == "nhwc" else np.ascontiguousarray(np.moveaxis(pixels, -1, -3))

    @property
    def outputs(self) -> int:
        """Number of them, where they are not stage outputs."""
        return 1 if self.top is None else 2

    def returned(self, outputs: Sequence[NDArray[Any]]) -> Answers:
        """What a session returns for the `outputs` of a file: these, or [n, classes] of the classes that are named."""
        if self.top is None:
            return tuple(one.astype(np.float32, copy=False) for one in outputs)
        assert self.classes is not None
        named, classes = outputs
        every = np.full((len(named), self.classes), -np.inf, np.float32)
        np.put_along_axis(every, classes.astype(np.int64), named, axis=1)
        return (every,)

    def require_preprocessing(self, used: Preprocessing, name: str) -> None:
        """Refuse images that are prepared otherwise than the file `name` does it: their pixels would not be found.

        Raises:
            InputError: they are.
        """
        own = self.preprocessing
        if self.layout and _normalisation(used) != _normalisation(own):
            raise InputError(
                f"{name} takes pixels and normalises them by itself, with {own}; leave `mean`, `std` and `color` out, "
                "or export it again with others."
            )


PLAIN = Interface()
_AXES = {"nhwc": "[n, h, w, c]", "nchw": "[n, c, h, w]"}
INTERFACE: Kind = record(
    {
        "layout": optional(one_of(*LAYOUTS)),
        "softmax": boolean,
        "top": optional(integer(1, _MOST_CLASSES)),
        "classes": optional(integer(1, _MOST_CLASSES)),
    }
)


def interface_of(options: Mapping[str, Any], preprocessing: Mapping[str, Any], where: str) -> Interface:
    """What the artifact `where` takes and returns, by the `options` and the `preprocessing` of its provenance.

    Raises:
        ArtifactError: they are damaged.
    """
    if KEY not in options:
        return PLAIN
    try:
        found = INTERFACE(options[KEY])
    except Misfit as error:
        raise ArtifactError(f"What '{where}' says that it takes is damaged ({error}); make it again.") from error
    prepared = from_record(preprocessing, where)
    if (found["layout"] and prepared is None) or (found["top"] or 0) > (found["classes"] or 0):
        raise ArtifactError(f"What '{where}' says that it takes is incomplete; make it again.")
    return Interface(preprocessing=prepared or Preprocessing(), **found)


def normalised(pixels: Pixels, preprocessing: Preprocessing) -> Images:
    """uint8 pixels [..., h, w, c] of an image file as a network takes them, float32 [..., c, h, w]."""
    mean, std = (np.asarray(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    values = (pixels[..., ::-1] if preprocessing.color == "BGR" else pixels).astype(np.float32)
    return np.ascontiguousarray(np.moveaxis((values / 255 - mean) / std, -1, -3))


def _pixels(images: Images, preprocessing: Preprocessing) -> Pixels:
    """The other way: of images that were never pixels, the nearest that are."""
    std, mean = (np.asarray(values, np.float32) for values in (preprocessing.std, preprocessing.mean))
    pixels = np.clip(np.rint(255 * (np.moveaxis(images, -3, -1) * std + mean)), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels[..., ::-1] if preprocessing.color == "BGR" else pixels)


def _normalisation(preprocessing: Preprocessing) -> tuple[object, ...]:
    """One value for all channels is that value for each."""
    channels = preprocessing.channels
    mean, std = ((values * channels)[:channels] for values in (preprocessing.mean, preprocessing.std))
    return (*mean, *std, preprocessing.color)
