"""The grids of the study's Table III, as lesson 14 sets them up.

Sarfraz, Arani, Zonooz, ICPR 2020; seeds, epochs and teachers from the authors' evaluation code, the
optimiser's settings a common recipe. The study's runs saw all training images: none are held out.
"""

from kdtutor.ablation import Grid

# Cheapest first.
STUDENTS = (
    "resnet8",
    "wrn10_2",
    "resnet14",
    "resnet20",
    "wrn16_2",
    "resnet26",
    "wrn28_2",
    "wrn40_2",
)
METHODS = (
    "CrossEntropy",
    "Hinton",
    "FitNet",
    "SP",
    "AT",
    "FSP",
    "RKD-D",
    "RKD-A",
    "RKD-DA",
    "DML",
    "ONE",
    "BSS",
)
SEEDS = (0, 10, 20, 30, 40)
TEACHERS = {"resnet": "resnet26", "wrn": "wrn40_2"}


def grid(dataset, method: str, student: str, seeds=SEEDS, quick: bool = False, **further) -> Grid:
    """The runs of one method and student. ``quick``: a look whether they run."""
    family = student.rstrip("0123456789_")
    return Grid(
        dataset=dataset,
        teacher="resnet8" if quick else TEACHERS[family],
        students=[student],
        methods=[method],
        seeds=list(seeds),
        epochs=2 if quick else 300 if method == "ONE" else 200,
        teacher_epochs=2 if quick else 200,
        fit={"lr": 0.1, "batch_size": 16 if quick else 128, "weight_decay": 5e-4, "validation": 0},
        **further,
    )
