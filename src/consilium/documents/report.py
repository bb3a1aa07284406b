"""The report of a run: facts, what must be seen first, items of TRIPOD+AI; as a page, as JSON, as data frames."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from consilium.core.errors import EXTRA, Refused
from consilium.core.study import Study
from consilium.documents import page, plots
from consilium.documents.estimate import Figures, Json
from consilium.documents.facts import Facts
from consilium.documents.findings import Findings, findings
from consilium.documents.gathered import gathered
from consilium.documents.plots import Plot
from consilium.documents.tripod import Item, items

if TYPE_CHECKING:  # an extra, and only for who wants frames
    import pandas as pd

VERSION = 1
"""Of the report as JSON."""
PLAIN = (
    "origin", "study", "run", "plan", "status", "model", "judged", "judged_by", "privacy", "learns", "withheld",
    "confidence", "planned", "regression",
)  # fmt: skip
"""Facts that stand in the JSON as they are."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """A report, made at a moment."""

    facts: Facts
    findings: Findings
    items: tuple[Item, ...]
    made: datetime

    @classmethod
    def of(cls, document: Json, made: datetime, study: Study | None = None, baseline: Json | None = None) -> Self:
        """The report of what `study result`, `demo` or `simulate` wrote as JSON.

        Args:    study: adds purpose, contract and methods.   baseline: what `baseline` wrote as JSON: adds each
                 hospital's own model and the pooled one.
        Raises:  Invalid: the document is of none of these, or the baseline is of another study or of other patients.
        """
        facts = gathered(document, study, baseline)
        found = findings(facts)
        return cls(facts, found, items(facts, found), made)

    def html(self) -> str:
        """One page that stands alone: it loads nothing and runs nothing."""
        return page.html(self.facts, self.findings, self.items, self.made)

    def plots(self) -> dict[str, Plot]:
        """The page's plots, by the id of their section; a section's second one is `ID-2`, and so on."""
        found = {}
        for part in page.sections(self.facts, self.findings, self.items):
            name = dict(part.attributes)["id"]
            for number, drawn in enumerate(plots.drawn(part), 1):
                found[name if number == 1 else f"{name}-{number}"] = drawn
        return found

    def tables(self) -> dict[str, list[Row]]:
        """All of it as rows of plain values, one list per table."""
        return {
            "findings": [asdict(one) for one in self.findings.found],
            "figures": list(self._figures()),
            "groups": list(self._groups()),
            "gaps": list(self._gaps()),
            "curves": list(self._curves()),
            "patients": [{"hospital": one.name, **asdict(one.flow), "out": one.out} for one in self.facts.hospitals],
            "rounds": list(self._rounds()),
            "tripod": [asdict(one) for one in self.items],
        }

    def _figures(self) -> Iterator[Row]:
        for model, figures in self.facts.everyone.items():
            yield from _rows("all", model, figures)
        for one in self.facts.hospitals:
            for model, figures in one.figures.items():
                yield from _rows(one.name, model, figures)

    def _groups(self) -> Iterator[Row]:
        if (last := self.facts.last) is not None:
            for feature, parts in last.groups.items():
                for group, worth in parts.items():
                    for row in _rows("all", "federated", worth.figures):
                        yield {"feature": feature, "group": group, **row}
                    if not worth.figures:
                        yield {"feature": feature, "group": group, "note": worth.note}

    def _gaps(self) -> Iterator[Row]:
        for one in self.facts.last.gaps if self.facts.last is not None else ():
            known = {"feature": one.feature, "group": one.group, "metric": one.name}
            yield {**known, **vars(one.estimate), "clear": one.clear}

    def _curves(self) -> Iterator[Row]:
        """Points of the calibration curve, the ROC curve and the decision curve, by `curve`."""
        if (last := self.facts.last) is None:
            return
        for point in last.everyone.curve:
            ends = {"score_from": point.low, "score_to": point.high}
            yield {"curve": "calibration", "x": point.predicted, **ends, **vars(point.observed)}
        for cut in last.everyone.cuts:
            place = {"x": cut.false_positive_rate, "value": cut.sensitivity}
            yield {"curve": "roc", **place, "threshold": cut.threshold}
        for row in last.everyone.thresholds:
            for key in ("net_benefit", "net_benefit_of_all"):
                if key in row.figures:
                    yield {"curve": key, "x": row.threshold, "threshold": row.threshold, **vars(row.figures[key])}

    def _rounds(self) -> Iterator[Row]:
        for one in self.facts.rounds:
            known = {"round": one.number, "kind": one.kind, "took_part": one.count, "refused": len(one.refused)}
            for metric, figure in one.figures.items():
                yield {**known, "metric": metric, **vars(figure)}
            if not one.figures:
                yield {**known, "note": one.withheld} if one.withheld else known

    def to_json(self) -> Row:
        """The same as data."""
        facts = self.facts
        return {
            "consilium_report": VERSION,
            "made": self.made.isoformat(),
            **{name: getattr(facts, name) for name in PLAIN},
            "weaker": list(facts.weaker), "unlearned": list(facts.unlearned),
            "audit": [dict(one) for one in facts.audit], "comparisons": self.findings.comparisons,
            **self.tables(),
        }  # fmt: skip

    def frames(self) -> "dict[str, pd.DataFrame]":
        """The tables as pandas data frames.

        Raises: Refused: pandas, an extra, is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise Refused("data frames need pandas", EXTRA.format("notebook"), reason="extra") from error
        return {name: pd.DataFrame(rows) for name, rows in self.tables().items()}


def _rows(hospital: str, model: str, figures: Figures) -> Iterator[Row]:
    for metric, one in figures.items():
        yield {"hospital": hospital, "model": model, "metric": metric, **vars(one)}
