"""What came out of a grid: tables with paired confidence intervals, the published figures beside
them, a figure, exports.
"""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..runs import short_hash
from ..training.settings import VALIDATION
from .columns import ACCURACY, measured, word
from .estimate import estimate
from .grid import Cell, Grid
from .intervals import gain_interval
from .published import published
from .store import Store
from .teacher_cache import planned

AXES = ["net", "label_noise", "imbalance", "teacher_sees"]
MORE = [
    "dataset",
    "data",
    "images",
    "epochs",
    "fit",
    "threads",
    "corruption_seed",
]  # of other grids in the same store
FEWEST = 3  # pairs of runs without which nothing is called clear
# How the published tables call our methods, networks and axes.
METHODS = {"Baseline": "CrossEntropy", "Vanilla": "CrossEntropy", "KD": "Hinton", "RKD": "RKD-DA"}
COLUMNS = {"noise_rate": "label_noise", "gamma": "imbalance", "student": "net"}


class Results:
    """The runs of a grid, or of a whole store.

    Args:
        store: Where they lie.
        cells: The runs of the grid; None: all of the store.

    Example:
        >>> import tempfile
        >>> results = Results(Store(tempfile.mkdtemp()))
        >>> len(results.frame()), status(results)
        (0, 'no runs yet')
    """

    def __init__(self, store: Store, cells: Sequence[Cell] | None = None):
        self.store, self.cells = store, cells

    def frame(self) -> pd.DataFrame:
        """All runs of students, failed and pending ones included.

        Returns:
            A row per run: net, method, label_noise, imbalance, teacher_sees, seed, status, reason,
            accuracies, seconds.
        """
        frame = self.store.frame()
        known = set(frame["key"]) if len(frame) else set()
        if self.cells is not None:
            absent = [
                {
                    "key": c.key,
                    **c.spec,
                    "method": c.label,
                    "method_is": short_hash(c.spec["method"]),
                    "teacher_sees": c.teacher_sees,
                    "status": "pending",
                }
                for c in self.cells
                if c.key not in known
            ]
            frame = pd.concat([f for f in (frame, pd.DataFrame(absent)) if len(f)]).set_index("key")
            frame = frame.loc[[c.key for c in self.cells]].reset_index()
            return frame.assign(method=[c.label for c in self.cells])
        students = self.store.students()
        absent = pd.DataFrame(
            [
                {"key": key, "status": "pending"}
                for key in dict.fromkeys(students)
                if key not in known
            ]
        )
        if not len(frame):
            return absent
        frame = frame[frame["key"].isin(students) | ~frame["key"].isin(frame["teacher"].dropna())]
        frame = frame.sort_values([*AXES, "method", "seed"], ignore_index=True)
        return pd.concat([frame, absent], ignore_index=True) if len(absent) else frame

    def metrics(self) -> list[str]:
        """The test metrics that finished runs have.

        Returns:
            Columns of ``frame``; ``table`` shows the first.
        """
        frame = self.frame()
        return [c for c in measured(frame) if frame[c].notna().any()]

    def table(
        self, metric: str | None = None, baseline: str = "CrossEntropy", confidence: float = 0.95
    ) -> pd.DataFrame:
        """The runs by method and setting.

        Args:
            metric: A column of ``frame``, one of ``metrics()``; by default the first of them.
            baseline: The method with which the others are compared, seed by seed.
            confidence: Of the intervals.

        Returns:
            Per method and setting: seeds, mean and std (shares in percent), the gain over the
            baseline (positive is better, also where less of the metric is) with its interval and
            the number of pairs, "clear" where the interval of at least three pairs leaves out 0
            (counting the steps of a small test set in, ``intervals.paired_intervals``),
            "unfinished", how many runs have no result, and the mean at the best
            epoch on validation.

        Raises:
            ValueError: For a metric that no run has.
        """
        table = self._whole_table(metric, baseline, confidence).drop(columns="trained_on")
        table = table.drop(columns=[c for c in _axes(table) if table[c].nunique(dropna=False) == 1])
        return table.set_index([*_axes(table), "method"])

    def _whole_table(
        self, metric: str | None = None, baseline: str = "CrossEntropy", confidence: float = 0.95
    ) -> pd.DataFrame:
        """``table`` with all axes as columns, also those that do not vary."""
        frame, known = self.frame(), self.metrics()
        metric = known[0] if metric is None and known else metric or ACCURACY
        if metric not in frame:
            raise ValueError(f"no finished run has {metric!r}; there is {known or 'nothing yet'}.")
        less = "better" in frame and bool((frame["better"] == "lower").any())
        share = not less and bool(frame[metric].dropna().between(0, 1).all())
        scale, sign = 100 if share else 1, -1 if less else 1
        frame = _told_apart(frame[frame["method"].notna()])
        # Runs of other grids in the same store are other settings, never more seeds of one.
        more = [c for c in MORE if frame[c].astype(str).nunique() > 1]
        if frame.dropna(subset=["teacher"])["teacher_net"].nunique() > 1:
            more.append("teacher_net")
        frame = frame.assign(
            imbalance=frame["imbalance"].astype(float).fillna(0.0),
            value=scale * frame[metric],
            **{c: frame[c].fillna("").astype(str) for c in more},
        )
        # Runs from before it was written down: what they asked for.
        asked = frame["fit"].map(lambda f: 1 - f.get("validation", VALIDATION))
        seen = frame["trained_on"].fillna(asked) if "trained_on" in frame else asked
        frame["trained_on"] = (100 * seen).map("{:.3g} %".format)
        axes, rows = [*AXES, *more], []
        setting = ["net", "label_noise", "imbalance", *(c for c in more if c != "teacher_net")]
        base = frame[frame["method"] == baseline].dropna(subset=["value"])
        for column in (
            "teacher_sees",
            "teacher_net",
        ):  # a baseline that learns from a teacher is paired with runs of the same teacher
            if base.duplicated([*setting, "seed"]).any() and column in frame:
                setting.append(column)
        base = base.set_index([*setting, "seed"])["value"]
        for key, runs in frame.groupby([*axes, "method"], sort=False, dropna=False):
            done = runs.dropna(subset=["value"]).set_index([*setting, "seed"])["value"]
            paired = sign * (done - base.reindex(done.index)).dropna()
            # A run from before it was written down has as fine a test set as there can be.
            tested = runs["test_examples"].min() if "test_examples" in runs else np.nan
            grain = scale / tested if share and tested > 0 else 0.0
            low, high = gain_interval(paired, confidence)
            sure = gain_interval(paired, confidence, grain)
            best = (
                scale * runs[metric.replace("_last", "_best")].dropna()
                if metric.replace("_last", "_best") in runs
                else done[:0]
            )
            rows.append(
                {
                    **dict(zip([*axes, "method"], key)),
                    "seeds": len(done),
                    "mean": done.mean(),
                    "std": done.std(ddof=1),
                    "best_on_validation": best.mean(),
                    "gain": paired.mean() if key[-1] != baseline else np.nan,
                    "low": low if key[-1] != baseline else np.nan,
                    "high": high if key[-1] != baseline else np.nan,
                    "pairs": len(paired) if key[-1] != baseline else 0,
                    "clear": len(paired) >= FEWEST and (sure[0] > 0 or sure[1] < 0),
                    "unfinished": len(runs) - len(done),
                    "trained_on": ", ".join(sorted(set(runs["trained_on"]))),
                }
            )
        table = pd.DataFrame(rows).round(9)  # equal runs gain 0, not 3e-15
        table.attrs = {"metric": word(metric), "unit": " (% points)" if share else ""}
        return table

    def against(self, name: str, **kwargs) -> pd.DataFrame:
        """``table()`` beside a published one.

        Args:
            name: The beginning of a published table's name, as in ``published``.
            **kwargs: Of ``table``.

        Returns:
            ``table`` with "published" mean and std, and its gain over its own baseline, and with
            "trained_on", the share of the training images that ours learned from: the others were
            held out for validation. Rows that only one has stay, with gaps. Networks are compared
            where both name them.

        Raises:
            ValueError: For an unknown table.
        """
        theirs = published(name).rename(columns=COLUMNS).replace({"method": METHODS})
        if "net" in theirs:
            theirs["net"] = (
                theirs["net"].str.lower().str.replace("-", "", n=1).str.replace("-", "_")
            )
        ours = self._whole_table(**kwargs)
        for axis in {"label_noise", "imbalance"} - set(
            theirs
        ):  # a table without corruption has nothing to say of corrupted data
            ours = ours[ours[axis] == 0]
        on = [
            c
            for c in ("net", "label_noise", "imbalance", "method")
            if c in theirs and (c in ours or c == "method")
        ]
        others = [c for c in on if c != "method"]
        base = (
            theirs[theirs["method"] == "CrossEntropy"].set_index(others)["mean"] if others else None
        )
        if base is not None:
            theirs["published_gain"] = theirs["mean"] - [
                base.get(k, np.nan) for k in theirs.set_index(others).index
            ]
            theirs.loc[theirs["method"] == "CrossEntropy", "published_gain"] = np.nan
        theirs = theirs.rename(columns={"mean": "published", "std": "published_std"})
        theirs = theirs[[*on, *(c for c in theirs if c.startswith("published"))]]
        constant = [c for c in _axes(ours) if ours[c].nunique(dropna=False) == 1 and c not in on]
        both = ours.drop(columns=constant).merge(theirs, on=on, how="outer", sort=False)
        return both.set_index([*_axes(both), "method"])

    def plot(self, **kwargs):
        """Gains over the baseline with their intervals, a panel per setting.

        Args:
            **kwargs: Of ``table``.

        Returns:
            The matplotlib figure.
        """
        from .figure import draw_gains

        return draw_gains(self.table(**kwargs))

    def export(self, path: str | Path, **kwargs) -> Path:
        """Writes every run, or the table.

        Args:
            path: Every run to .parquet (needs pyarrow) or .csv; the ``table`` to .md or .tex.
            **kwargs: Of ``table``.

        Returns:
            The path.

        Raises:
            ValueError: For another ending; for .parquet without pyarrow.
        """
        path = Path(path)
        if path.suffix == ".parquet":
            try:
                self.frame().astype({"fit": str, "method": str}, errors="ignore").to_parquet(path)
            except ImportError:
                raise ValueError(
                    "writing .parquet needs pyarrow: pip install pyarrow, or export to .csv."
                ) from None
        elif path.suffix == ".csv":
            self.frame().to_csv(path, index=False)
        elif path.suffix in (".md", ".tex"):
            path.write_text(typeset(self.table(**kwargs), path.suffix[1:]), encoding="utf-8")
        else:
            raise ValueError(f"{path.name}: a table is exported to .parquet, .csv, .md or .tex.")
        return path


