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


def grids(dataset, methods=METHODS, students=STUDENTS, seeds=SEEDS, quick=False, **further):
    """The grids of these methods and students: one a family and number of epochs. ``quick``: a
    look whether they run.
    """
    found = []
    for family, teacher in TEACHERS.items():
        some = [s for s in students if s.startswith(family)]
        for names, epochs in (([m for m in methods if m != "ONE"], 200), (["ONE"], 300)):
            if some and set(names) & set(methods):
                fit = {"lr": 0.1, "batch_size": 128, "weight_decay": 5e-4, "validation": 0}
                one = Grid(
                    dataset=dataset,
                    teacher="resnet8" if quick else teacher,
                    students=some,
                    methods=names,
                    seeds=list(seeds),
                    epochs=2 if quick else epochs,
                    teacher_epochs=2 if quick else 200,
                    fit=fit | ({"batch_size": 16} if quick else {}),
                    **further,
                )
                found.append(one)
    return found
