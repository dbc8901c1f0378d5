"""What ``fit`` returns: the record of a run."""

import math
from dataclasses import dataclass, field


@dataclass
class History:
    """What happened in a run.

    Attributes:
        rows: one dict per epoch: epoch, stage, lr, loss, each term's mean, what the method logged,
            val_<metric>; players and networks beyond the first stand under their names.
        status: "finished", "early" (finished, by ``patience``), "interrupted" or "stopped".
        result: for the validation metric (if there was a validation split) and the test metric: the
            last epoch's value and, beside it, the value at the best epoch on validation, with wall
            seconds.
        spec: everything that decided the result.

    Example:
        >>> rows = [{"epoch": 1, "val_mse": 0.5}, {"epoch": 2, "val_mse": 0.75}]
        >>> History(rows, spec={"metric": "mse", "better": "lower"}).best()["epoch"]
        1
    """

    rows: list[dict] = field(default_factory=list)
    status: str = "finished"
    result: dict = field(default_factory=dict)
    spec: dict = field(default_factory=dict)

    def frame(self):
        """A tidy pandas table: epoch, stage, lr, loss, each loss term's mean, val_<metric>,
        seconds.
        """
        import pandas as pd

        return pd.DataFrame(self.rows)

    def best(self, since: int = 0) -> dict | None:
        """The row of the epoch that was best on the validation split (None without one); ties go to
        the earlier.

        Args:
            since: look only at the epochs after this one.
        """
        scored = [r for r in self.rows[since:] if math.isfinite(r.get(self.metric, math.nan))]
        choose = min if self.spec.get("better") == "lower" else max
        return choose(scored, key=lambda r: r[self.metric]) if scored else None

    @property
    def metric(self) -> str:
        return "val_" + self.spec.get("metric", "accuracy")

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v:.4g}" for k, v in self.result.items() if isinstance(v, float))
        return f"History({len(self.rows)} epochs, {self.status}{', ' + shown if shown else ''})"