def _told_apart(frame: pd.DataFrame) -> pd.DataFrame:
    """Methods of one name that are not the same, such as two versions of a class of one's own, as
    two names: the name with the first digits of what each is.
    """
    if "method_is" not in frame:
        return frame
    kinds = frame.groupby("method")["method_is"].transform("nunique")
    marked = frame["method"] + " #" + frame["method_is"].astype(str).str[:4]
    return frame.assign(method=frame["method"].where(kinds < 2, marked))


def _axes(table: pd.DataFrame) -> list[str]:
    return [c for c in (*AXES, *MORE, "teacher_net") if c in table]


def load(store: str | Path) -> Results:
    """The results of every grid in a store, also while they run.

    Args:
        store: The store's folder.

    Returns:
        ``Results``.

    Raises:
        FileNotFoundError: Where there is no store.
        ValueError: For a store of an incompatible version.
    """
    return Results(Store(store, create=False))


def status(results: Results) -> str:
    """How far the runs are, in words.

    Args:
        results: Of a grid or a store.

    Returns:
        A line per state with the number of runs, and a line per run that could not finish, with its
        reason.
    """
    frame = results.frame()
    if not len(frame):
        return "no runs yet"
    lines = [f"{count:6} {state}" for state, count in frame["status"].value_counts().items()]
    if "reason" in frame:
        lines += [
            f"{r.key}  {r.method}, {r.net}, seed {r.seed}: {r.status}: "
            f"{str(r.reason).splitlines()[0]}"
            for r in frame.dropna(subset=["reason"]).itertuples()
        ]
    return "\n".join(lines)


