"""The baseline that every method is compared with."""

from torch import nn

from ..datasets import Batch
from ..distiller import Distiller, Terms
from ..distiller.trial import check_answers
from ..errors import explained
from ..taps import Example


@explained
class CrossEntropy(Distiller):
    """The student learns from the labels alone: L = the task's label loss, for classes
    CE(softmax(z_s), y), the mean over the batch.

    Args:
        student: the network that learns.
        example: a small batch of inputs, a tensor or a mapping, on which it is tried at once.

    Example:
        >>> import torch
        >>> from kdtutor.datasets import Batch
        >>> batch = Batch(torch.zeros(2, 4), torch.tensor([0, 1]))
        >>> net = torch.nn.Linear(4, 2, bias=False)
        >>> round(CrossEntropy(net).terms(batch)["ce"].item(), 4)  # log 2: it knows nothing yet
        0.6931
    """

    labels_only = True

    def __init__(self, student: nn.Module, example: Example = None):
        super().__init__(student)
        if example is not None:
            check_answers([("student", student)], example)

    def terms(self, batch: Batch) -> Terms:
        return {"ce": self.task.loss(self.logits(self.student, batch.x), batch.y)}
