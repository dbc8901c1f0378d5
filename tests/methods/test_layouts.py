"""Every method over every layout of features: the formula's own value, or one refusal that names
the layout. Rows, signals, maps, volumes, tokens and maps with their channels last.
"""

import numpy as np
import pytest
import torch
from layouts import (
    Last,
    Tokens,
    channels_first,
    convolutional,
    numbers,
    rows,
    slow_attention,
    slow_boundaries,
    slow_distances,
    slow_flow,
    slow_full,
    slow_hint,
    slow_similarity,
)
from torch import nn

from kdtutor import fit
from kdtutor.datasets import Batch, Data, Split
from kdtutor.methods import (
    CRD,
    FSP,
    ONE,
    RKD,
    ActivationBoundary,
    AttentionTransfer,
    FitNet,
    FullActivationTransfer,
    GradientAttentionTransfer,
    Hinton,
    JacobianMatching,
    SimilarityPreserving,
)
from kdtutor.taps import Taps

# layout: its network, the shape of an input, the word at the end of a path
LAYOUTS = {
    "rows": (rows, (8,), ""),
    "signals": (lambda w: convolutional(1, w), (2, 8), ""),
    "maps": (lambda w: convolutional(2, w), (2, 8, 8), ""),
    "volumes": (lambda w: convolutional(3, w), (2, 4, 4, 4), ""),
    "bare tokens": (Tokens, (2, 8, 8), ""),
    "tokens": (Tokens, (2, 8, 8), ":tokens"),
    "patches": (Tokens, (2, 8, 8), ":patches=2x2+1"),
    "bare last": (Last, (2, 8, 8), ""),
    "last": (Last, (2, 8, 8), ":channels_last"),
}
LAYERS = {  # what each method is given, of layer1 and layer2
    "AT": (AttentionTransfer, slice(0, 2), {"at_weight": 2.0}),
    "F-ActT": (FullActivationTransfer, slice(0, 2), {"at_weight": 2.0}),
    "FitNet": (FitNet, slice(1, 2), {"hint_lr": 1e-3}),
    "AB": (ActivationBoundary, slice(0, 2), {"ab_weight": 1.0}),
    "Jacobian": (JacobianMatching, slice(1, 2), {"at_weight": 2.0}),
    "FSP": (FSP, slice(0, 2), {}),
    "SP": (SimilarityPreserving, slice(1, 2), {"sp_weight": 1.0}),
    "RKD": (RKD, slice(1, 2), {"distance_weight": 1.0, "angle_weight": 1.0}),
    "CRD": (CRD, slice(1, 2), {"negatives": 4, "dimensions": 4}),
}
ANY_ROWS = ("SP", "RKD", "CRD")  # all numbers of an example are one row
REFUSED = {  # (layout, methods): what the error must say
    "rows": (("AT", "F-ActT", "Jacobian", "FSP"), r"a row \(B, D\).*signals.*maps"),
    "bare tokens": (set(LAYERS) - set(ANY_ROWS), r"tokens.*'layer\d:tokens'.*patches="),
    "bare last": (set(LAYERS) - set(ANY_ROWS), r"height.*'layer\d:channels_last'"),
}
CELLS = [(m, k) for m in LAYERS for k in LAYOUTS]


def inputs(layout, n=6, seed=0):
    return torch.randn(n, *LAYOUTS[layout][1], generator=torch.Generator().manual_seed(seed))


def network(layout, seed, width=4, make=None):
    torch.manual_seed(seed)
    return (make or LAYOUTS[layout][0])(width)


def built(method, layout, width=4, **settings):
    cls, which, more = LAYERS[method]
    layers = [p + LAYOUTS[layout][2] for p in ("layer1", "layer2")][which]
    nets = network(layout, 1, width), network(layout, 2)
    return cls(*nets, layers=layers, example=inputs(layout, 2), **more | settings)


def refusal(method, layout):
    methods, words = REFUSED.get(layout, ((), ""))
    return words if method in methods else None


def data(layout):
    x = inputs(layout, 18)
    y = torch.arange(18) % 3
    x = x + y.reshape(-1, *[1] * (x.ndim - 1))  # something to learn
    return Data("layout", ("a", "b", "c"), Split(x, y), None)


@pytest.mark.parametrize("method, layout", CELLS)
def test_a_layout_is_trained_or_refused_by_its_name(method, layout):
    words = refusal(method, layout)
    if words:
        with pytest.raises(ValueError, match=f"(?s){words}"):
            built(method, layout)
        return
    distiller = built(method, layout, **({} if method == "FSP" else {"width": 6}))
    history = fit(
        distiller, data(layout), 2, batch_size=6, lr=0.01, validation=0, test=False, progress=False
    )
    assert history.status == "finished"
    assert all(np.isfinite(v) for row in history.rows for k, v in row.items() if k == "loss")


