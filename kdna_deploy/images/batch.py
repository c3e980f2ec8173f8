"""The array that goes through the whole package: normalised images in, logits out; and the shape of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# [n, c, h, w] on the way in; what a network answers, mostly [n, classes], on the way out.
Images = NDArray[np.float32]
# Of several outputs, as of the stages of a backbone: a map [n, c, h, w] each.
Answers = tuple[Images, ...]
Shape = tuple[int, int, int]  # (c, h, w) of an image
