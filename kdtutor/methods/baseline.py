"""The baseline that every method is compared with."""

import torch.nn.functional as F

from ..distiller.plan import Batch, Distiller
from ..taps import call


class CrossEntropy(Distiller):
    """The student learns from the labels alone: L = CE(softmax(z_s), y), the mean over the batch."""

    def terms(self, batch: Batch):
        return {"ce": F.cross_entropy(call(self.student, batch.x).float(), batch.y)}
