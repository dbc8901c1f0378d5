"""The random numbers of somebody else's loader, kept apart from those of the training."""

import random

import numpy as np
import torch

GLOBAL = torch.random.default_generator


class Chance:
    """Inside ``with``, all that a loader may draw from stands where it stood when ``with`` ended
    last; outside it is as if nothing had been drawn.

    torch's global generator (of the CPU), numpy's and Python's, and generators that are named, are
    seeded when it is entered first. So a pass over a loader depends on the seed alone: not on what
    the network draws between two batches, nor on earlier passes.

    Args:
        seed: Of all of them.
        generators: Further ones, such as a sampler's own.

    Example:
        >>> chance, own = Chance(0), torch.get_rng_state()
        >>> with chance:
        ...     first = torch.rand(1)
        >>> torch.equal(torch.get_rng_state(), own)
        True
        >>> with Chance(0):
        ...     torch.equal(torch.rand(1), first)
        True
    """

    def __init__(self, seed: int, generators: tuple[torch.Generator, ...] = ()):
        self._seed, self._generators = seed, (GLOBAL, *generators)
        self._inside: tuple | None = None
        self._outside: tuple = ()

    def __enter__(self) -> "Chance":
        self._outside = self._states()
        if self._inside is not None:
            self._set(self._inside)
        else:
            for i, generator in enumerate(self._generators):
                generator.manual_seed(self._seed + i)
            np.random.seed(self._seed % 2**32)
            random.seed(self._seed)
        return self

    def __exit__(self, *_) -> None:
        self._inside = self._states()
        self._set(self._outside)

    def _states(self) -> tuple:
        own = [g.get_state() for g in self._generators]
        return own, np.random.get_state(), random.getstate()

    def _set(self, states: tuple) -> None:
        own, numpys, pythons = states
        for generator, state in zip(self._generators, own):
            generator.set_state(state)
        np.random.set_state(numpys)
        random.setstate(pythons)
