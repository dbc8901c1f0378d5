"""ConceptReport: the six metrics of one network with intervals, image by image and checkpoint by
checkpoint; and two side by side.
"""

from dataclasses import dataclass, field

from torch import Tensor

from ..errors import explained

# Each metric and the sign of the paper's claim: does distillation raise (+1) or lower (-1) it?
METRICS = {"n_fg": +1, "n_bg": -1, "lambda": +1, "d_mean": -1, "d_std": -1, "rho": +1}
HYPOTHESES = {"n_fg": 1, "n_bg": 1, "lambda": 1, "d_mean": 2, "d_std": 2, "rho": 3}


@explained
@dataclass(frozen=True, eq=False)
class ConceptReport:
    """What ``concept_metrics`` found.

    Its metrics are attributes as well: ``n_fg``, ``n_bg``, ``lam`` (lambda), ``d_mean``, ``d_std``,
    ``rho``.

    Attributes:
        values: {metric: number} for n_fg, n_bg, lambda, d_mean, d_std, rho.
        intervals: {metric: (low, high)}, bootstrap over images.
        per_image: Columns of ``images()``.
        course: Columns of ``epochs()``.
        concepts: (M, n, g, g) bool, the concept cells of the n images that were kept,
            ``images()["image"]``.
        cells: (n, g, g) bool, their foreground.
        mask_source: Where it comes from.
        variant, threshold, confidence: As given to ``concept_metrics``.
        notes: What was left out or could not be said.
    """

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_image: dict[str, Tensor]
    course: dict[str, list]
    concepts: Tensor
    cells: Tensor
    mask_source: str
    variant: str
    threshold: float
    confidence: float
    notes: list[str] = field(default_factory=list)

    n_fg = property(lambda self: self.values["n_fg"])
    n_bg = property(lambda self: self.values["n_bg"])
    lam = property(lambda self: self.values["lambda"])
    d_mean = property(lambda self: self.values["d_mean"])
    d_std = property(lambda self: self.values["d_std"])
    rho = property(lambda self: self.values["rho"])

    def frame(self):
        """The metrics as a tidy table.

        Returns:
            A pandas table with a row per metric: metric, value, low, high, images, threshold,
            variant, masks.
        """
        import pandas as pd

        rows = [
            {"metric": k, "value": v, "low": self.intervals[k][0], "high": self.intervals[k][1]}
            for k, v in self.values.items()
        ]
        return pd.DataFrame(rows).assign(
            images=len(self.per_image["image"]),
            threshold=self.threshold,
            variant=self.variant,
            masks=self.mask_source,
        )

    def images(self):
        """The metrics image by image.

        Returns:
            A pandas table with a row per image: n_fg, n_bg, lambda, rho, epoch (m-hat: with the
            most foreground concepts), distance there, image.
        """
        import pandas as pd

        return pd.DataFrame({k: v.tolist() for k, v in self.per_image.items()})

    def epochs(self):
        """The metrics checkpoint by checkpoint, means over images.

        Returns:
            A pandas table with a row per checkpoint: epoch, n_fg, n_bg, lambda, baseline (H-bar,
            nats), distance of the weights.
        """
        import pandas as pd

        return pd.DataFrame(self.course)

    def __repr__(self) -> str:
        numbers = ", ".join(
            f"{k} {v:.3g} [{self.intervals[k][0]:.3g}, {self.intervals[k][1]:.3g}]"
            for k, v in self.values.items()
        )
        return (
            f"ConceptReport({numbers}; b = {self.threshold:g}, variant {self.variant!r}; "
            f"{'; '.join(self.notes)})"
        )


@explained
def compare_reports(distilled: ConceptReport, baseline: ConceptReport):
    """Two networks side by side.

    Args:
        distilled, baseline: Reports of a distilled network and of one trained on labels.

    Returns:
        A pandas table with a row per metric: metric, distilled, baseline, difference, claim
        ("higher" or "lower" when distilled, as the paper has it), agrees (bool; False when equal,
        None where a metric is NaN), hypothesis (1, 2 or 3).
    """
    import pandas as pd

    rows = []
    for metric, sign in METRICS.items():
        s, b = distilled.values[metric], baseline.values[metric]
        rows.append(
            {
                "metric": metric,
                "distilled": s,
                "baseline": b,
                "difference": s - b,
                "claim": "higher" if sign > 0 else "lower",
                "agrees": None if s != s or b != b else bool(sign * (s - b) > 0),
                "hypothesis": HYPOTHESES[metric],
            }
        )
    return pd.DataFrame(rows)
