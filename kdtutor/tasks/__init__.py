"""What a label is: its loss, its metrics and their direction, its checks, and what moves with the
pixels. A dataset carries one task; everything that trains or measures reads it.
"""

from .classification import Classification, accuracy
from .detection import Detection, average_precision_50
from .metric import Metric
from .multi_label import MultiLabel, label_accuracy, mean_average_precision
from .no_labels import NoLabels
from .regression import Regression, mse
from .segmentation import Segmentation, mean_iou, pixel_accuracy
from .task import Task
from .tokens import Tokens, nll, token_accuracy

__all__ = [
    "Classification",
    "Detection",
    "Metric",
    "MultiLabel",
    "NoLabels",
    "Regression",
    "Segmentation",
    "Task",
    "Tokens",
    "accuracy",
    "average_precision_50",
    "label_accuracy",
    "mean_average_precision",
    "mean_iou",
    "mse",
    "nll",
    "pixel_accuracy",
    "token_accuracy",
]
