"""A grid: every combination of method, student, corruption and seed, as plain specs with a hash
each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn

from ..datasets import Data, with_imbalance, with_label_noise
from ..errors import explained
from ..runs import short_hash
from ..teacher import Teacher
from .choice import (
    MethodChoice,
    dataset,
    dataset_digest,
    dataset_name,
    finished,
    network,
    network_name,
    teacher_from,
)

# Of the specs: another number is another store. 2: label noise is drawn apart from the validation
# split. 3: what is the user's own is told by what it computes and reaches, datasets by all content.
FORMAT = 3


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        spec: Plain data that decides everything.
        objects: What the spec's names stand for.
        label: How tables call the method.
        teacher: The run of the teacher it learns from, None where it needs none.
        logits_only: It takes nothing but logits from its teacher.
        logit_cache: The file that the teacher's logits are read from, None where they are computed.
    """

    spec: dict
    objects: dict = field(compare=False, repr=False)
    label: str = field(default="", compare=False)
    teacher: "Cell | None" = field(default=None, compare=False, repr=False)
    logits_only: bool = field(default=False, compare=False, repr=False)
    logit_cache: str | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        """The hash of ``spec``."""
        return short_hash(self.spec)

    @property
    def title(self) -> str:
        """The network, and what was done to its data."""
        noise, gamma = (self.spec[k] for k in ("label_noise", "imbalance"))
        return (
            self.spec["net"]
            + (f", label noise {noise:g}" if noise else "")
            + (f", gamma {gamma:g}" if gamma is not None else "")
        )

    @property
    def teacher_sees(self) -> str:
        """ "same" data as the student, or "clean" ones; "same" also where there is no teacher."""
        same = not self.teacher or all(
            self.teacher.spec[k] == self.spec[k] for k in ("label_noise", "imbalance")
        )
        return "same" if same else "clean"

    def data(self) -> Data:
        """The training data as this cell sees them: a subset, then corrupted.

        Returns:
            ``Data``; the test set is always whole and clean.
        """
        s, data = self.spec, dataset(self.objects["dataset"], self.objects["root"])
        changed = s["images"] or s["imbalance"] is not None or s["label_noise"]
        if changed and not isinstance(data, Data):
            raise ValueError(
                f"images, imbalance and label_noise change data in memory, and {data.name} is a "
                f"{type(data).__name__}: leave them out, or change the dataset behind it."
            )
        if s["images"]:
            data = data.subset(s["images"])
        if s["imbalance"] is not None:
            data = with_imbalance(data, s["imbalance"])
        return (
            with_label_noise(data, s["label_noise"], seed=s["corruption_seed"])
            if s["label_noise"]
            else data
        )

    def distiller(self, data: Data, teacher: Teacher | None):
        """The method around fresh networks.

        A student's seed decides its weights and order, whatever the method.

        Args:
            data: As ``data()`` gives them; they decide the networks' classes and image size.
            teacher: None for a method that needs none.

        Returns:
            A ``Distiller``.
        """
        make = lambda member: network(
            self.objects["net"], data, 1000 + self.spec["seed"] + 100_000 * member
        )
        return self.objects["method"].build(make, teacher)


