"""Eight small distillers of other kinds than the catalog's: the seam must carry them as they are.

Each is a class that takes a student, so that a grid can name it; where one needs more networks, it
makes them itself under a fixed seed.
"""

import copy
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from kdtutor.datasets import Data, GeneratedData, Split, pad_boxes
from kdtutor.datasets.scenes import scenes
from kdtutor.distiller import Distiller, Player, Stage
from kdtutor.methods.online.mutual import mutual_loss
from kdtutor.models import resnet8
from kdtutor.softening import distillation_kl
from kdtutor.taps import Taps, cut
from kdtutor.tasks import Detection, NoLabels, Segmentation
from kdtutor.teacher import Teacher
from kdtutor.training import constant, linear


def seeded(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


adam = partial(torch.optim.Adam, lr=1e-3)


# --- 1. exits at two depths


class Exits(Distiller):
    """The student's first two levels get classifiers of their own, which learn from its last."""

    LEVELS = ("layer1", "layer2")

    def __init__(self, student):
        super().__init__(student)
        widths = seeded(lambda: Taps(student, self.LEVELS)(torch.zeros(2, *student.input_shape)))
        make = lambda width: nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, student.fc.out_features)
        )
        self.heads = seeded(
            lambda: nn.ModuleDict({n: make(f.shape[1]) for n, f in widths[1].items()})
        )

    def terms(self, batch):
        output, features = self.run(self.student, batch.x, self.LEVELS)
        terms = {"ce": self.task.loss(output, batch.y)}
        for level, head in self.heads.items():
            logits = head(features[level]).float()
            terms[f"{level}.ce"] = self.task.loss(logits, batch.y)
            terms[f"{level}.kd"] = distillation_kl(logits, output.float(), 3.0)
        return terms

    def networks(self):
        exits = {n: nn.Sequential(cut(self.student, n)[0], head) for n, head in self.heads.items()}
        return {"student": self.student} | exits


# --- 2. two peers, two discriminators: six players, two optimisers for each peer


class Rivals(Distiller):
    """Each peer learns from the labels and its peer's answers, and, with an optimiser of its own,
    to be taken for its peer by a discriminator that learns to tell them apart."""

    def __init__(self, student):
        super().__init__(student)
        self.peers = nn.ModuleList([student, seeded(lambda: _reset(copy.deepcopy(student)))])
        classes = student.fc.out_features
        self.critics = seeded(lambda: nn.ModuleList(nn.Linear(classes, 1) for _ in range(2)))

    def stages(self):
        players = []
        for k, (peer, critic) in enumerate(zip(self.peers, self.critics)):
            weights = list(peer.parameters())
            players += [
                Player(f"net{k}", partial(self.logit_terms, k), weights),
                Player(f"forger{k}", partial(self.forger_terms, k), weights, adam, constant),
                Player(
                    f"critic{k}",
                    partial(self.critic_terms, k),
                    list(critic.parameters()),
                    adam,
                    linear,
                ),
            ]
        return [Stage("game", 1.0, players)]

    def logit_terms(self, k, batch):
        own, other = (self.logits(self.peers[j], batch.x) for j in (k, 1 - k))
        return {"ce": self.task.loss(own, batch.y), "kd": mutual_loss(own, [other.detach()])}

    def forger_terms(self, k, batch):
        score = self.critics[k](self.logits(self.peers[k], batch.x).softmax(1))
        return {"forge": 0.1 * (score - 1).square().mean()}

    def critic_terms(self, k, batch):
        with torch.no_grad():
            own, other = (self.logits(self.peers[j], batch.x).softmax(1) for j in (k, 1 - k))
        real, forged = self.critics[k](other), self.critics[k](own)
        self.log(
            f"critic{k}.right", ((real > 0.5).float().mean() + (forged < 0.5).float().mean()) / 2
        )
        return {"real": (real - 1).square().mean(), "forged": forged.square().mean()}

    def networks(self):
        return {"net0": self.peers[0], "net1": self.peers[1]}


def _reset(net):
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return net


# --- 3. a plain network that runs on through another's later levels, while both train


