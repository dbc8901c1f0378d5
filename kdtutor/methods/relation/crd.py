"""Tian, Krishnan, Isola: Contrastive Representation Distillation (CRD, ICLR 2020, arXiv
1910.10699).

The student's embedding of an image should pick out the teacher's embedding of the same image among
those of many other images, and the other way round. The many others come from a memory of all
training images."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...datasets import Data, Split
from ...datasets.batch import sent
from ...distiller import Layers, Offline, Outputs, check_weight, label_term
from ...distiller.processes import gathered, mean
from ...distiller.tensors import full_precision, precise, readable
from ...errors import check_temperature, explained, unknown
from ...taps.default_layers import embedding
from ...tasks.task import class_labels
from ...teacher import Teacher

MODES = ("exact", "relax")


@explained
def contrast_loss(
    positive: Tensor,
    negative: Tensor,
    mask: Tensor,
    negatives: int,
    size: int,
    z: float | Tensor = 1.0,
) -> Tensor:
    """Noise-contrastive estimation: tell the positive from the negatives.

    The mean over the batch of -log h(P+) - sum_neg log(1 - h(P-)), h(P) = P / (P + K/n); noise is
    uniform, 1/n. Where P = 1/n everywhere (an untrained network) one side is
    log(1 + K) + K log(1 + 1/K): 10.70 for K = 16384.

    Args:
        positive: (B,) scores exp(<s, t>/T), P times Z.
        negative: (B, R), as ``positive``.
        mask: (B, R), which K of them count per row.
        negatives: K.
        size: n, images in the memory.
        z: the constant Z (1: the scores are P already).

    Returns:
        A scalar >= 0.

    Source:
        Tian, Krishnan, Isola, ICLR 2020, arXiv 1910.10699, and the authors' code.

    Example:
        >>> one = torch.full((1,), 1 / 100)
        >>> value = contrast_loss(one, one.expand(1, 7), torch.ones(1, 7, dtype=torch.bool), 7, 100)
        >>> round(value.item(), 3), round(math.log(8) + 7 * math.log(8 / 7), 3)
        (3.014, 3.014)
    """
    noise = negatives / size * z
    tiny = 1e-7 * z  # as in the authors' code
    # log1p sums small terms; the sum of K logarithms less K log(noise) would lose three digits in
    # float32.
    rejected = torch.where(mask, negative + tiny, 0.0).div(noise).log1p().sum(1)
    return (rejected - (positive / (positive + noise + tiny)).log()).mean()


@explained
def draw_negatives(
    labels: Tensor, y: Tensor, k: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """For each image of a batch k rows of the memory with another class.

    Uniform and without repetition. The batch shares one random order of the memory, of which each
    image takes the first k rows of other classes: for each image this is a uniform draw, and scores
    against all of them are a single matrix product.

    Args:
        labels: (n,) classes of the memory's rows.
        y: (B,) classes of the batch.
        k: how many.
        generator: for a repeatable draw.

    Returns:
        Rows (R,) and mask (B, R): image i's negatives are rows[mask[i]].

    Raises:
        ValueError: if a class leaves fewer than k rows of others.

    Example:
        >>> rows, mask = draw_negatives(torch.tensor([0, 0, 1, 1]), torch.tensor([0]), 2)
        >>> sorted(rows[mask[0]].tolist())
        [2, 3]
    """
    order = _order(labels, generator)
    classes, which = y.unique(return_inverse=True)
    # Of C equal classes 1 - 1/C of the rows are of others: nearly always as many suffice.
    take = min(len(labels), int(k * (1 + 2 / len(classes))) + 64)
    while True:
        other = labels[order[:take]] != classes[:, None]
        count = other.cumsum(1, dtype=torch.int32)
        if int(count[:, -1].min()) >= k:
            break
        if take == len(labels):
            raise ValueError(
                f"{k} negatives were asked for, but some class leaves only "
                f"{int(count[:, -1].min())} images of others."
            )
        take = min(len(labels), 2 * take)
    mask = other & (count <= k)
    used = int(mask.any(0).nonzero()[-1]) + 1
    return order[:used], mask[:, :used][which]


def _draw_unread(labels: Tensor, y: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``draw_negatives`` for a GPU, of which no value is read, so that nobody waits: it looks at
    the whole memory, and each class must leave k rows of others.
    """
    order = _order(labels)
    other = labels[order] != y[:, None]
    return order, other & (other.cumsum(1, dtype=torch.int32) <= k)


