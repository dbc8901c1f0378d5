"""Wrong and right answers to the assignment born_again."""

import copy

import torch
import torch.nn.functional as F

from kdtutor.methods.self_distillation.born_again import (
    cwtm_loss,
    cwtm_weights,
    dkpp_loss,
    permute_dark_knowledge,
)
from kdtutor.softening import soften

LIBRARY = {
    # the library's generations() yields plans to be fitted; here the loop itself is written
    "my_generations": None,
    "my_cwtm_weights": cwtm_weights,
    "my_cwtm_loss": cwtm_loss,
    "my_permute_dark_knowledge": permute_dark_knowledge,
    "my_dkpp_loss": dkpp_loss,
}


def generations(
    teacher_of=lambda nets: nets[-1],
    more=1,
    pick=lambda nets: nets,
    new=lambda make, nets: make(),
    fits=1,
):
    """A chain, right by default, with a switch for each mistake."""

    def chain(make, count, fit):
        nets = []
        for _ in range(count + more):
            student = new(make, nets)
            for _ in range(fits):
                fit(student, teacher_of(nets) if nets else None)
            nets.append(student)
        return pick(nets)

    return chain


def recursive(make, count, fit):
    nets = recursive(make, count - 1, fit) if count else []
    student = make()
    fit(student, nets[-1] if nets else None)
    return [*nets, student]


def made_first(make, count, fit):
    nets = [make() for _ in range(count + 1)]
    for net, teacher in zip(nets[::-1], [*nets[-2::-1], None]):
        fit(net, teacher)
    return nets


def keeps_what_fit_returns(make, count, fit):
    nets, teacher = [], None
    for _ in range(count + 1):
        student = make()
        teacher = fit(student, teacher)
        nets.append(student)
    return nets


def own_teacher(make, count, fit):
    nets = []
    for _ in range(count + 1):
        student = make()
        nets.append(student)
        fit(student, nets[-1] if len(nets) > 1 else None)
    return nets


def teacher_in_front(make, count, fit):
    nets, teacher = [], None
    for _ in range(count + 1):
        student = make()
        fit(*((student, None) if teacher is None else (teacher, student)))
        nets.append(student)
        teacher = student
    return nets


def cwtm(
    weights=lambda s, t, y: cwtm_weights(t),
    target=lambda s, t, y: y,
    detach=True,
    total=torch.sum,
    log=True,
):
    """CWTM's loss, right by default, with a switch for each mistake."""

    def loss(s, t, y):
        t = t.detach() if detach else t
        w = soften(t).amax(1) / soften(t).amax(1).sum() if not detach else weights(s, t, y)
        goal = target(s, t, y)
        each = (
            F.cross_entropy(s, goal, reduction="none")
            if log
            else -s.softmax(1).log()[range(len(s)), goal]
        )
        return total(w * each)

    return loss


def cwtm_by_loop(s, t, y):
    confidence = [row.detach().softmax(0).max() for row in t]
    return sum(
        c / sum(confidence) * -row.log_softmax(0)[label] for c, row, label in zip(confidence, s, y)
    )


def of_label(s, t, y):
    p = soften(t)[range(len(y)), y]
    return p / p.sum()


def shuffle(
    order=lambda keys: keys.argsort(),
    all_rows=False,
    backwards=False,
    draw=None,
    use_keys=True,
    top=True,
    source=None,
):
    """The shuffle, right by default, with a switch for each mistake."""

    def permute(p, generator=None, keys=None):
        if keys is None or not use_keys:
            keys = torch.rand(p.shape, generator=generator) if draw is None else draw(p, generator)
        out = p.clone()
        for b, row in enumerate(p):
            others = torch.tensor([i for i in range(len(row)) if i != row.argmax() or not top])
            k = keys[0 if all_rows else b, others]
            to, of = others, others[order(row[others] if source else k)]
            out[b, of if backwards else to] = row[to if backwards else of]
        return out

    return permute


def by_randperm(p, generator=None, keys=None):
    """With keys as always; without them another right way to draw."""
    if keys is None:
        keys = (
            torch.stack([torch.randperm(p.shape[1], generator=generator) for _ in p]) / p.shape[1]
        )
    return permute_dark_knowledge(p, keys=keys)


