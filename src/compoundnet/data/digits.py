"""scikit-learn's handwritten digits: the data set that is always there."""

from __future__ import annotations

import numpy as np

from compoundnet.data.dataset import Split
from compoundnet.data.holdout import hold_out_by_class
from compoundnet.data.sources import Arrays

# There is no official split; this one is the same for everyone.
_TEST_FRACTION, _SEED = 0.2, 0
# Each pixel counts the ink of a 4 x 4 block, so 16 is full.
_FULL = 16


def digits_splits() -> dict[str, Split]:
    """1,797 grey pictures of 8 x 8 pixels, white on black, in 10 classes."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    pixels = np.rint(loaded.images * (255 / _FULL)).astype(np.uint8)
    whole = Split("train", tuple("0123456789"), loaded.target.astype(np.int64), Arrays("digits", pixels))
    train, test = hold_out_by_class(whole, _TEST_FRACTION, _SEED)
    return {"train": train, "test": test}
