"""`consilium baseline`: what each hospital's own model is worth, and one of all records side by side.

Trained in one process, outside of any federation, by the trainer, split and seeds of the study. Whoever runs this must
be allowed to hold all these records together; a federation needs nobody who is.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from consilium import studyfile
from consilium.algorithms import figure, metrics, preparation
from consilium.api import freeze
from consilium.console.cli import output
from consilium.core.errors import Conflict, Invalid
from consilium.core.judging import judged_on
from consilium.core.meaning import differences
from consilium.core.study import Study
from consilium.core.tensors import Array, Tensors
from consilium.core.timed import TIMED
from consilium.data.copies import Copies, copies
from consilium.exported import Exported
from consilium.simulation import local, report
from consilium.site.tables import Prepared
from consilium.training.alone import Alone, without_noise
from consilium.training.base import Floats
from consilium.training.work import Work

Json = dict[str, Any]
SMALLEST = 1e-300
LABEL = "trained in one process outside of any federation, from records that lie side by side"


@dataclass(frozen=True)
class Bench(Alone):
    """Where models are trained and judged: by the study's trainer, from its initial model."""

    def made(self, works: Iterable[Work]) -> "Made":
        """The model of these hospitals' patients, prepared and trained as if they were in one table."""
        patients = list(works)
        learned = prepared(self.study, patients)
        x, y = _together(patients, learned, held_out=False)
        parts = [one.chooses for one in patients if one.chooses is not None]
        return Made(self.trained(x, y, np.concatenate(parts) if parts else None), learned)

    def judged_at(self, made: "Made", works: Iterable[Work]) -> Json:
        """Figures of a model on the held-out patients of these hospitals."""
        return self.judged(made.model, *_together(works, made.learned, held_out=True))

    def together_at(self, members: Mapping[str, "Made"], sizes: Mapping[str, int], works: Iterable[Work]) -> Json:
        """Figures of the ensemble of hospitals' own models on the held-out patients of these hospitals: the mean of
        what they predict, each by its training patients; of hazards that of their logarithms.
        """
        timed, rows = self.study.contract.label.type == TIMED, list(works)
        mean, y = np.zeros(0), np.zeros(0)
        for site, made in members.items():
            x, y = _together(rows, made.learned, held_out=True)
            told = self.trainer.predict(self.study, made.model, x).astype(np.float64)
            part = sizes[site] / sum(sizes.values()) * (np.log(np.maximum(told, SMALLEST)) if timed else told)
            mean = part if not mean.size else mean + part
        return self._figures(np.exp(mean) if timed else mean, y)

    def judged(self, model: Tensors, x: Floats, y: Floats) -> Json:
        """Figures of a model on these patients."""
        return self._figures(self.trainer.predict(self.study, model, x).astype(np.float64), y)

    def _figures(self, score: Floats, y: Floats) -> Json:
        kind = self.study.contract.label.type
        sums = metrics.sums(kind, score, y)
        asked = self.study.evaluation
        return figure.to_json(metrics.figures(kind, sums, asked.confidence, True, asked.threshold))


@dataclass(frozen=True)
class Made:
    """A model, and what was learned to prepare its inputs."""

    model: Tensors
    learned: Mapping[str, Array]


def prepared(study: Study, works: Iterable[Work]) -> Tensors:
    """What follows of the sums of preparation of these hospitals; empty where the study asks for none."""
    rows = [work.rows for work in works if work.rows is not None]
    if not rows:
        return {}
    total = np.sum([one.sums(study) for one in rows], axis=0)
    return preparation.learned(study, total, float(sum(np.sum(~one.test) for one in rows)))


def compare(study: Study, hospitals: Mapping[str, Path], given: Path | None = None, ensemble: bool = False) -> Json:
    """Baselines of a study.

    Args:    hospitals: the mapping file of each hospital, by name.   given: a model on file, to be judged, too.
             ensemble: judge all hospitals' own models together, too.
    Returns: per hospital the number of its patients, its own model judged on its own held-out patients (`own`) and on
             everybody's (`own_on_all`), and the pooled model judged on its held-out patients; and the pooled model
             judged on everybody's (`all`). With a model that was given, the same of that (`given`).
    Raises:  MappingInvalid, DataUnusable: a hospital's data do not serve.   TrainingFailed.
             Conflict: the study has folds.   Invalid: the model that was given is no file of a model, or not of this
             study's inputs.
    """
    if study.evaluation.folds:
        raise Conflict(
            "baselines are judged on held-out patients, and a study with `evaluation.folds` holds none out",
            "leave `folds` out of the study for the baseline",
        )
    plan, weights = freeze(without_noise(study))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = local.tables(plan.study, hospitals, folder)
        works = local.works(plan, weights, tables, folder)
    return {
        "study": study.name,
        "label": LABEL,
        "epochs": study.rounds * study.training.epochs,
        "judged_on": judged_on(plan.study),
        **_figures(plan.study, works, tables, _given(given, plan.study) if given is not None else None, ensemble),
    }


