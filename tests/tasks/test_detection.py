"""Detection: average precision against an independent loop, the user's own loss, the checks."""

import math

import pytest
import torch
from torch import nn

from kdtutor.tasks import Detection, average_precision_50
from kdtutor.tasks.detection import box_iou
from tests.tasks.common import one


def slow_iou(a, b):
    """By counting the cells of a grid of whole numbers."""
    cells = lambda box: {
        (x, y) for x in range(int(box[0]), int(box[2])) for y in range(int(box[1]), int(box[3]))
    }
    return len(cells(a) & cells(b)) / len(cells(a) | cells(b))


def slow_ap(true, found, label):
    """Independent of the code under test: one list of detections, a curve, its area by recall."""
    wanted = [[b for b, c in image if c == label] for image in true]
    everything = [(s, i, b) for i, image in enumerate(found) for b, s, c in image if c == label]
    used, curve, right = set(), [], 0
    for seen, (_, i, box) in enumerate(sorted(everything, key=lambda d: -d[0]), 1):
        overlaps = [slow_iou(box, b) for b in wanted[i]]
        best = max(range(len(overlaps)), key=overlaps.__getitem__) if overlaps else None
        if best is not None and overlaps[best] >= 0.5 and (i, best) not in used:
            used.add((i, best))
            right += 1
        curve.append((right, right / seen))
    total = sum(map(len, wanted))
    heights = [max((p for r, p in curve if r >= k), default=0.0) for k in range(1, total + 1)]
    return sum(heights) / total


def boxes(n, g):
    corner = torch.randint(0, 8, (n, 2), generator=g).float()
    return torch.cat([corner, corner + torch.randint(2, 7, (n, 2), generator=g)], 1)


def scene(seed, images=6, classes=3):
    """Random true boxes, and detections that are true boxes moved a little, or free."""
    g = torch.Generator().manual_seed(seed)
    true, found = [], []
    for _ in range(images):
        n = int(torch.randint(0, 5, (), generator=g))
        b, c = boxes(n, g), torch.randint(0, classes, (n,), generator=g)
        true.append((b, c))
        k = int(torch.randint(0, 4, (), generator=g))
        guesses = torch.cat([b + torch.randint(0, 2, b.shape, generator=g), b, boxes(k, g)])
        labels = torch.cat([c, c, torch.randint(0, classes, (k,), generator=g)])
        found.append((guesses, torch.rand(len(guesses), generator=g), labels))
    return true, found


def padded(true):
    m = max(len(c) for _, c in true)
    y = {"boxes": torch.zeros(len(true), m, 4), "labels": torch.full((len(true), m), -1)}
    for i, (b, c) in enumerate(true):
        y["boxes"][i, : len(c)], y["labels"][i, : len(c)] = b, c
    return y


class Looks(nn.Module):
    """Answers with the positions of the images, so that predict can look them up."""

    def forward(self, x):
        return x


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [1, 4, 6])
def test_average_precision_equals_slow_code(seed, size):
    true, found = scene(seed)
    y, x = padded(true), torch.arange(6)
    cut = [
        one(x[i : i + size], {k: v[i : i + size] for k, v in y.items()}) for i in range(0, 6, size)
    ]
    task = Detection(predict=lambda output: [found[i] for i in output.tolist()])
    measured = task.metrics[0].values(Looks(), cut)
    rows = lambda many: [list(zip(*(t.tolist() for t in image))) for image in many]
    classes = {int(c) for _, labels in true for c in labels}
    slow = [slow_ap(rows(true), rows(found), c) for c in classes]
    assert measured == {"average_precision_50": pytest.approx(sum(slow) / len(slow))}


def measure(true, found, **options):
    return average_precision_50(
        Looks(),
        [one(torch.arange(len(true)), padded(true))],
        predict=lambda output: found,
        **options,
    )


def test_known_values():
    t = torch.tensor
    two = [(t([[0.0, 0, 4, 4], [10, 10, 14, 14]]), t([0, 0]))]
    # Found in this order: right, wrong, right -> area 1/2 · 1 + 1/2 · 2/3.
    three = [
        (t([[0.0, 0, 4, 4], [5, 5, 6, 6], [10, 10, 14, 14]]), t([0.9, 0.8, 0.7]), t([0, 0, 0]))
    ]
    assert measure(two, three) == pytest.approx(1 / 2 + 1 / 3)
    # The same box found twice counts once.
    twice = [(t([[0.0, 0, 4, 4], [0, 0, 4, 4]]), t([0.9, 0.8]), t([0, 0]))]
    assert measure(two, twice) == pytest.approx(1 / 2)
    # Half of a box is just enough, less is not; a box of another class is not.
    one_true = [(t([[0.0, 0, 4, 4]]), t([1]))]
    half = lambda height, label: [(t([[0.0, 0, 4, height]]), t([0.5]), t([label]))]
    assert measure(one_true, half(2, 1)) == 1
    assert measure(one_true, half(1.9, 1)) == 0
    assert measure(one_true, half(4, 0)) == 0
    assert measure(one_true, half(1.9, 1), iou=0.4) == 1
    nothing = [(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())]
    assert measure(one_true, nothing) == 0
    assert math.isnan(measure([(torch.zeros(0, 4), t([]).long())], half(4, 0)))


def test_box_iou():
    g = torch.Generator().manual_seed(0)
    a, b = boxes(5, g), boxes(7, g)
    slow = torch.tensor([[slow_iou(p, q) for q in b.tolist()] for p in a.tolist()])
    assert torch.allclose(box_iou(a, b), slow)


def test_predictions_for_another_number_of_images():
    with pytest.raises(ValueError, match="predict gave boxes for 0 images, but the batch has 1"):
        measure([(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([1]))], [])


def test_the_loss_is_the_users():
    y = {"boxes": torch.zeros(1, 1, 4), "labels": torch.tensor([[-1]])}
    with pytest.raises(ValueError, match="no label loss of its own.*Detection.loss="):
        Detection().loss(torch.zeros(1), y)
    task = Detection(loss=lambda output, y: output["a"].sum() + y["labels"].sum())
    output = {"a": torch.ones(3)}
    assert task.logits(output) is output
    assert float(task.loss(task.logits(output), y)) == 2


@pytest.mark.parametrize(
    "y, message",
    [
        (torch.zeros(2, 4), "detection needs a mapping with 'boxes'"),
        ({"boxes": torch.zeros(2, 3, 4)}, "detection needs a mapping"),
        ({"boxes": torch.zeros(2, 3, 4), "labels": torch.zeros(2, 2).long()}, "detection needs"),
        ({"boxes": torch.zeros(2, 3, 5), "labels": torch.zeros(2, 3).long()}, "detection needs"),
        ({"boxes": torch.zeros(2, 3, 4).long(), "labels": torch.zeros(2, 3).long()}, "detection"),
        (
            {"boxes": torch.ones(1, 1, 4), "labels": torch.tensor([[3]])},
            "run from 3 to 3, but 3 classes allow 0 to 2 only .and -1",
        ),
        (
            {
                "boxes": torch.tensor([[[0.0, 0, 1, 1]], [[4, 0, 2, 1]]]),
                "labels": torch.tensor([[0], [1]]),
            },
            r"1 boxes have no area, the first in image 1: \[4.0, 0.0, 2.0, 1.0\]",
        ),
    ],
)
def test_bad_labels(y, message):
    with pytest.raises(ValueError, match=message):
        Detection().check_labels(y, 3, "d: train")


def test_good_labels():
    Detection().check_labels(padded(scene(0)[0]), 3, "d: train")
    Detection().check_labels(None, 3, "d: train")
