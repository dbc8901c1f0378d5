"""The embedded default: scikit-learn's 1797 real handwritten digits of 8x8 pixels. Needs no network
and no files.
"""

import torch

from .data import Data
from .split import Split, stratified


def digits(n_test: int = 500, seed: int = 0) -> Data:
    """Real handwritten digits (UCI optical recognition, Alpaydin and Kaynak 1998): x (N, 1, 8, 8)
    uint8, y (N,) 0..9.

    The pixels' 17 grey levels 0..16 become 0..255. n_test: images of the test set, drawn in equal
    shares per class under ``seed``; the other 1797 - n_test train. Raises ``ValueError`` unless 0 <
    n_test < 1797, ``ImportError`` without scikit-learn."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    x = torch.from_numpy((raw.images * (255 / 16)).round()).to(torch.uint8)[:, None]
    y = torch.from_numpy(raw.target).long()
    if not 0 < n_test < len(y):
        raise ValueError(
            f"n_test={n_test}: digits has {len(y)} images, so 1 to {len(y) - 1} of them can be "
            "for testing."
        )
    held = torch.zeros(len(y), dtype=torch.bool)
    held[stratified(Split(x, y), n_test, seed)] = True
    return Data(
        "digits", tuple(map(str, range(10))), Split(x[~held], y[~held]), Split(x[held], y[held])
    )