def one_class_for_all(p, generator=None, keys=None):
    keys, out = torch.rand(p.shape, generator=generator) if keys is None else keys, p.clone()
    others = torch.tensor([i for i in range(p.shape[1]) if i != p[0].argmax()])
    out[:, others] = p.gather(1, others[keys[:, others].argsort(1)])
    return out


def in_place(p, generator=None, keys=None):
    p.copy_(permute_dark_knowledge(p, generator, keys))
    return p


def rotated(p, generator=None, keys=None):
    return (
        permute_dark_knowledge(p, generator, keys)
        if keys is not None
        else shuffle(
            order=lambda k: torch.arange(len(k)).roll(
                int(torch.randint(len(k), (1,), generator=generator))
            )
        )(p)
    )


def dkpp(
    targets=lambda t, g, k: permute_dark_knowledge(soften(t), g, k),
    detach=True,
    student=lambda s, g, k: s,
    total=lambda each, C: each.mean(),
    log=True,
):
    """DKPP's loss, right by default, with a switch for each mistake."""

    def loss(s, t, generator=None, keys=None):
        p, z = targets(t.detach() if detach else t, generator, keys), student(s, generator, keys)
        log_q = F.log_softmax(z, -1) if log else z.softmax(-1).log()
        return total(-(p * log_q).sum(-1), s.shape[-1])

    return loss


def shuffled_logits(t, g, k):
    """The same: a softmax does not mind in which order its logits come, and the largest logit has
    the largest share.
    """
    return soften(permute_dark_knowledge(t, g, k))


