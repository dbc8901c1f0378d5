"""Small data, networks and distillers that several tests share."""

import torch
import torch.nn.functional as F
from torch import nn

from kdtutor.datasets import Data, Split
from kdtutor.distiller import as_teacher
from kdtutor.methods import Distiller, Player, Stage
from kdtutor.models import mlp
from kdtutor.taps import Taps


def blobs(n=240, classes=3, side=4, seed=0, name="blobs", **kwargs) -> Data:
    """Noisy class templates as uint8 images: learnable within a few steps."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    templates = torch.rand(classes, 1, side, side, generator=torch.Generator().manual_seed(99))
    x = ((templates[y] + 0.25 * torch.randn(n, 1, side, side, generator=g)).clamp(0, 1) * 255).to(
        torch.uint8
    )
    cut = n * 3 // 4
    return Data(
        name,
        tuple("abcdefghij"[:classes]),
        Split(x[:cut], y[:cut]),
        Split(x[cut:], y[cut:]),
        **kwargs,
    )


def net(seed=0, hidden=(16,), classes=3, side=4, **kwargs) -> nn.Module:
    torch.manual_seed(seed)
    return mlp(hidden, classes=classes, inputs=side * side, **kwargs)


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([v.detach().flatten().float() for v in module.state_dict().values()])


class TwoStage(Distiller):
    """First stage: part of the student and a regressor imitate a hidden layer; second stage: the
    labels.
    """

    def __init__(self, student, teacher, layer):
        super().__init__(student)
        self.teacher, self.layer = as_teacher(teacher), layer
        wide = self.teacher.features(torch.zeros(2, *student.input_shape), [layer])[1][layer].shape[
            1
        ]
        narrow = Taps(student, [layer])(torch.zeros(2, *student.input_shape))[1][layer].shape[1]
        self.regressor = nn.Linear(narrow, wide)

    def hint_terms(self, batch):
        _, student = Taps(self.student, [self.layer])(batch.x)
        _, teacher = self.teacher.features(batch, [self.layer])
        return {"hint": F.mse_loss(self.regressor(student[self.layer]), teacher[self.layer])}

    def label_terms(self, batch):
        return {"ce": F.cross_entropy(self.student(batch.x), batch.y)}

    def stages(self):
        guided = [
            *next(
                m for n, m in self.student.named_modules() if isinstance(m, nn.Linear)
            ).parameters(),
            *self.regressor.parameters(),
        ]
        slow = lambda ps: torch.optim.RMSprop(ps, 1e-3)
        return [
            Stage("hint", 1, [Player("guided", self.hint_terms, guided, slow)]),
            Stage(
                "labels", 2, [Player("student", self.label_terms, list(self.student.parameters()))]
            ),
        ]


class Adversarial(Distiller):
    """A student that must fool a discriminator which tells its logits from the teacher's: two
    players with own optimisers.
    """

    def __init__(self, student, teacher, classes=3):
        super().__init__(student)
        self.teacher = as_teacher(teacher)
        self.critic = nn.Sequential(nn.Linear(classes, 8), nn.ReLU(), nn.Linear(8, 1))

    def student_terms(self, batch):
        z = self.student(batch.x)
        fooled = self.critic(z)
        return {
            "ce": F.cross_entropy(z, batch.y),
            "fool": 0.1 * F.binary_cross_entropy_with_logits(fooled, torch.ones_like(fooled)),
        }

    def critic_terms(self, batch):
        fake, real = self.critic(self.student(batch.x)), self.critic(self.teacher(batch))
        return {
            "real": F.binary_cross_entropy_with_logits(real, torch.ones_like(real)),
            "fake": F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake)),
        }

    def stages(self):
        adam = lambda ps: torch.optim.Adam(ps, 1e-2)
        return [
            Stage(
                "game",
                1,
                [
                    Player("critic", self.critic_terms, list(self.critic.parameters()), adam),
                    Player("student", self.student_terms, list(self.student.parameters())),
                ],
            )
        ]