def features(distiller, layout, x):
    """[(student, teacher)] of layer1 and layer2, channels first, read by plain hooks."""
    kind = {":tokens": "tokens", ":patches=2x2+1": "patches", ":channels_last": "last"}
    read = []
    for net in (distiller.student, distiller.teacher.net):
        kept = {}
        hooks = [
            net.get_submodule(p).register_forward_hook(
                lambda m, a, out, p=p, kept=kept: kept.__setitem__(p, out)
            )
            for p in ("layer1", "layer2")
        ]
        with torch.no_grad():
            net.eval()(x)
        for hook in hooks:
            hook.remove()
        word = kind.get(LAYOUTS[layout][2], "")
        read.append([channels_first(word, kept[p]) for p in ("layer1", "layer2")])
    return list(zip(*read))


def reference(method, distiller, pairs):
    """{term: value} by the formula, slowly."""
    if method == "AT":
        return {"at": sum(slow_attention(s, t) for s, t in pairs)}
    if method == "F-ActT":
        return {"full": sum(slow_full(s, t) for s, t in pairs)}
    if method == "FitNet":
        step, *_ = distiller.regressor
        return {"hint": slow_hint(*pairs[1], numbers(step.weight), numbers(step.bias))}
    if method == "AB":
        return {"ab": slow_boundaries(*pairs[0]) / 2 + slow_boundaries(*pairs[1])}
    if method == "SP":
        return {"sp": slow_similarity(*pairs[1])}
    if method == "RKD":
        return {"distance": slow_distances(*pairs[1])}
    (s1, t1), (s2, t2) = pairs
    return {"fsp": ((slow_flow(s1, s2) - slow_flow(t1, t2)) ** 2).sum() / len(s1)}


ONE_SIZE = {  # FSP's chain: no pooling between its layers
    k: (lambda w, d=d: convolutional(d, w, pool=False))
    for d, k in enumerate(("signals", "maps", "volumes"), 1)
}
VALUES = [(m, k) for m, k in CELLS if not refusal(m, k) and m not in ("CRD", "Jacobian")]


@pytest.mark.parametrize("method, layout", VALUES)
def test_the_value_is_the_formula_s(method, layout, monkeypatch):
    if method == "FSP" and layout in ONE_SIZE:
        monkeypatch.setitem(LAYOUTS, layout, (ONE_SIZE[layout], *LAYOUTS[layout][1:]))
    distiller = built(method, layout).eval()
    if method == "FitNet":  # the value without the hint's own non-linearity
        distiller.regressor = nn.Sequential(distiller.regressor[0])
    x = inputs(layout, seed=3)
    some = Batch(x, torch.arange(6) % 3, torch.arange(6))
    want = reference(method, distiller, features(distiller, layout, x))
    early = {"FitNet": "hint_terms", "AB": "boundary_terms", "FSP": "flow_terms"}
    terms = getattr(distiller, early.get(method, "terms"))(some)
    for name, value in want.items():
        assert terms[name].item() == pytest.approx(value, rel=2e-4) and value > 1e-4


def test_a_hint_s_own_non_linearity_is_found_in_a_layer_that_is_turned():
    pair = ("layer2", "layer2:channels_last")
    distiller = FitNet(network("maps", 1), network("last", 2), pair, example=inputs("maps"))
    assert isinstance(distiller.regressor[-1], nn.GELU)


@pytest.mark.parametrize("layout", ["signals", "maps", "volumes", "tokens", "patches", "last"])
def test_a_jacobian_is_that_of_the_strongest_place(layout):
    distiller, x = built("Jacobian", layout).eval(), inputs(layout, seed=3)
    path = "layer2" + LAYOUTS[layout][2]
    j = []
    for net in (distiller.student, distiller.teacher.net):
        given = x.clone().requires_grad_()
        strongest = Taps(net, [path])(given)[1][path].square().sum(1).flatten(1).max(1).values
        made = torch.autograd.grad(strongest.sum(), given)[0]
        j.append(np.array([v / np.linalg.norm(v) for v in numbers(made.flatten(1))]))
    terms = distiller.terms(Batch(x, torch.arange(6) % 3))
    want = ((j[0] - j[1]) ** 2).sum(1).mean()
    assert terms["jacobian"].item() == pytest.approx(want, rel=1e-3) and want > 1e-3
    terms["jacobian"].backward()  # differentiates what was differentiated
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in distiller.parameters())


@pytest.mark.parametrize("layout", ["rows", "signals", "maps", "volumes", "tokens", "last"])
@pytest.mark.parametrize("method", ["AT-gradient", "Jacobian, code", "Hinton", "ONE"])
def test_methods_without_features_take_any_inputs(method, layout):
    student, teacher, example = network(layout, 1, 6), network(layout, 2), inputs(layout, 2)
    distiller = {
        "AT-gradient": lambda: GradientAttentionTransfer(student, teacher, example=example),
        "Jacobian, code": lambda: JacobianMatching(
            student, teacher, variant="code", example=example
        ),
        "Hinton": lambda: Hinton(student, teacher),
        "ONE": lambda: ONE(student, 2, split="layer1", example=example),
    }[method]()
    history = fit(
        distiller, data(layout), 2, batch_size=6, lr=0.01, validation=0, test=False, progress=False
    )
    assert history.status == "finished"
