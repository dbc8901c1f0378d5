"""Anything that somebody may hand to a public function, and what may come of it: a result, or an
error that we raised."""

import copy
import inspect
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import kdtutor
from kdtutor.datasets import Data, Split
from kdtutor.models import mlp

OURS = Path(kdtutor.__file__).parent
TYPES = (
    *[torch.float32] * 8,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int64,
    torch.uint8,
    torch.int32,
    torch.bool,
    torch.complex64,
)
ODD = (
    None,
    "paper",
    "",
    0,
    1,
    -1,
    2.5,
    True,
    float("nan"),
    float("inf"),
    [],
    (),
    {},
    [1.0, 2.0],
    [[0.1, 0.9], [0.5, 0.5]],
    {"x": torch.ones(2, 3)},
    torch.tensor(3.0),
    torch.empty(0),
    torch.empty(2, 0),
    np.ones((2, 3)),
    np.ones((2, 3), dtype=np.float32),
    np.array([0, 1]),
    np.array(["cat", "dog"]),
    object(),
)


@st.composite
def tensors(draw, shape: tuple[int, ...]) -> Tensor:
    """Mostly of this shape, mostly float32, sometimes with values that are none."""
    if not draw(st.integers(0, 5)):
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=5)))
    kind = draw(st.sampled_from(TYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9)))
    scale = draw(st.sampled_from((1.0, 1.0, 1.0, 0.0, 1e4, 1e30)))
    made = scale * torch.randn(shape, generator=generator)
    if kind in (torch.int64, torch.uint8, torch.int32):
        made = torch.randint(-1 if kind != torch.uint8 else 0, 4, shape, generator=generator)
    made = made.to(kind)
    if made.is_floating_point() and made.numel() and not draw(st.integers(0, 15)):
        made.view(-1)[0] = draw(st.sampled_from((float("nan"), float("inf"), -float("inf"))))
    return made


def small_net() -> nn.Module:
    return mlp([4], inputs=6, classes=3)


def small_data() -> Data:
    x = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    part = Split(x, torch.arange(6) % 3)
    return Data("small", 3, part, part)


@st.composite
def arguments(draw, function, fitting: dict | None = None) -> dict:
    """Arguments by name: tensors of one shape, defaults as they are, now and then anything.

    fitting: makers of what an argument of a name expects, mostly taken.
    """
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=5)))
    given = {}
    for name, p in inspect.signature(function).parameters.items():
        kind, free = str(p.annotation), p.default is not p.empty
        if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL, p.POSITIONAL_ONLY):
            continue
        if name == "progress":
            given[name] = False
        elif not draw(st.integers(0, 9)):
            given[name] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif fitting and name in fitting and draw(st.integers(0, 7)):
            given[name] = fitting[name]()
        elif name in ("y", "labels", "index"):
            y = torch.randint(0, 3, shape[:1], generator=torch.Generator().manual_seed(0))
            given[name] = y if draw(st.integers(0, 3)) else draw(tensors(shape))
        elif "Sequence[Tensor]" in kind:
            given[name] = [draw(tensors(shape)) for _ in range(draw(st.integers(0, 3)))]
        elif "Tensor" in kind and not free:
            given[name] = draw(tensors(shape))
        elif free and draw(st.integers(0, 3)):
            continue
        elif "int" in kind:
            given[name] = draw(st.integers(-2, 6))
        elif "float" in kind:
            given[name] = draw(st.sampled_from((0.0, -1.0, 0.5, 1.0, 4.0, 1e4, float("inf"))))
        elif "str" in kind:
            given[name] = draw(st.sampled_from(("paper", "code", "sum", "mean", "fc1", "")))
        elif not free:
            given[name] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return given


def outcome(call) -> str:
    """ "result" or "error"; raises ``AssertionError`` for an error that we did not raise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except (ValueError, TypeError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = Path(last.filename).is_relative_to(OURS) and "raise" in (last.line or "")
        assert ours, f"{type(error).__name__} of {last.filename}:{last.lineno}: {error}"
        assert len(str(error)) > 20, f"says nothing: {error}"
        return "error"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise AssertionError(
            f"{type(error).__name__} of {last.filename}:{last.lineno}: {error}"
        ) from error
    return "result"
