"""The embedded default: scikit-learn's 1797 real handwritten digits of 8x8 pixels. Needs no network
and no files.
"""

import torch

from .data import Data
from .split import Split, stratified


def digits(n_test: int = 500, seed: int = 0) -> Data:
    """Real handwritten digits, 1797 images of 8x8 pixels.

    The pixels' 17 grey levels 0..16 become 0..255.

    Args:
        n_test: Images of the test set, 1 to 1796, in equal shares per class; the others train.
        seed: Decides which.

    Returns:
        x (N, 1, 8, 8) uint8, y (N,) 0..9.

    Raises:
        ValueError: Unless 0 < n_test < 1797.
        ImportError: Without scikit-learn.

    Source:
        Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998).

    Example:
        >>> digits().train.x.shape
        torch.Size([1297, 1, 8, 8])
    """
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