@explained
@dataclass(frozen=True, kw_only=True)
class Grid:
    """Method x student x label noise x imbalance x teacher's labels x seed, on one dataset.

    All runs have one kind of teacher.

    Args:
        dataset: A name or folder for ``datasets.load``, a ``Data``, or a function without arguments
            that returns data, such as ``from_loaders(...)``: each process calls it for itself.
        students: Names for ``models.build``, or functions without arguments that make a network.
        methods: See ``MethodChoice``; ``sweep`` gives one at several settings.
        teacher: One name or function, as for students; or a finished one, a network or a
            ``Teacher`` (ensembles too), which is measured and taken as it is, not trained; None
            where no method needs one.
        seeds: Of the students, whole numbers, each once.
        epochs: Of the students' training.
        label_noise: Rates of ``with_label_noise``.
        imbalance: Gammas of ``with_imbalance``, None for none.
        teacher_sees: "same" data as the student, corruption included, or "clean" data without it.
            The study does not say which.
        teacher_epochs: None for as many as the students'.
        teacher_seed: Of the teacher's weights and order.
        corruption_seed: Of the label noise.
        images: Train on a stratified subset of so many; None: on all.
        cache_logits: Compute the teachers' answers once for all runs that ask for nothing else;
            None: where that repays.
        threads: Of every run, so that where it runs does not change its result.
        root: The folder that holds the datasets.
        fit: Further settings for ``fit``: lr, batch_size, weight_decay, precision, validation,
            clip_norm, accumulate, drop_last, ema, patience.

    Raises:
        ValueError: For what cannot work.

    Example:
        >>> grid = Grid(methods=["CrossEntropy", "Hinton(temperature=8)"], seeds=range(3))
        >>> [method.label for method in grid.methods], grid.seeds
        (['CrossEntropy', 'Hinton(temperature=8)'], (0, 1, 2))
    """

    dataset: Any = "digits"
    students: Sequence[Any] = ("resnet8",)
    methods: Sequence[Any] = ("CrossEntropy", "Hinton")
    teacher: str | Callable | nn.Module | Teacher | None = "resnet14"
    seeds: Sequence[int] = (0, 1, 2)
    epochs: int = 10
    label_noise: Sequence[float] = (0.0,)
    imbalance: Sequence[float | None] = (None,)
    teacher_sees: Sequence[str] = ("same",)
    teacher_epochs: int | None = None
    teacher_seed: int = 0
    corruption_seed: int = 0
    images: int | None = None
    cache_logits: bool | None = None
    threads: int = 1
    root: str | Path = "data"
    fit: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for name in ("students", "methods", "seeds", "label_noise", "imbalance", "teacher_sees"):
            value = getattr(self, name)
            if isinstance(value, (str, type)) or callable(value) or not isinstance(value, Sequence):
                raise ValueError(f"{name}={value!r}: expected a list, such as [{value!r}].")
            if not value:
                raise ValueError(f"{name} is empty: a grid needs at least one.")
            object.__setattr__(self, name, tuple(value))
        twice = {s for s in self.seeds if self.seeds.count(s) > 1}
        if twice:
            raise ValueError(
                f"seeds {sorted(twice)} occur twice: equal runs are done once, so they would "
                "count double."
            )
        if set(self.teacher_sees) - {"same", "clean"}:
            raise ValueError(
                f"teacher_sees={list(self.teacher_sees)}: expected 'same' (the student's data) or "
                "'clean'."
            )
        allowed = {"batch_size", "lr", "weight_decay", "precision", "validation"}
        allowed |= {"clip_norm", "accumulate", "drop_last", "ema", "patience"}
        if set(self.fit) - allowed:
            raise ValueError(
                f"fit={sorted(set(self.fit) - allowed)}: a grid sets {sorted(allowed)}."
            )
        for name in ("epochs", "threads", "teacher_epochs", "images"):
            value = getattr(self, name)
            if value is not None and (
                not isinstance(value, int) or isinstance(value, bool) or value < 1
            ):
                raise ValueError(f"{name}={value!r}: expected a whole number of at least 1.")
        if odd := [
            s
            for s in (*self.seeds, self.teacher_seed, self.corruption_seed)
            if not isinstance(s, int) or isinstance(s, bool)
        ]:
            raise ValueError(f"seeds={odd}: expected whole numbers.")
        if self.fit.get("precision", "bf16") not in ("float32", "bf16"):
            raise ValueError(
                f"fit: precision={self.fit['precision']!r}: expected 'float32' or 'bf16'."
            )
        for name, value in self.fit.items():
            if name != "precision" and not (
                isinstance(value, (int, float)) and 0 <= value < float("inf")
            ):
                raise ValueError(f"fit: {name}={value!r}: expected a finite number of at least 0.")
        if trained := [type(n).__name__ for n in self.students if finished(n)]:
            raise ValueError(
                f"students hold {', '.join(trained)}, a network: every run would train the same "
                "one further. Pass a function without arguments that makes one, students=[make]."
            )
        object.__setattr__(self, "methods", tuple(map(MethodChoice.of, self.methods)))
        if self.teacher is None and any(m.needs_teacher for m in self.methods):
            needy = [m.label for m in self.methods if m.needs_teacher]
            raise ValueError(
                f"{', '.join(needy)} learn from a teacher, and this grid has none: "
                "Grid(teacher='resnet20', ...)."
            )

    def cells(self) -> list[Cell]:
        """All runs of students, each once, with the teacher's run that it needs.

        Returns:
            Cells, in the order student, noise, imbalance, teacher's labels, method, seed.

        Raises:
            ValueError: Where a student cannot be trained with a method: all pairs are built here,
                so that it shows before anything runs.
        """
        cells, known = {}, self._known()
        for student, noise, gamma, sees, method, seed in product(
            self.students,
            self.label_noise,
            self.imbalance,
            self.teacher_sees,
            self.methods,
            self.seeds,
        ):
            cell = self._cell(
                student,
                method,
                seed,
                self.epochs,
                noise,
                gamma,
                self._teacher(noise, gamma, sees, known) if method.needs_teacher else None,
                known,
            )
            cells.setdefault(cell.key, cell)
        asking = self._try(list(cells.values()))
        return [replace(cell, logits_only=cell.label in asking) for cell in cells.values()]

    def teachers(self) -> list[Cell]:
        """The teachers' runs that the grid needs, each once."""
        return list({c.teacher.key: c.teacher for c in self.cells() if c.teacher}.values())

    def _known(self) -> dict[Any, Any]:
        """{id: what it is} of the networks and methods, and the data's digest, for all cells."""
        known = {id(n): network_name(n) for n in (*self.students, self.teacher)}
        known |= {id(m): m.plain() for m in self.methods}
        return known | {"data": dataset_digest(self.dataset, str(self.root))}

    def _teacher(self, noise, gamma, sees, known) -> Cell:
        if finished(self.teacher):
            return self._as_it_is(known)
        noise, gamma = (noise, gamma) if sees == "same" else (0.0, None)
        return self._cell(
            self.teacher,
            MethodChoice.of("CrossEntropy"),
            self.teacher_seed,
            self.teacher_epochs or self.epochs,
            noise,
            gamma,
            None,
            known,
        )

    def _as_it_is(self, known) -> Cell:
        """The run of a finished teacher: nothing is trained, and the clean test set measures it."""
        labels = MethodChoice.of("CrossEntropy")
        cell = self._cell(self.teacher, labels, 0, 0, 0.0, None, None, known)
        return replace(cell, spec={**cell.spec, "fit": {}, "images": None}, label="as it is")

    def _cell(self, net, method, seed, epochs, noise, gamma, teacher, known) -> Cell:
        spec = {
            "format": FORMAT,
            "dataset": dataset_name(self.dataset, str(self.root)),
            "data": known["data"],
            "images": self.images,
            "label_noise": float(noise),
            "imbalance": None if gamma is None else float(gamma),
            "corruption_seed": self.corruption_seed,
            "net": known[id(net)],
            "method": known.get(id(method)) or method.plain(),
            "teacher": teacher.key if teacher else None,
            "seed": int(seed),
            "epochs": epochs,
            "threads": self.threads,
            "fit": dict(self.fit),
        }
        objects = {"dataset": self.dataset, "root": str(self.root), "net": net, "method": method}
        return Cell(spec, objects, method.label, teacher)

    def _try(self, cells: list[Cell]) -> set[str]:
        """Builds every student with every method once, untrained: what cannot work is found before
        anything runs. Returns the methods that ask a teacher for answers only.
        """
        import torch

        seen, asking = set(), set()
        with torch.random.fork_rng():
            for cell in cells:
                what = (
                    cell.spec["net"],
                    cell.label,
                    cell.spec["label_noise"],
                    cell.spec["imbalance"],
                )
                if what in seen:
                    continue
                seen.add(what)
                data = cell.data()
                teacher = teacher_from(cell.teacher.objects["net"], data) if cell.teacher else None
                try:
                    distiller = cell.distiller(data, teacher)
                    if len(distiller.stages()) > cell.spec["epochs"]:
                        raise ValueError(
                            f"it has {len(distiller.stages())} stages and needs as many epochs, "
                            f"not {cell.spec['epochs']}."
                        )
                except (ValueError, TypeError) as error:
                    raise ValueError(
                        f"{cell.label} with student {cell.spec['net']!r} cannot run: {error}"
                    ) from error
                # A class of the user's own may ask about other pixels than the batch's, such as
                # mixed images.
                if getattr(distiller, "logits_only", False) and type(
                    distiller
                ).__module__.startswith("kdtutor."):
                    asking.add(cell.label)
        return asking