def _given(path: Path, study: Study) -> Made:
    """A model on file. Raises: Invalid: it is no such file, or its inputs mean something else than this study's."""
    found = Exported.read(path)
    if told := differences(found.study, study):
        raise Invalid(
            f"{path.name} was trained for other inputs than this study has: {told}",
            "give a model that was trained by this study, or by one whose contract and preparation say the same",
        )
    return Made(found.model, found.learned)


def _figures(
    study: Study, works: Mapping[str, Work], tables: Mapping[str, Prepared], given: Made | None, ensemble: bool
) -> Json:
    first = next(iter(works.values()))
    bench = Bench(study, first.trainer, first.like)
    known = {"pooled": bench.made(works.values())}
    if given is not None:
        known["given"] = given
    everybody, twice = works.values(), _copies(study, works)
    found: Json = {"hospitals": {}, "all": {name: bench.judged_at(made, everybody) for name, made in known.items()}}
    owns = {site: bench.made([work]) for site, work in works.items()}
    sizes = {site: int(np.sum(~work.examples.test)) for site, work in works.items()}
    if ensemble:
        found["all"]["ensemble"] = bench.together_at(owns, sizes, everybody)
    for site, work in works.items():
        own = owns[site]
        found["hospitals"][site] = {
            "training": sizes[site],
            "test": int(np.sum(work.examples.test)),
            **{name: getattr(tables[site], name) for name in LEFT},
            **{name: getattr(twice[site], name) for name in ("copies", "elsewhere")},
            "own": bench.judged_at(own, [work]),
            "own_on_all": bench.judged_at(own, everybody),
            **{name: bench.judged_at(made, [work]) for name, made in known.items()},
            **({"ensemble": bench.together_at(owns, sizes, [work])} if ensemble else {}),
        }
    return found


LEFT = ("read", "without_label", "incomplete", "immature", "excluded")
"""What is told of rows that were read."""


def _copies(study: Study, works: Mapping[str, Work]) -> dict[str, Copies]:
    """Of each hospital, who stands among the training patients of any hospital as well."""
    ranges = study.model_copy(update={"prepare": None})
    parts = [work.examples if work.rows is None else work.rows.encoded(ranges) for work in works.values()]
    x, y, test = (np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "test"))
    found = copies(x, y, test, np.repeat(np.arange(len(parts)), [len(part.y) for part in parts]))
    return {site: found.get(at, Copies(0, 0, 0, 0, 0)) for at, site in enumerate(works)}


def _together(works: Iterable[Work], learned: Mapping[str, Array], *, held_out: bool) -> tuple[Floats, Floats]:
    """Inputs and labels of patients of hospitals, one after the other."""
    parts = []
    for work in works:
        examples = work.at(learned)
        rows = examples.test == held_out
        parts.append((examples.x[rows], examples.y[rows]))
    x, y = zip(*parts, strict=True)
    return np.concatenate(x), np.concatenate(y)


@click.command()
@click.argument("study", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--hospitals", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with one folder per hospital, each with its table and its mapping.yaml.",
)  # fmt: skip
@click.option(
    "--model", "given", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Judge this model, too: a file that `consilium study result --model` wrote.",
)  # fmt: skip
@click.option(
    "--ensemble", is_flag=True,
    help="Judge all hospitals' own models together, too: the mean of what they predict. Each would have to leave its "
    "hospital, which no recipe of a federation lets it.",
)  # fmt: skip
@output.as_json
def baseline(study: Path, hospitals: Path, given: Path | None, ensemble: bool, as_json: bool) -> None:
    """Train what the study file STUDY is compared with: each hospital's own model, and one of all records together.

    This happens in one process, outside of any federation, with the study's trainer, split and seeds, and with as many
    passes over the training patients as the federation makes. It is for data that may lie side by side.
    """
    found = compare(studyfile.read(study), local.mappings(hospitals), given, ensemble)
    if as_json:
        output.say(found, True)
        return
    rows = [{"hospital": name, **facts} for name, facts in found["hospitals"].items()]
    columns = {"own": "own model", "own_on_all": "own, on all", "pooled": "pooled"}
    if ensemble:
        columns["ensemble"] = "ensemble"
    if given is not None:
        columns["given"] = "the model given"
    report.show([*rows, {"hospital": "all", **found["all"]}], columns)
    click.echo(f"\nBaselines, {LABEL}; {found['epochs']} epochs each.")