RIGHT = {
    "generations-test": [
        generations(),
        recursive,
        lambda make, count, fit: tuple(generations()(make, count, fit)),
    ],
    "cwtm-weights-test": [
        cwtm_weights,
        lambda t: F.normalize(soften(t).max(1).values, p=1, dim=0),
        lambda t: cwtm_weights(t.double()),
    ],
    "cwtm-loss-test": [cwtm_loss, cwtm(), cwtm_by_loop],
    "permute-dark-knowledge-test": [permute_dark_knowledge, shuffle(), by_randperm],
    "dkpp-loss-test": [
        dkpp_loss,
        dkpp(),
        dkpp(targets=shuffled_logits),
        dkpp(targets=lambda t, g, k: shuffle()(soften(t), g, k)),
    ],
}
WRONG = {
    "generations-test": {
        "all learn from the first teacher": generations(teacher_of=lambda nets: nets[0]),
        "all learn from the labels": generations(teacher_of=lambda nets: None),
        "learns from the teacher's teacher": generations(
            teacher_of=lambda nets: nets[max(0, len(nets) - 2)]
        ),
        "count networks instead of count + 1": generations(more=0),
        "one generation too many": generations(more=2),
        "only the last network is returned": generations(pick=lambda nets: nets[-1]),
        "the teacher is not returned": generations(pick=lambda nets: nets[1:]),
        "newest first": generations(pick=lambda nets: nets[::-1]),
        "one network, trained again and again": generations(
            new=lambda make, nets: nets[-1] if nets else make()
        ),
        "students start as copies of the teacher": generations(
            new=lambda make, nets: copy.deepcopy(nets[-1]) if nets else make()
        ),
        "trained twice": generations(fits=2),
        "teaches before it is trained": made_first,
        "the result of fit as the next teacher": keeps_what_fit_returns,
        "every network is its own teacher": own_teacher,
        "teacher and student swapped in fit": teacher_in_front,
    },
    "cwtm-weights-test": {
        "confidences, not divided": lambda t: soften(t).amax(1),
        "sum to B": lambda t: len(t) * cwtm_weights(t),
        "largest logits": lambda t: t.amax(1) / t.amax(1).sum(),
        "softmax of the largest logits": lambda t: t.amax(1).softmax(0),
        "softmax of the confidences": lambda t: soften(t).amax(1).softmax(0),
        "softmax over the batch": lambda t: (m := t.softmax(0).amax(1)) / m.sum(),
        "largest share of each class": lambda t: (m := soften(t).amax(0)) / m.sum(),
        "smallest share": lambda t: (m := soften(t).amin(1)) / m.sum(),
        "upside down": lambda t: (m := 1 - soften(t).amax(1)) / m.sum(),
        "entropy as confidence": lambda t: (m := torch.special.entr(soften(t)).sum(1)) / m.sum(),
        "softened with T = 4": lambda t: cwtm_weights(t / 4),
        "exponentials overflow": lambda t: (
            (m := (t.exp() / t.exp().sum(1, keepdim=True)).amax(1)) / m.sum()
        ),
    },
    "cwtm-loss-test": {
        "no weights": lambda s, t, y: F.cross_entropy(s, y),
        "divided by B again": cwtm(total=torch.mean),
        "weights sum to B": cwtm(weights=lambda s, t, y: len(s) * cwtm_weights(t)),
        "confidences not divided": cwtm(weights=lambda s, t, y: soften(t).amax(1)),
        "share of the label as confidence": cwtm(weights=of_label),
        "the student's confidences": cwtm(weights=lambda s, t, y: cwtm_weights(s)),
        "upside down": cwtm(weights=lambda s, t, y: (m := 1 - soften(t).amax(1)) / m.sum()),
        "the teacher's first answer as label": cwtm(target=lambda s, t, y: t.argmax(1)),
        "the teacher's whole answer as label": cwtm(target=lambda s, t, y: soften(t)),
        "log of softmax, infinite": cwtm(log=False),
        "gradient reaches the teacher": cwtm(detach=False),
        "no gradient for the student": lambda s, t, y: cwtm_loss(s.detach(), t, y),
        "a softmax too many": lambda s, t, y: cwtm_loss(s.softmax(1), t, y),
        "one number per image": cwtm(total=lambda v: v),
    },
    "permute-dark-knowledge-test": {
        "nothing is shuffled": lambda p, generator=None, keys=None: p.clone(),
        "the largest takes part": shuffle(top=False),
        "the first row's largest class is kept everywhere": one_class_for_all,
        "backwards": shuffle(backwards=True),
        "largest key first": shuffle(order=lambda k: k.argsort(descending=True)),
        "keys ignored": shuffle(use_keys=False),
        "all rows alike": shuffle(all_rows=True),
        "shares are sorted": shuffle(source=True),
        "generator ignored": shuffle(draw=lambda p, g: torch.rand(p.shape)),
        "a seed of its own": shuffle(
            draw=lambda p, g: torch.rand(p.shape, generator=torch.Generator().manual_seed(0))
        ),
        "drawn once for the whole batch": shuffle(
            draw=lambda p, g: torch.rand(1, p.shape[1], generator=g).expand(p.shape)
        ),
        "rotated, not shuffled": rotated,
        "changes its input": in_place,
    },
    "dkpp-loss-test": {
        "nothing is shuffled": dkpp(targets=lambda t, g, k: soften(t)),
        "keys ignored": dkpp(targets=lambda t, g, k: permute_dark_knowledge(soften(t), g)),
        "generator ignored": dkpp(
            targets=lambda t, g, k: permute_dark_knowledge(soften(t), None, k)
        ),
        "a seed of its own": dkpp(
            targets=lambda t, g, k: permute_dark_knowledge(
                soften(t), torch.Generator().manual_seed(0) if g else None, k
            )
        ),
        "one shuffle for the batch": dkpp(
            targets=lambda t, g, k: shuffle(all_rows=True)(soften(t), g, k)
        ),
        "the student is shuffled": dkpp(
            targets=lambda t, g, k: soften(t),
            student=lambda s, g, k: permute_dark_knowledge(s, g, k),
        ),
        "the largest takes part": dkpp(targets=lambda t, g, k: shuffle(top=False)(soften(t), g, k)),
        "KL": lambda s, t, g=None, k=None: (
            dkpp_loss(s, t, g, k) - torch.special.entr(soften(t)).sum(1).mean()
        ),
        "sum over the batch": dkpp(total=lambda each, C: each.sum()),
        "mean over classes too": dkpp(total=lambda each, C: each.mean() / C),
        "the minus sign is missing": dkpp(total=lambda each, C: -each.mean()),
        "softened with T = 4": lambda s, t, g=None, k=None: 16 * dkpp_loss(s / 4, t / 4, g, k),
        "the teacher's first answer only": lambda s, t, g=None, k=None: F.cross_entropy(
            s, t.argmax(1)
        ),
        "log of softmax, infinite": dkpp(log=False),
        "gradient reaches the teacher": dkpp(detach=False),
        "no gradient for the student": lambda s, t, g=None, k=None: dkpp_loss(s.detach(), t, g, k),
    },
}