def _order(labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A random order of the memory's rows."""
    device = labels.device if generator is None else generator.device
    return torch.randperm(len(labels), generator=generator, device=device).to(labels.device)


@explained
class CRD(Offline):
    """The student's embedding should pick out the teacher's of the same image among many others.

    L = CE + crd_weight * (``contrast_loss`` of the student's embeddings against the memory of the
    teacher's + the reverse). Embeddings: a linear layer on each network's features, normalised;
    both are learned. The memory holds one of each per training image and moves with ``momentum``. Z
    is fixed by the first batch, on a still random memory: with few images the loss first rises
    above its start, as real embeddings fill it, before it falls. ``fit`` prepares the memory for
    the examples it trains on; without it call ``prepare(split)``, or pass data.

    Args:
        student: the network to train.
        teacher: a network or a ``Teacher``.
        data: a ``Data`` or its training ``Split``, to prepare the memory at once.
        crd_weight: > 0; 0.8 is the authors' code, as are temperature and momentum (the paper's: not
            checked).
        negatives: K; where a class leaves fewer images of others, all of these.
        temperature: T of the scores exp(<s, t>/T), at least 0.012.
        momentum: in [0, 1), the share of the old embedding that stays.
        dimensions: of the embeddings.
        mode: "exact": the positive is the image itself; "relax": any image of its class.
        layers: one pair of paths; by default what enters the classifier.
        ce_weight: of the label term, >= 0.
        example: a small batch of inputs, for networks that carry no ``input_shape``.

    Raises:
        ValueError: for bad numbers, more than one pair of layers, an unknown mode, data that is
            none.

    Source:
        Tian, Krishnan, Isola, ICLR 2020, arXiv 1910.10699, and the authors' code.

    Example:
        >>> from kdtutor.datasets import Batch
        >>> from kdtutor.models import resnet8
        >>> split = Split(torch.zeros(6, 3, 32, 32), torch.arange(6) % 3)
        >>> distiller = CRD(resnet8(3), resnet8(3), split, negatives=2)
        >>> list(distiller.terms(Batch(split.x, split.y, torch.arange(6))))
        ['ce', 'crd']
    """

    reads_maps = False  # rows of numbers

    embed_student: nn.Linear
    embed_teacher: nn.Linear
    memory_student: Tensor  # (n, dimensions), as the other
    memory_teacher: Tensor
    z: Tensor  # (2,), 0 until the first batch
    labels: Tensor  # (n,)
    by_class: Tensor  # (n,) rows of the memory, class by class

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | nn.Module,
        data: Data | Split | None = None,
        crd_weight: float = 0.8,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        dimensions: int = 128,
        mode: str = "exact",
        layers: Layers = None,
        ce_weight: float = 1.0,
        example: Tensor | None = None,
    ):
        self._example = example
        super().__init__(student, teacher, layers, example)
        if mode not in MODES:
            raise unknown("mode of CRD", mode, MODES)
        if len(self.layers) != 1 or negatives < 1 or dimensions < 1 or not 0 <= momentum < 1:
            raise ValueError(
                "CRD needs one pair of layers, negatives and dimensions >= 1 and 0 <= momentum < "
                f"1, got layers={self.layers}, "
                f"negatives={negatives}, dimensions={dimensions}, momentum={momentum}."
            )
        self.crd_weight, self.temperature = (
            check_weight("crd_weight", crd_weight),
            check_temperature(temperature),
        )
        if temperature < 0.012:
            raise ValueError(
                f"temperature={temperature}: exp(1/temperature) overflows float32 below 0.012 "
                "(the authors use 0.07)."
            )
        self.negatives, self.dimensions, self.momentum = (
            int(negatives),
            int(dimensions),
            float(momentum),
        )
        self.mode, self.ce_weight = mode, check_weight("ce_weight", ce_weight, zero=True)
        ((s, t),) = self.example_features(example)
        self.embed_student, self.embed_teacher = (
            # Both in the finer type: what they make is compared with each other's memory.
            nn.Linear(f[0].numel(), dimensions).to(s.device, torch.promote_types(s.dtype, t.dtype))
            for f in (s, t)
        )
        if not isinstance(data, (Data, Split, type(None))):
            raise ValueError(
                f"data is a {type(data).__name__}; expected a Data or its training Split, or "
                "nothing: fit prepares the "
                "memory."
            )
        if data is not None:
            self.prepare(data.train if isinstance(data, Data) else data)

    def default_layers(self, net: nn.Module) -> list[str]:
        return [embedding(net, self._example)]

    def prepare(self, train: Split) -> None:
        """Makes a fresh memory for these examples.

        The rows follow the split; an example is found by its index.

        Args:
            train: what will be trained on.

        Raises:
            ValueError: if all examples have one class.
        """
        known = len(train.index) == len(train) and train.y is not None
        if not isinstance(train, Split) and not known:
            raise ValueError(
                "CRD must know the position and the class of every training example: of data from "
                "datasets.from_loaders they are known for a map-style Dataset (or a DataLoader of "
                "it with torch's own collate function) that has its classes as `targets`, as "
                "torchvision's have."
            )
        weight, n, generator = (
            self.embed_student.weight,
            len(train),
            torch.Generator().manual_seed(0),
        )
        device = weight.device
        teachers = precise(self.embed_teacher.weight.detach()).dtype
        dtype = torch.promote_types(precise(weight.detach()).dtype, teachers)
        # Uniform numbers of variance 1 / dimensions: rows of length about 1.
        bound = 1 / math.sqrt(self.dimensions / 3)
        for name in ("memory_student", "memory_teacher"):
            self.register_buffer(
                name,
                torch.empty(n, self.dimensions)
                .uniform_(-bound, bound, generator=generator)
                .to(device, dtype),
            )
        self.register_buffer("z", torch.zeros(2).to(self.memory_student))
        rows = torch.full((int(train.index.max()) + 1,), -1)
        rows[train.index] = torch.arange(n)
        self._rows = rows  # on the CPU, as a batch's index is
        y = class_labels(train.y, "CRD")
        self.register_buffer("labels", y.clone().to(device), persistent=False)
        self.register_buffer("by_class", y.argsort(stable=True).to(device), persistent=False)
        self._others = n - int(y.bincount().max())
        if not self._others:
            raise ValueError(
                "CRD needs at least two classes: all training examples have the same one."
            )

    def _load_from_state_dict(self, state, prefix, *args):
        saved, mine = (
            None if m is None else len(m)
            for m in (state.get(prefix + "memory_student"), getattr(self, "memory_student", None))
        )
        if saved != mine:
            raise ValueError(
                f"the saved CRD memory holds {saved} training examples and this one {mine}: a run "
                "can only be continued with "
                "the data it began with. Use the same data and validation fraction, or start a new "
                "run."
            )
        super()._load_from_state_dict(state, prefix, *args)

    def _positions(self, index: Tensor | None, size: int) -> Tensor:
        if not hasattr(self, "memory_student"):
            raise ValueError(
                "CRD keeps a memory of all training images: train it with fit, or call "
                "prepare(data.train) first."
            )
        if index is None:
            raise ValueError(
                "CRD finds each image's place in its memory by batch.index, and this batch has "
                "none."
            )
        if index.dtype != torch.int64 or index.shape != (size,):
            raise ValueError(
                f"batch.index has shape {tuple(index.shape)} and dtype {index.dtype}; expected "
                f"({size},) int64, one per "
                "image."
            )
        known = (index >= 0) & (index < len(self._rows))
        rows = torch.where(known, self._rows[index.clamp(0, len(self._rows) - 1)], -1)
        if bool((rows < 0).any()):
            raise ValueError(
                f"batch.index holds {index[rows < 0][:5].tolist()}, which are not among the "
                f"{len(self.memory_student)} training "
                "examples that CRD was prepared for."
            )
        return sent(rows, self.memory_student.device)

    def losses(self, outputs: Outputs):
        ((own, theirs),) = self.pairs(outputs)
        y = class_labels(outputs.batch.y, "CRD")
        rows = self._positions(outputs.batch.index, len(y))
        student, teacher = (
            F.normalize(precise(embed(f.flatten(1).to(embed.weight.dtype))), dim=1).to(
                self.memory_student.dtype
            )
            for embed, f in ((self.embed_student, own), (self.embed_teacher, theirs))
        )
        k = min(self.negatives, self._others)
        draw = draw_negatives if readable(y) else _draw_unread
        drawn, mask = draw(self.labels, y, k)
        positives = rows if self.mode == "exact" else self._classmates(y)
        total = sum(
            self._side(i, v, memory, positives, drawn, mask, k)
            for i, (v, memory) in enumerate(
                ((student, self.memory_teacher), (teacher, self.memory_student))
            )
        )
        if self.training:
            rows = gathered(rows)  # of all processes: each keeps the whole memory
            for memory, v in ((self.memory_student, student), (self.memory_teacher, teacher)):
                memory[rows] = F.normalize(
                    torch.lerp(gathered(v.detach()), memory[rows], self.momentum), dim=1
                )
        return label_term(outputs, self.ce_weight) | {"crd": self.crd_weight * total}

    def _embedded(self, embed: nn.Linear, feature: Tensor) -> Tensor:
        """Rows of length 1, in the memory's type whatever the network's is."""
        rows = precise(embed(feature.flatten(1).to(embed.weight.dtype)))
        return F.normalize(rows, dim=1).to(self.memory_student.dtype)

    @full_precision
    def _side(
        self,
        i: int,
        v: Tensor,
        memory: Tensor,
        positives: Tensor,
        drawn: Tensor,
        mask: Tensor,
        k: int,
    ) -> Tensor:
        """One network's embeddings against the memory of the other's."""
        v = v / self.temperature
        positive, negative = (
            (v * memory[positives]).sum(1).exp(),
            (v @ memory.index_select(0, drawn).T).exp(),
        )
        read = readable(self.z)  # a GPU would have to be waited for in every step
        if not read or not self.z[i]:
            first = (
                (positive.detach().sum() + (negative.detach() * mask).sum())
                / (len(v) * (k + 1))
                * len(memory)
            )
            self.z[i] = torch.where(self.z[i] == 0, mean(first), self.z[i])
        z = float(self.z[i]) if read else self.z[i]
        return contrast_loss(positive, negative, mask, k, len(memory), z)

    def _classmates(self, y: Tensor) -> Tensor:
        """A random row of the memory of each image's own class."""
        count = self.labels.bincount(minlength=int(self.labels.max()) + 1)
        start = count.cumsum(0) - count
        return self.by_class[start[y] + (torch.rand(len(y), device=y.device) * count[y]).long()]
