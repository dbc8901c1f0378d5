"""Tiny networks whose features lie in one layout each, and the losses written out slowly."""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

CLASSES = 3
CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
MEAN = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


def convolutional(places, width, pool=True):
    """Two stages over signals (1), images (2) or volumes (3)."""
    conv, norm = CONVOLUTION[places], NORM[places]
    stage = lambda a, b: nn.Sequential(conv(a, b, 3, padding=1), norm(b), nn.ReLU())
    return nn.Sequential(
        OrderedDict(
            stem=conv(2, width, 1),
            layer1=stage(width, width),
            pool=MAX_POOL[places](2) if pool else nn.Identity(),
            layer2=stage(width, width),
            mean=MEAN[places](1),
            flat=nn.Flatten(),
            fc=nn.Linear(width, CLASSES),
        )
    )


def rows(width):
    return nn.Sequential(
        OrderedDict(
            layer1=nn.Sequential(nn.Linear(8, width), nn.ReLU()),
            layer2=nn.Sequential(nn.Linear(width, width), nn.ReLU()),
            fc=nn.Linear(width, CLASSES),
        )
    )


class Tokens(nn.Module):
    """Images (B, 2, 8, 8) as 2 x 2 patches behind a class token."""

    def __init__(self, width, positions=False):
        super().__init__()
        self.patch, self.first = nn.Conv2d(2, width, 4, 4), nn.Parameter(torch.zeros(1, 1, width))
        self.where = nn.Parameter(torch.zeros(1, 5, width)) if positions else 0
        block = lambda: nn.TransformerEncoderLayer(
            width, 2, width, 0.0, batch_first=True, norm_first=True
        )
        self.layer1, self.layer2, self.fc = block(), block(), nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patch(x).flatten(2).mT
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.where
        return self.fc(self.layer2(self.layer1(x))[:, 0])


class Last(nn.Module):
    """Images (B, 2, 8, 8) as maps (B, 4, 4, C)."""

    def __init__(self, width):
        super().__init__()
        self.patch = nn.Conv2d(2, width, 2, 2)
        stage = lambda: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
        self.layer1, self.layer2, self.fc = stage(), stage(), nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patch(x).permute(0, 2, 3, 1)
        return self.fc(self.layer2(self.layer1(x)).mean((1, 2)))


def numbers(feature):
    return feature.detach().double().numpy()


def channels_first(kind, feature):
    """What the word at the end of a path promises, in numpy."""
    f = numbers(feature)
    if kind == "tokens":
        return f.transpose(0, 2, 1)
    if kind == "patches":
        return f[:, 1:].reshape(len(f), 2, 2, -1).transpose(0, 3, 1, 2)
    return f.transpose(0, 3, 1, 2) if kind == "last" else f


def unit(v):
    return v / np.linalg.norm(v)


def slow_attention(s, t):
    """(1/B) sum_b || Q_s/|Q_s| - Q_t/|Q_t| ||, Q = sum_c A_c^2 at each place."""
    look = lambda a: unit(
        np.array([sum(a[(c, *at)] ** 2 for c in range(len(a))) for at in np.ndindex(a.shape[1:])])
    )
    return np.mean([np.linalg.norm(look(a) - look(b)) for a, b in zip(s, t)])


def slow_full(s, t):
    return np.mean([np.linalg.norm(unit(a.ravel()) - unit(b.ravel())) for a, b in zip(s, t)])


def slow_hint(s, t, weight, bias):
    """1/2 (1/B) sum_b |t - relu(W s + b)|^2, W the same at every place."""
    guided = np.einsum("oc,bc...->bo...", weight.reshape(weight.shape[:2]), s)
    guided += bias.reshape(-1, *[1] * (s.ndim - 2))
    return 0.5 * ((t - guided) ** 2).sum() / len(s)


def slow_boundaries(s, t, margin=1.0):
    total = 0.0
    for a, b in zip(s.ravel(), t.ravel()):
        total += max(margin - a if b > 0 else margin + a, 0) ** 2
    return total / len(s)


def slow_similarity(s, t):
    def matrix(f):
        f = f.reshape(len(f), -1)
        g = np.array([[np.dot(a, b) for b in f] for a in f])
        return np.array([unit(row) for row in g])

    return ((matrix(s) - matrix(t)) ** 2).mean()


def slow_flow(first, second):
    """G_ij = the mean over places of F1_i F2_j."""
    a, b = (f.reshape(*f.shape[:2], -1) for f in (first, second))
    return np.array([[[np.mean(p * q) for q in y] for p in x] for x, y in zip(a, b)])


def slow_distances(s, t):
    """The mean over pairs of smooth-L1 of distances over their mean."""

    def psi(f):
        f = f.reshape(len(f), -1)
        d = np.array([np.linalg.norm(f[i] - f[j]) for i, j in _pairs(len(f))])
        return d / d.mean()

    d = abs(psi(s) - psi(t))
    return np.where(d < 1, d**2 / 2, d - 0.5).mean()


def _pairs(n):
    return [(i, j) for i in range(n) for j in range(n) if i != j]