class RunsOn(Distiller):
    """The student's first level runs on through the rest of a companion, which learns as well."""

    def __init__(self, student):
        super().__init__(student)
        classes, channels = student.fc.out_features, student.input_shape[0]
        self.companion = seeded(lambda: resnet8(classes=classes, channels=channels), 7)
        self.companion.input_shape = student.input_shape

    def stages(self):
        # Shared: what the halves learn, the whole networks learn.
        self._halves = cut(self.student, "layer1")[0], cut(self.companion, "layer1")[1]
        own = list(self.student.parameters())
        return [
            Stage("on", 1.0, [Player("both", self.terms, [*own, *self.companion.parameters()])])
        ]

    def terms(self, batch):
        lower, upper = self._halves
        whole, mixed = self.logits(self.companion, batch.x), upper(lower(batch.x)).float()
        logits = self.logits(self.student, batch.x)
        return {
            "ce": self.task.loss(logits, batch.y),
            "companion": self.task.loss(whole, batch.y),
            "mixed": self.task.loss(mixed, batch.y),
            "kd": distillation_kl(logits, mixed, 2.0),
        }


# --- 4. attention maps and values of a transformer, on tokens without labels


class Encoder(nn.Module):
    """A small transformer of the shape that real ones have: inputs by name, hidden states back."""

    def __init__(self, width=16, layers=1, words=20):
        super().__init__()
        self.words = nn.Embedding(words, width)
        make = lambda: nn.TransformerEncoderLayer(width, 4, 2 * width, batch_first=True)
        self.layers = nn.ModuleList(make() for _ in range(layers))

    def forward(self, ids, mask):
        x = self.words(ids)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~mask)
        return {"last_hidden_state": x, "pooled": x.mean(1)}


class AttentionOfTokens(Distiller):
    """The last layer's attention, as in MiniLM: KL between the maps, whatever the widths."""

    def __init__(self, student):
        super().__init__(student)
        self.teacher = Teacher(seeded(lambda: Encoder(32, 2), 3))
        self.own, self.theirs = "layers.0.self_attn:attention", "layers.1.self_attn:attention"

    def terms(self, batch):
        _, own = self.run(self.student, batch.x, [self.own])
        _, theirs = self.teacher.features(batch, [self.theirs])
        p, q = theirs[self.theirs].float(), own[self.own].float().clamp_min(1e-9)
        kl = (torch.special.xlogy(p, p) - p * q.log()).sum(-1)
        places = batch.x["mask"][:, None, :].expand_as(kl)
        return {"attention": kl[places].mean()}


def tokens(n=120, length=8):
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 20, (n, length), generator=g)
    mask = torch.arange(length) < torch.randint(3, length + 1, (n, 1), generator=g)
    half = lambda a, b: Split({"ids": ids[a:b] * mask[a:b], "mask": mask[a:b]}, None)
    return Data("tokens", (), half(0, n - 20), half(n - 20, n), task=NoLabels())


# --- 5. a segmenter, with crops and flips


