"""Ways to run one study side by side: strategies, settings, recipes; in one table."""

import html
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.documents import plots
from consilium.documents.estimate import Estimate, Figures, figures_of
from consilium.documents.finding import enough
from consilium.documents.plots import Plot
from consilium.documents.terms import METRICS, Metric, interval, number
from consilium.notebook.asked import in_words_of_the_api, wanted
from consilium.notebook.frames import frame as frame_of
from consilium.notebook.hospitals import Hospitals, mappings
from consilium.notebook.simulated import ran
from consilium.notebook.studies import changed
from consilium.simulation.scenario import Found

if TYPE_CHECKING:  # an extra, and only for who wants frames
    import pandas as pd

Row = dict[str, Any]
ALL = "all"
ENDS = ("worst", "best")
WIDE = 160
"""Letters of a line of the table as text."""
MOST = 6
"""Hospitals that have a column each in the table for people."""
FEWER = "too few"
"""In place of a figure of a hospital with fewer than ten patients of a class."""


@dataclass(frozen=True)
class Way:
    """One way, and what came of it: figures over all hospitals under `all`, and of each hospital by its name."""

    study: Study
    figures: Mapping[str, Figures]
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """Ways by name, in the order in which they were asked for.

    set_aside: whether judged on patients of the training part, and not on those who are held out.
    """

    ways: Mapping[str, Way]
    set_aside: bool

    @property
    def metric(self) -> Metric:
        """By which they are compared if no other is asked for: the first that this kind of label has."""
        known = {name for way in self.ways.values() for name in way.figures[ALL]}
        return next(metric for name, metric in METRICS.items() if metric.leads and name in known)

    def rows(self, metric: str | None = None) -> list[Row]:
        """One row for each way: the figure over all hospitals with its interval, and its worst and best hospital.

        A hospital with fewer than ten patients of a class is not compared.

        Raises: Invalid: there is no such figure.
        """
        of = self._of(metric)
        return [self._row(name, way, of) for name, way in self.ways.items()]

    def by_hospital(self, metric: str | None = None) -> list[Row]:
        """One row for each hospital, and in it the figure of each way; None where it has too few patients of a class.

        Raises: Invalid: there is no such figure.
        """
        of, ways = self._of(metric), list(self.ways.items())
        return [
            {"hospital": site, **{name: one.value if (one := _drawn(way, site, of)) else None for name, way in ways}}
            for site in [*self.hospitals, ALL]
        ]

    @property
    def hospitals(self) -> list[str]:
        """All hospitals, by name."""
        return sorted({site for way in self.ways.values() for site in way.figures if site != ALL})

    def tables(self) -> dict[str, list[Row]]:
        """Rows of plain values: the ways, the hospitals, and every figure of every hospital with its interval."""
        return {"ways": self.rows(), "hospitals": self.by_hospital(), "figures": list(self._figures())}

    def frames(self) -> "dict[str, pd.DataFrame]":
        """The tables as pandas data frames.

        Raises: Refused: pandas, an extra, is not installed.
        """
        return {name: frame_of(rows) for name, rows in self.tables().items()}

    def frame(self, metric: str | None = None) -> "pd.DataFrame":
        """`rows` as a pandas data frame, one line for each way. Raises: as `rows` and `frames`."""
        return frame_of(self.rows(metric)).set_index("way")

    def plot(self, metric: str | None = None, ways: Sequence[str] | None = None) -> Plot:
        """The figure at each hospital and over all, with its interval, of up to four ways.

        Raises: Invalid: more than four, or one that was not compared.
        """
        of, chosen = self._of(metric), list(self.ways) if ways is None else list(ways)
        if strange := [name for name in chosen if name not in self.ways]:
            raise Invalid(f"{strange[0]} was not compared", f"choose among {', '.join(self.ways)}")
        if not 1 <= len(chosen) <= len(plots.SERIES):
            raise Invalid(f"a plot has room for 1 to {len(plots.SERIES)} ways", "name those that you want with `ways`")
        lines = []
        for site in [*self.hospitals, ALL]:
            marks = tuple(_drawn(self.ways[name], site, of) for name in chosen)
            n = max((one.n for one in marks if one is not None), default=0)
            label = "all hospitals" if site == ALL else site
            lines.append(plots.Line(label, f"n = {n}" if n else "", marks))
        title, limits = f"{of.word} by way, at each hospital", (0.0, 1.0) if of.share else None
        told = plots.summary(lines, chosen)
        sure = any(one is not None and one.low is not None for line in lines for one in line.marks)
        axis = f"{of.word} (with its interval)" if sure else of.word
        return Plot(plots.forest(lines, chosen, axis, title, told, limits=limits))

    @property
    def note(self) -> str:
        """What is to be known of a choice by this table."""
        count, on = len(self.ways), "a part of the training patients" if self.set_aside else "the held-out patients"
        if count == 1:
            return f"One way on {on}."
        judge = (
            "those who are held out judge what is chosen, in simulate"
            if self.set_aside
            else "what is chosen by them must be judged on others"
        )
        return f"{count} ways on {on}: {judge}. The best of several looks better than it is."

    def text(self, metric: str | None = None) -> str:
        """The table for people. Raises: Invalid: there is no such figure."""
        rows = self._cells(self._of(metric))
        # in a notebook rich would show what is captured here as well
        terminal = Console(width=WIDE, color_system=None, force_terminal=False, force_jupyter=False)
        table = Table(*rows[0], box=None, pad_edge=False)
        for row in rows[1:]:
            table.add_row(*map(Text, row))
        with terminal.capture() as said:
            terminal.print(table)
        lines = [line.rstrip() for line in said.get().splitlines()]
        return "\n".join([*lines, *textwrap.wrap(self.note, 100)])

    def __str__(self) -> str:
        """By the metric that leads."""
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head, *body = [[html.escape(cell) for cell in row] for row in self._cells(self.metric)]
        top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
        lines = "".join(
            f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in body
        )
        caption = f"<caption>{html.escape(self.note)}</caption>"
        return f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"

    def _cells(self, of: Metric) -> list[list[str]]:
        """The table for people, by hospital where they are few; the first row heads it."""
        sites = self.hospitals if len(self.hospitals) <= MOST else []
        head = ["way", f"{of.word}, all", *(sites or ("worst hospital", "best hospital"))]
        rows = [head]
        for name, row in zip(self.ways, self.rows(of.id)):
            way = self.ways[name]
            over = interval(way.figures[ALL].get(of.id, Estimate(None)), partial(number, digits=3))
            if sites:
                middle = [number(one.value, 3) if (one := _drawn(way, site, of)) else FEWER for site in sites]
            else:
                middle = [f"{number(row[end], 3)} {row[f'{end}_hospital'] or FEWER}".strip() for end in ENDS]
            rows.append([name, over, *middle])
        return rows

    def _of(self, metric: str | None) -> Metric:
        if metric is None:
            return self.metric
        if metric not in METRICS or not any(metric in way.figures[ALL] for way in self.ways.values()):
            known = sorted({name for way in self.ways.values() for name in way.figures[ALL]} & METRICS.keys())
            raise Invalid(f"there is no figure {metric}", f"choose one of {', '.join(known)}")
        return METRICS[metric]

    def _row(self, name: str, way: Way, of: Metric) -> Row:
        over = way.figures[ALL].get(of.id, Estimate(None))
        at = {site: one.value for site in self.hospitals if (one := _drawn(way, site, of)) is not None}
        told = sorted(((value, site) for site, value in at.items() if value is not None), reverse=not of.more_is_better)
        ends: Row = dict.fromkeys(("worst", "worst_hospital", "best", "best_hospital"))
        if told:
            (worst, where), (best, there) = told[0], told[-1]
            ends = {"worst": worst, "worst_hospital": where, "best": best, "best_hospital": there}
        told_ = {"metric": of.id, "n": over.n, "value": over.value, "low": over.low, "high": over.high}
        return {"way": name, "strategy": way.study.strategy.name, **told_, **ends, "seconds": way.seconds}

    def _figures(self) -> Iterator[Row]:
        for name, way in self.ways.items():
            for site, figures in way.figures.items():
                for metric, one in figures.items():
                    yield {"way": name, "hospital": site, "metric": metric, **vars(one)}


