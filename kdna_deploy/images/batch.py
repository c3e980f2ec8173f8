"""The array that goes through the whole package: normalised images in, logits out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# [n, c, h, w] on the way in; what a network answers, mostly [n, classes], on the way out.
Images = NDArray[np.float32]