def forecast(grid: Grid, store: str | Path, workers: int = 1) -> str:
    """What a grid would do in a store.

    Args:
        grid: What would run.
        store: The store's folder; it may not exist yet, and is not made.
        workers: So many runs at once.

    Returns:
        Text: runs, those pending, and the time that they would take.

    Raises:
        ValueError: For a grid that cannot work.
    """
    home = Store(store) if (Path(store) / "store.json").exists() else None
    cells, plans = planned(grid.cells(), grid.cache_logits, home)
    table = pd.DataFrame(estimate(cells, home))
    whole = table["seconds"].sum() / workers
    notes = "".join(f"\n{plan} The time above is without that." for plan in plans if plan.stored)
    return (
        table.assign(seconds=table["seconds"].round(1)).to_string(index=False)
        + f"\n{table['runs'].sum()} runs, {table['pending'].sum()} of them pending: about "
        f"{_duration(whole)} with {workers} at once." + notes
    )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return (
        f"{hours} h {rest // 60} min"
        if hours
        else f"{rest // 60} min {rest % 60} s"
        if rest >= 60
        else f"{rest} s"
    )


def _escaped(text: str, kind: str) -> str:
    """Text of a store as text: names are somebody's, and no code of the page or the document."""
    if kind == "html":
        return html.escape(text)
    marks = {"md": "\\`*<>|[]", "tex": "&%$#_{}"}[kind]
    text = text.replace("\\", "\\textbackslash ") if kind == "tex" else text
    return "".join(f"\\{c}" if c in marks else c for c in text)


