"""One simulation, from patients to what came of it: who has whom, what is trained, and what is to be told."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from consilium.algorithms.regression import Fit, fitted
from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.errors import Conflict, Invalid, StudyInvalid
from consilium.core.ids import Digest
from consilium.core.study import Plan, Study
from consilium.core.tensors import from_safetensors, to_safetensors, unflatten
from consilium.data.copies import Copies
from consilium.data.findings import Finding
from consilium.data.quality import whom
from consilium.exported import origin
from consilium.simulation import confined, leaving
from consilium.simulation.conditions import Conditions
from consilium.simulation.executors import Executor, Inline, Processes
from consilium.simulation.partition import Rule, divide
from consilium.simulation.patients import Patients, Sites
from consilium.simulation.rounds import Outcome, Simulation, Told
from consilium.simulation.vectorised import Vectorised

if TYPE_CHECKING:
    from consilium.simulation.ray import Cluster

EXECUTORS = ("inline", "processes", "vectorised", "ray")


@dataclass(frozen=True)
class Wanted:
    """What is simulated.

    Args:    sites: how many; None: as many as there are hospitals.   patients: so many, drawn with replacement; None:
             those that there are.   least: fewest patients of a site.   workers: processes; None: one per core.
             seed: of drawing and dividing patients.   given: the model from which a study starts that says
             `start: given`.   wheel: with the code of a study that names one.
             set_aside: leave the study's held-out patients out, and judge on as large a part of the others: what is
             chosen by such figures is not chosen by the patients who judge it in the end.
             leave_one_out: train anew without each site, too, and judge each such model on those whom it holds out.
             cluster: address of a cluster of Ray's; None: one of this machine's own.   gpus: that a site's training
             takes there.
    """

    sites: int | None = None
    partition: Rule = field(default_factory=lambda: Rule("natural"))
    patients: int | None = None
    least: int = 1
    executor: str = "inline"
    workers: int | None = None
    conditions: Conditions = field(default_factory=Conditions)
    seed: int = 1
    given: Path | None = None
    set_aside: bool = False
    cluster: str | None = None
    gpus: float = 0.0
    leave_one_out: bool = False
    wheel: Path | None = None

    @property
    def others(self) -> bool:
        """Whether patients are drawn, or set aside, so that others are judged than the hospitals hold out."""
        return self.patients is not None or self.set_aside

    @property
    def processes(self) -> int:
        """How many processes of this machine train."""
        return self.workers or os.cpu_count() or 1


@dataclass(frozen=True)
class Found:
    """What came of it.

    Args:    asked: digest of the study as it was given, whichever sites take part.
             model: safetensors, as `study result --model` writes them.   sizes: (training, held-out) patients by site.
             counted: of them, those of whom the study wants so many.   left_out: sites with too few of these to take
             part.   copies: by site, of patients who are there twice.   left: by site, rows that were read and left
             out, where sites are the hospitals themselves.   fit: the table of an exact regression.
             blocked, absent: by hospital, where there are any, what a federation's gate would keep it out for, and
             features that it does not have.
             without: by site, figures of the model that was trained without it; and of all of them, as `all`.
    """

    asked: Digest
    plan: Plan
    outcome: Outcome
    model: bytes
    sizes: dict[str, tuple[int, int]]
    counted: dict[str, int]
    left_out: int
    rounds: tuple[Told, ...]
    fit: Fit | None
    copies: dict[str, Copies]
    left: Mapping[str, dict[str, Any]]
    without: Mapping[str, dict[str, Any]]
    blocked: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def simulate(study: Study, mappings: Mapping[str, Path], wanted: Wanted, each: Callable[[Told], None]) -> Found:
    """Divide the patients, train, judge; `each` is told of every round.

    The study's own list of sites counts where all of them are simulated by name, and says nothing otherwise.

    Raises: what the study, the mappings and the partition may raise; Conflict: fewer sites than the quorum.
    """
    _fits(study, wanted)
    asked = Plan.of(study)
    study = Plan.load(asked.payload).study  # in whose categories the codes count: in a plan they are sorted
    chance = np.random.default_rng([wanted.seed, 0])
    patients = _patients(study, mappings, wanted, chance)
    rows = divide(wanted.partition, patients.pool(study), wanted.sites, wanted.least, chance)
    if study.sites:
        invited = set(study.sites) <= rows.keys()
        rows = {site: rows[site] for site in sorted(study.sites)} if invited else rows
        study = study if invited else _of_others(study, tuple(rows))
    plan, initial = freeze(study, wanted.wheel, wanted.given, confined.first if wanted.wheel is not None else None)
    sites = Sites(plan, initial, patients, rows)
    training = {site: sites.training(site) for site in rows}
    counted = {site: sites.counted(site) for site in rows}
    enough = [site for site in rows if counted[site] >= study.min_patients]
    if len(enough) < study.quorum:
        raise _too_few(study, len(enough), len(rows))
    _room(study, {site: len(rows[site]) for site in enough})
    if wanted.leave_one_out:
        leaving.check(study, len(enough))
    told: list[Told] = []

    def heard(one: Told) -> None:
        told.append(one)
        each(one)

    with tempfile.TemporaryDirectory(prefix="consilium-simulate-") as name:
        folder = Path(name)
        with _executor(wanted, sites) as execute:

            def run(among: list[str], place: Path, tell: Callable[[Told], None] = each) -> Simulation:
                name = f"{study.name}-1"
                return Simulation(
                    plan, initial, among, execute, place, name, os.urandom, sites.lacks, wanted.conditions, tell
                )

            outcome = run(enough, folder, heard).run()
            without = leaving.one_by_one(plan, enough, folder, run, execute) if wanted.leave_one_out else {}
        state = chain.read(outcome.state).arrays
        model, fit = unflatten(np.array(state["model"]), from_safetensors(initial)), fitted(plan.study, state)
    folds = study.evaluation.folds
    sizes = {site: (training[site], len(part) - (0 if folds else training[site])) for site, part in rows.items()}
    named = origin(plan, f"{study.name}-1", outcome.digest, model, state)
    written = to_safetensors(model, {**named, "simulated": "true"})
    whole = not wanted.others and {site: len(part) for site, part in rows.items()} == patients.sizes
    return Found(
        asked.digest, plan, outcome, written, sizes, counted, len(rows) - len(enough), tuple(told), fit,
        {} if folds else patients.copies(plan.study, rows), patients.left if whole else {}, without,
        patients.blocked, patients.absent,
    )  # fmt: skip


def _patients(
    study: Study, mappings: Mapping[str, Path], wanted: Wanted, chance: np.random.Generator
) -> Patients:  # fmt: skip
    """Those of all hospitals, or as many as are wanted, or the training patients alone. Raises: Conflict."""
    patients = Patients.read(study, mappings, wanted.partition.name == "natural" and wanted.least > 0)
    if wanted.set_aside and study.evaluation.folds:
        raise Conflict(
            "ways are compared on training patients that are set aside, and a study with `evaluation.folds` judges all",
            "leave `folds` out until a way is chosen",
        )
    if wanted.set_aside:
        patients = patients.set_aside(study.evaluation.test_fraction, np.random.default_rng([wanted.seed, 3]))
    return patients if wanted.patients is None else patients.drawn(wanted.patients, chance)


@contextmanager
def _executor(wanted: Wanted, sites: Sites) -> Iterator[Executor]:
    """Raises: Conflict: options that do not go together; and what the executor may raise."""
    if wanted.executor != "ray" and (wanted.cluster or wanted.gpus):
        raise Conflict(f"the executor {wanted.executor} has no cluster and no GPUs", "choose --executor ray")
    if wanted.wheel is not None:
        own = confined.Confined(sites, wanted.wheel, wanted.processes if wanted.executor == "processes" else 1)
        try:
            yield own
        finally:
            own.end()
        return
    if wanted.executor in ("inline", "vectorised"):
        yield Inline(sites) if wanted.executor == "inline" else Vectorised(sites)
        return
    started = Processes(sites, wanted.processes) if wanted.executor == "processes" else _on_ray(wanted, sites)
    try:
        yield started
    finally:
        started.end()


def _on_ray(wanted: Wanted, sites: Sites) -> "Cluster":
    from consilium.simulation.ray import Cluster  # an extra

    if not 0 <= wanted.gpus < float("inf"):
        raise Invalid(f"--gpus: {wanted.gpus:g} is no number of GPUs", "write how many a site takes, such as 0.5")
    if wanted.cluster and wanted.workers:
        raise Conflict("a cluster has as many processes as its machines have cores", "leave --workers out")
    return Cluster(sites, wanted.processes, wanted.cluster, wanted.gpus)


def _too_few(study: Study, enough: int, simulated: int) -> Conflict:
    """Fewer sites than the quorum: because there are no more, or because some have too few patients."""
    quorum = f"the study's `quorum` is {study.quorum}"
    if simulated < study.quorum:
        told = f"{simulated} {'site is' if simulated == 1 else 'sites are'} simulated, and {quorum}"
        return Conflict(told, "lower `quorum` in the study, or simulate as many with --sites")
    return Conflict(
        f"{enough} of {simulated} sites have the {study.min_patients} {whom(study)} that it asks for, and {quorum}",
        "lower `quorum` or `min_patients` in the study, ask for fewer sites, or draw more patients with --patients",
    )


def _of_others(study: Study, sites: tuple[str, ...]) -> Study:
    """The study for other sites than it invites: for whoever is there; by name, where it needs all that it names."""
    if study.cell in (None, 1):
        return study.model_copy(update={"sites": ()})
    return study.model_copy(update={"sites": sites, "quorum": len(sites)})


def _room(study: Study, sizes: Mapping[str, int]) -> None:
    """Raises: Conflict: a hospital of so many patients would refuse, as its agent does."""
    most = study.privacy.most_patients
    if study.privacy.recipe == "secure_sum" and (more := [site for site, size in sizes.items() if size > most]):
        raise Conflict(
            f"{len(more)} of {len(sizes)} sites have more patients than the {most} for which the study's secure sum "
            f"has room, such as {more[0]} with {sizes[more[0]]}: a hospital would refuse",
            "raise privacy.most_patients, or simulate more sites",
        )


def _fits(study: Study, wanted: Wanted) -> None:
    """Raises: StudyInvalid: code or a model of the study's own is not there.   Conflict: nothing would confine it."""
    if (study.model.wheel is not None) != (wanted.wheel is not None):
        if wanted.wheel is not None:
            raise StudyInvalid("a wheel is given, but the study names none", "name its digest as model.wheel")
        raise StudyInvalid(f"the study names the wheel {study.model.wheel}", "give it with --wheel FILE")
    if wanted.wheel is not None and wanted.executor not in ("inline", "processes"):
        raise Conflict(
            f"the executor {wanted.executor} confines no code of a study's own",
            "choose --executor inline or processes",
        )
    if study.model.start == "given" and wanted.given is None:
        raise StudyInvalid("the study starts from a given model, which is not here", "give it with --given FILE")
