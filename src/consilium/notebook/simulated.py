"""A study simulated on this machine, and what came of it."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consilium.algorithms.regression import Fit
from consilium.core.errors import Invalid
from consilium.core.study import Study
from consilium.core.tensors import Tensors, from_safetensors
from consilium.documents.estimate import figures_of
from consilium.documents.plots import Plot
from consilium.documents.terms import METRICS, interval, number
from consilium.durable import naming
from consilium.notebook.asked import in_words_of_the_api, wanted
from consilium.notebook.frames import frame
from consilium.notebook.hospitals import Hospitals, mappings
from consilium.progress import bar
from consilium.reportfile import Page
from consilium.simulation import baseline as baselines
from consilium.simulation import fitness, scenario
from consilium.simulation.rounds import Told
from consilium.simulation.scenario import Found, Wanted
from consilium.simulation.simulate import document

if TYPE_CHECKING:  # an extra, and only for who wants frames
    import pandas as pd

Json = dict[str, Any]
THREE = partial(number, digits=3)
COEFFICIENT = ("term", "words", "estimate", "error", "low", "high", "p")
"""Of a term of a regression, what its line in a data frame begins with."""


@dataclass(frozen=True)
class Simulated:
    """What came of a simulation. `document` is what `consilium simulate --json` prints."""

    found: Found
    document: Json

    def __repr__(self) -> str:
        """What was simulated, the figure that leads, and what is to be known of hospitals' data."""
        known, rounds = figures_of(self.document["figures"]["all"]), self.study.rounds
        leads = next((one for name, one in METRICS.items() if one.leads and name in known), None)
        told = f" {leads.word} {interval(known[leads.id], THREE)}, n = {known[leads.id].n}." if leads else ""
        head = f"{self.study.name}: {self.study.strategy.name}, {rounds} rounds, {len(self.found.sizes)} sites."
        return "\n".join([head + told, *self.notes])

    @property
    def study(self) -> Study:
        """The study as it was simulated."""
        return self.found.plan.study

    @property
    def figures(self) -> Json:
        """``{"all": {metric: figure}, "sites": {site: {metric: figure}}}`` of the final model, on held-out patients."""
        return {key: self.document["figures"][key] for key in ("all", "sites")}

    @property
    def without(self) -> Json:
        """By hospital, figures of a model trained without it, on its held-out patients, and under `all` of all of them.

        Empty unless `leave_one_out` was asked for.
        """
        return dict(self.document.get("without") or {})

    @property
    def notes(self) -> list[str]:
        """What is to be known of hospitals' data: what a federation would keep one out for, and what one lacks."""
        return notes(self.found)

    @property
    def regression(self) -> Fit | None:
        """The table of coefficients, if the strategy is newton, newton-path or webdisco."""
        return self.found.fit

    def coefficients(self) -> "pd.DataFrame":
        """That table as a data frame, one line for each term; None where there is none of it.

        Raises: Invalid: the strategy fits no regression.   Refused: pandas is not installed.
        """
        if self.found.fit is None:
            raise Invalid(f"{self.study.strategy.name} fits no table of coefficients", "see `strategy: {name: newton}`")
        rows = []
        for one in self.found.fit.terms:
            ratio = dict(zip(("ratio", "ratio_low", "ratio_high"), one.ratio or (None, None, None), strict=True))
            rows.append({**{name: getattr(one, name) for name in COEFFICIENT}, **ratio, "note": one.note})
        return frame(rows).set_index("term")

    def model(self) -> Tensors:
        """The final model as named arrays."""
        return from_safetensors(self.found.model)

    def save(self, path: str | Path) -> Path:
        """Write the model as safetensors, as `consilium simulate --model` does."""
        with naming(Path(path)):
            Path(path).write_bytes(self.found.model)
        return Path(path)

    def report(self, baseline: Mapping[str, Any] | None = None) -> Page:
        """The report: `write`, `open`, `frames`, `plots`.

        Args:    baseline: what `baseline` gave of the same study: adds each hospital's own model and the pooled one.
        """
        return Page.of(self.document, datetime.now(UTC), self.study, baseline)

    def plots(self) -> dict[str, Plot]:
        """The report's plots by the name of their section, such as `worth`."""
        return self.report().plots()

    def frames(self) -> "dict[str, pd.DataFrame]":
        """The report's tables as pandas data frames. Raises: Refused: pandas is not installed."""
        return self.report().frames()


def simulate(
    study: Study, hospitals: Hospitals, *, sites: int | None = None, partition: str = "natural",
    patients: int | None = None, least: int = 1, executor: str = "inline", workers: int | None = None,
    cluster: str | None = None, gpus: float = 0.0, drop: float = 0.0, slow: str | None = None, seed: int = 1,
    given: str | Path | None = None, leave_one_out: bool = False, wheel: str | Path | None = None,
    progress: bool | None = None,
) -> Simulated:  # fmt: skip
    """Run a study among simulated sites, with the code that runs it among hospitals; as `consilium simulate` does.

    Args:    hospitals: a folder with one folder per hospital; or by hospital its mapping file or its table, such as a
             pandas data frame (see `write_hospitals`).   progress: False shows no bar.   The others are the options of
             `consilium simulate`.
    Raises:  Invalid: an argument cannot be what it is, or there is no hospital.   NotFound: a file is not there.
             What the study, the hospitals' data and the partition may raise; Conflict: fewer sites than the quorum.
    """
    with in_words_of_the_api():
        asked = wanted(
            sites=sites, partition=partition, patients=patients, least=least, executor=executor, workers=workers,
            cluster=cluster, gpus=gpus, drop=drop, slow=slow, seed=seed, given=given, leave_one_out=leave_one_out,
            wheel=wheel,
        )  # fmt: skip
        found = ran(study, hospitals, asked, study.name, progress)
        return Simulated(found, document(found, asked))


def ran(study: Study, hospitals: Hospitals, wanted: Wanted, what: str, progress: bool | None) -> Found:
    """Simulate, with a bar for who looks on, and a warning of each thing that is to be known of hospitals' data."""
    total = study.prepares + study.rounds + 1
    with mappings(study, hospitals) as known, bar(what, progress) as tell:

        def each(told: Told) -> None:
            tell(told.number, total, f"rounds, {told.seconds:.2g} s the last")

        found = scenario.simulate(study, known, wanted, each)
    for one in notes(found):
        warnings.warn(one, stacklevel=3)
    return found


def notes(found: Found) -> list[str]:
    """What is to be known of hospitals' data: what a federation would keep one out for, and what one does not have."""
    return fitness.told(fitness.as_data(found.blocked), found.absent)


def baseline(study: Study, hospitals: Hospitals) -> Json:
    """What each hospital's own model is worth, and one of all records side by side; as `consilium baseline` does.

    Raises: MappingInvalid, DataUnusable: a hospital's data do not serve.   TrainingFailed.
    """
    with in_words_of_the_api(), mappings(study, hospitals) as known:
        return baselines.compare(study, known)