def typeset(table: pd.DataFrame, kind: str) -> str:
    """A ``Results.table`` as text: mean ± std, the gain with its interval.

    Nothing is bold; a star marks a clear gain.

    Args:
        table: As ``Results.table`` gives it.
        kind: "md", "tex" or "html".

    Returns:
        The text.
    """
    flat = table.reset_index()
    head = [*_axes(flat), "method"]
    number = lambda x, sign="": "" if pd.isna(x) else format(x, f"{sign}.2f")
    told = lambda text: _escaped(str(text), kind)
    pm = {"tex": "$\\pm$", "html": "&plusmn;"}.get(kind, "±")
    words = ["seeds", told(table.attrs.get("metric", "accuracy")), "gain", "interval", "pairs"]
    lines = [[*(told(c.replace("_", " ")) for c in head), *words, "best on validation"]]
    for _, r in flat.iterrows():
        gain = "" if pd.isna(r["gain"]) else number(r["gain"], "+") + (" *" if r["clear"] else "")
        lost = int(r.get("unfinished", 0))
        lines.append(
            [
                *(told(r[c]) for c in head),
                f"{r['seeds']} of {r['seeds'] + lost}" if lost else str(r["seeds"]),
                f"{number(r['mean'])} {pm} {number(r['std'])}",
                gain,
                "" if pd.isna(r["low"]) else f"[{number(r['low'], '+')}, {number(r['high'], '+')}]",
                str(r["pairs"] or ""),
                number(r["best_on_validation"]),
            ]
        )
    if kind == "tex":
        rows = [" & ".join(line) + r" \\" for line in lines]
        return (
            "\n".join(
                [
                    rf"\begin{{tabular}}{{{'l' * len(head)}rrrrrr}}",
                    r"\toprule",
                    rows[0],
                    r"\midrule",
                    *rows[1:],
                    r"\bottomrule",
                    r"\end{tabular}",
                    "% * the interval leaves out 0",
                ]
            )
            + "\n"
        )
    if kind == "html":
        rows = [
            "".join(
                f"<t{'dh'[not i]} style='padding: 2px 10px; text-align: "
                f"{'left' if j < len(head) else 'right'}'>{cell}</t{'dh'[not i]}>"
                for j, cell in enumerate(line)
            )
            for i, line in enumerate(lines)
        ]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table>{body}</table><small>* the interval leaves out 0</small>"
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    return (
        "\n".join(
            [rows[0], "|" + "---|" * len(lines[0]), *rows[1:], "", "\\* the interval leaves out 0"]
        )
        + "\n"
    )