class Segmenter(nn.Module):
    """Three convolutions at full resolution: (B, 3, H, W) -> {"out": (B, C, H, W)}."""

    def __init__(self, classes=5, width=12):
        super().__init__()
        layers = []
        for channels, dilation in ((3, 1), (width, 2), (width, 4)):
            layers += [
                nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.body, self.head = nn.Sequential(*layers), nn.Conv2d(width, classes, 1)

    def forward(self, x):
        return {"out": self.head(self.body(x))}


class PixelKD(Distiller):
    """Labels and a teacher's softened answer at every pixel."""

    def __init__(self, student):
        super().__init__(student)
        self.teacher = Teacher(seeded(lambda: Segmenter(width=16), 5))

    def terms(self, batch):
        logits = self.logits(self.student, batch.x)
        kd = distillation_kl(logits, self.teacher(batch), 2.0, axis=self.task.class_axis)
        return {"ce": self.task.loss(logits, batch.y), "kd": 0.05 * kd}


def parts(n_train=96, n_test=32, augment=None):
    made = scenes(n_train, n_test, size=24)
    halves = [Split(s.x, s.extra["part_mask"].long()) for s in (made.train, made.test)]
    names = ("none", "body", "head", "sides", "base")
    return Data("parts", names, *halves, augment=augment, task=Segmentation(ignore=255))


# --- 6. a detector, with padded boxes


class Detector(nn.Module):
    """One box and one label for the whole image: {"boxes": (B, 4), "logits": (B, C)}."""

    def __init__(self, classes=8, side=24):
        super().__init__()
        self.side = side
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.box, self.label = (
            nn.Linear(32 * (side // 4) ** 2, 4),
            nn.Linear(32 * (side // 4) ** 2, classes),
        )

    def forward(self, x):
        features = self.body(x)
        return {"boxes": self.side * self.box(features).sigmoid(), "logits": self.label(features)}


def found(output):
    """A detector's answer as lists of (boxes, scores, labels), one of each per image."""
    scores, labels = output["logits"].float().softmax(1).max(1)
    return [(b[None].float(), s[None], y[None]) for b, s, y in zip(output["boxes"], scores, labels)]


class BoxKD(Distiller):
    """Boxes and labels of the data, and a teacher's boxes."""

    def __init__(self, student):
        super().__init__(student)
        self.teacher = seeded(Detector, 9).eval().requires_grad_(False)  # frozen by hand

    def terms(self, batch):
        output, _ = self.run(self.student, batch.x)
        with torch.no_grad():
            theirs = self.teacher(batch.x)
        real = batch.y["labels"] >= 0  # the others are padding
        boxes = output["boxes"].float()[:, None].expand_as(batch.y["boxes"])
        logits = output["logits"].float()[:, None].expand(-1, real.shape[1], -1)
        return {
            "boxes": F.l1_loss(boxes[real], batch.y["boxes"][real]) / 24,
            "labels": F.cross_entropy(logits[real], batch.y["labels"][real]),
            "kd": 0.01 * F.l1_loss(output["boxes"].float(), theirs["boxes"].float()) / 24,
        }


def boxed(n_train=128, n_test=32, augment=None):
    made = scenes(n_train, n_test, size=24)
    halves = []
    for s in (made.train, made.test):
        # Every third image has a second, smaller box: lists of different lengths become padding.
        boxes = [
            torch.stack([b, b] if i % 3 == 0 else [b]).float()
            for i, b in enumerate(s.extra["boxes"])
        ]
        halves.append(Split(s.x, pad_boxes(boxes, [y.expand(len(b)) for y, b in zip(s.y, boxes)])))
    return Data("boxed", made.classes, *halves, augment=augment, task=Detection(predict=found))


# --- 7. a generator makes the batches: one step of its own against ten of the student's


class Imitates(Distiller):
    """The student imitates a teacher on what a generator draws from noise; the generator looks for
    images on which they differ."""

    def __init__(self, student):
        super().__init__(student)
        classes, shape = student.fc.out_features, student.input_shape
        self.teacher = Teacher(seeded(lambda: resnet8(classes=classes, channels=shape[0]), 11))
        self.generator = seeded(
            lambda: nn.Sequential(
                nn.Linear(8, shape[0] * 64), nn.Sigmoid(), nn.Unflatten(1, (shape[0], 8, 8))
            ),
            12,
        )

    def stages(self):
        make, learn = list(self.generator.parameters()), list(self.student.parameters())
        return [
            Stage(
                "play",
                1.0,
                [
                    Player("generator", self.generator_terms, make, adam),
                    Player("student", self.terms, learn, steps=10),
                ],
            )
        ]

    def _distance(self, images):
        with torch.set_grad_enabled(images.requires_grad):
            theirs = self.teacher.net(images).float()
        return F.l1_loss(self.logits(self.student, images), theirs)

    def generator_terms(self, batch):
        return {"differ": -self._distance(self.generator(batch.x))}

    def terms(self, batch):
        return {"imitate": self._distance(self.generator(batch.x).detach())}


def noise(g, batch_size, device):
    return torch.randn(batch_size, 8, generator=g).to(device), None


def drawn():
    return GeneratedData("noise", noise, steps_per_epoch=4)


# --- 8. a teacher that follows the student (EMA)


class Follows(Distiller):
    """The student agrees with the running mean of its own weights."""

    def __init__(self, student):
        super().__init__(student)
        self.ema = copy.deepcopy(student).eval().requires_grad_(False)

    def terms(self, batch):
        logits = self.logits(self.student, batch.x)
        with torch.no_grad():
            theirs = self.ema(batch.x).float()
        return {
            "ce": self.task.loss(logits, batch.y),
            "agree": distillation_kl(logits, theirs, 2.0),
        }

    def after_step(self, batch):
        own = dict(self.student.named_parameters())
        for name, p in self.ema.named_parameters():
            p.lerp_(own[name], 0.1)

    def networks(self):
        return {"student": self.student, "ema": self.ema}