def compare(
    study: Study, hospitals: Hospitals, ways: Sequence[str] | Mapping[str, str | Mapping[str, Any]], *,
    held_out: bool = False, sites: int | None = None, partition: str = "natural", patients: int | None = None,
    least: int = 1, executor: str = "inline", workers: int | None = None, cluster: str | None = None,
    gpus: float = 0.0, drop: float = 0.0, slow: str | None = None, seed: int = 1, progress: bool | None = None,
) -> Comparison:  # fmt: skip
    """Simulate a study in several ways, among the same sites with the same patients.

    They are judged on a part of the training patients that no way trains on. Who is held out by the study is left out:
    a choice by this table does not see them, and they can judge what was chosen.

    Args:    ways: names of strategies; or by name a strategy, or changes of the study file, such as
             ``{"ditto": {"strategy": {"name": "ditto", "options": {"penalty": 1.0}}, "rounds": 40}}``.
             held_out: judge on the study's held-out patients instead.   The others are those of `simulate`.
    Raises:  Invalid: there is nothing to compare.   StudyInvalid: a way is not possible.   What `simulate` may raise.
    """
    asked = ways if isinstance(ways, Mapping) else {name: name for name in ways}
    if not asked:
        raise Invalid("there is nothing to compare", "name a strategy or two")
    studies, done = {}, {}
    for name, changes in asked.items():  # before anything is trained
        with in_words_of_the_api(name):
            studies[name] = changed(study, changes)
    with in_words_of_the_api():
        of = wanted(
            sites=sites, partition=partition, patients=patients, least=least, executor=executor, workers=workers,
            cluster=cluster, gpus=gpus, drop=drop, slow=slow, seed=seed, set_aside=not held_out,
        )  # fmt: skip
        with mappings(study, hospitals) as known:
            for name, one in studies.items():
                began = time.perf_counter()
                with in_words_of_the_api(name):
                    found = ran(one, known, of, name, progress)
                done[name] = Way(one, _judged(found), time.perf_counter() - began)
    return Comparison(done, not held_out)


def _judged(found: Found) -> dict[str, Figures]:
    figures = found.outcome.figures
    return {ALL: figures_of(figures["all"]), **{site: figures_of(one) for site, one in figures["sites"].items()}}


def _drawn(way: Way, site: str, of: Metric) -> Estimate | None:
    """A hospital's figure, if it has enough patients of each class to be compared."""
    figures = way.figures.get(site, {})
    found = figures.get(of.id)
    return found if found is not None and found.value is not None and enough(figures) else None
