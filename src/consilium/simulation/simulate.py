"""`consilium simulate`: what would happen with so many hospitals, on this machine, with the code of a federation."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from consilium import studyfile
from consilium.algorithms.absence import HELD_OUT
from consilium.console.cli import coefficients, output, watching
from consilium.core.errors import Conflict, Invalid
from consilium.core.judging import judged_on
from consilium.core.unlearned import sentences
from consilium.data.copies import Copies
from consilium.data.quality import whom
from consilium.documents.noise import Noise
from consilium.durable import naming
from consilium.number import Number
from consilium.simulation import fitness, local
from consilium.simulation.conditions import Conditions
from consilium.simulation.leaving import ALL
from consilium.simulation.partition import DEFAULTS, Rule
from consilium.simulation.rounds import Told
from consilium.simulation.scenario import EXECUTORS, Found, Wanted, simulate

Json = dict[str, Any]
HEADLINE = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "brier": "Brier",
    "concordance": "concordance",
    "stratified_concordance": "concordance within hospitals",
    "r2": "R²",
    "rmse": "RMSE",
    "deviance": "deviance",
}
"""Figures that are shown, as far as the label has them."""
QUARTERS = {"least": 0.0, "quarter": 0.25, "median": 0.5, "three_quarters": 0.75, "most": 1.0}
"""Of what differs between sites."""


@click.command("simulate")
@click.argument("study", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--hospitals", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with one folder per hospital, each with its table and its mapping.yaml.",
)  # fmt: skip
@click.option(
    "--mapping", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="One table's mapping, instead: its patients are divided among the sites.",
)  # fmt: skip
@click.option("--sites", type=click.IntRange(1), help="How many sites. Default: as many as there are hospitals.")
@click.option(
    "--partition", default="natural", show_default=True, metavar="RULE[:NUMBER]",
    help=f"Who has which patients: {', '.join(DEFAULTS)}.",
)  # fmt: skip
@click.option(
    "--patients", type=click.IntRange(1), help="Draw so many patients, with replacement. Default: each one once."
)
@click.option("--least", type=click.IntRange(0), default=1, show_default=True, help="Fewest patients of a site.")
@click.option(
    "--executor", type=click.Choice(list(EXECUTORS)), default="inline", show_default=True,
    help="Where sites train: one after the other in this process, in several processes, many at once, or on a cluster "
    "of Ray's.",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="How many processes. Default: one per core.")
@click.option(
    "--cluster", metavar="ADDRESS", help="Of Ray's cluster, or `auto`. Default: one begins on this machine, and ends."
)
@click.option(
    "--gpus", type=Number(0), default=0.0, show_default=True, help="GPUs that a site's training takes on Ray."
)
@click.option(
    "--drop", type=Number(0, 1, max_open=True), default=0.0, show_default=True,
    help="Chance that a site falls silent in a round.",
)  # fmt: skip
@click.option("--slow", metavar="SHARE:SECONDS", help="This share of sites trains so much longer in every round.")
@click.option(
    "--leave-one-out", is_flag=True,
    help="Train anew without each site, too, and judge the model on the patients that this one holds out.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of all that is drawn by chance.")
@click.option(
    "--model", type=click.Path(dir_okay=False, path_type=Path), help="Write the final model here (safetensors)."
)
@click.option(
    "--given", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The model of a study that says `model: {start: given}`.",
)  # fmt: skip
@click.option(
    "--wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The wheel of a study that names one: its code trains in processes that are confined, as at a hospital.",
)  # fmt: skip
@output.as_json
def command(
    study: Path, hospitals: Path | None, mapping: Path | None, sites: int | None, partition: str, patients: int | None,
    least: int, executor: str, workers: int | None, cluster: str | None, gpus: float, drop: float, slow: str | None,
    leave_one_out: bool, seed: int, model: Path | None, given: Path | None, wheel: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Run the study file STUDY among simulated sites on this machine, with the code that runs it among hospitals.

    The rounds, the strategy, the sums and the figures are those of a federation: with the hospitals' own tables, and
    without noise, it ends in the very bytes. Nobody's records are kept apart here: it is for data that may lie side by
    side. No gate keeps a hospital out: what a federation would not let it train for is told, and it takes part all the
    same. What is drawn by chance follows from --seed, but for noise under an epsilon.
    """
    if (hospitals is None) == (mapping is None):
        raise Invalid("give either --hospitals FOLDER or --mapping FILE", "the patients come from one of them")
    if model is not None and not model.absolute().parent.is_dir():
        raise Conflict(f"there is no folder {model.parent}", "choose another file for --model")
    mappings = local.mappings(hospitals) if hospitals else {"all": mapping} if mapping else {}
    wanted = Wanted(
        sites, Rule.parse(partition), patients, least, executor, workers, Conditions.of(seed, drop, slow), seed, given,
        cluster=cluster, gpus=gpus, leave_one_out=leave_one_out, wheel=wheel,
    )  # fmt: skip
    known = studyfile.read(study)
    with Console(stderr=True).status("The patients are read and divided.") as status:

        def each(told: Told) -> None:
            status.update(f"Round {told.number} of {known.prepares + known.rounds + 1}: {told.seconds:.2g} s")

        found = simulate(known, mappings, wanted, each)
    if model is not None:
        with naming(model):
            model.write_bytes(found.model)
    if as_json:
        output.say(document(found, wanted), True)
        return
    show(document(found, wanted))
    if found.fit is not None:
        coefficients.show(found.fit)
    if words := watching.of_which(found.plan.study):
        click.echo(words)
    if model is not None:
        click.echo(f"The model is in {model}.")


def document(found: Found, wanted: Wanted) -> Json:
    """What came of a simulation, as data."""
    study, figures, noise = found.plan.study, found.outcome.figures, Noise.of(found.plan.study)
    training = [count for count, _ in found.sizes.values()]
    held_out = 0 if study.evaluation.folds else sum(test for _, test in found.sizes.values())
    return {
        "study": study.name, "study_file": found.asked, "plan": found.plan.digest,
        "recipe": study.privacy.recipe, "noise": noise.to_json() if noise else None, "strategy": study.strategy.name,
        "partition": str(wanted.partition), "seed": wanted.seed, "executor": wanted.executor,
        "drop": wanted.conditions.drop, "slow": wanted.conditions.slow, "slow_s": wanted.conditions.slow_s,
        "sites": {
            "simulated": len(found.sizes), "left_out": found.left_out, "training": _spread(training),
            "patients": sum(training) + held_out,
        },
        "hospitals": _hospitals(found), "blocked": fitness.as_data(found.blocked),
        "absent": {site: list(names) for site, names in found.absent.items()},
        "rounds": [_round(told) for told in found.rounds],
        "figures": {"all": figures["all"], "sites": figures["sites"], "between_sites": _between(figures["sites"])},
        **({"without": dict(found.without)} if found.without else {}),
        "evaluation": figures["evaluation"], "model": found.outcome.digest,
        "judged_on": None if wanted.others else judged_on(study),
        **({"regression": found.fit.to_json()} if found.fit else {}),
    }  # fmt: skip


def _hospitals(found: Found) -> Json:
    """Each site's patients, and in how many rounds its part is in the sum."""
    study = found.plan.study
    parts = Counter(site for told in found.rounds for site in told.took_part)
    known = {}
    for site, (training, held_out) in sorted(found.sizes.items()):
        count = found.counted[site]
        out = "" if count >= study.min_patients else f"{count} {whom(study)}; the study asks for {study.min_patients}"
        asked = 0 if out else len(found.rounds)
        told = {"training": training, "held_out": held_out, "rounds": parts[site], "asked": asked, "out": out}
        twice = found.copies.get(site, Copies(0, 0, 0, 0, 0))
        seen = {} if study.evaluation.folds else {"copies": twice.copies, "elsewhere": twice.elsewhere}
        known[site] = {**found.left.get(site, {}), **told, **seen}
    return known


def _round(told: Told) -> Json:
    return {
        "round": told.number, "kind": told.kind, "took_part": len(told.took_part), "silent": told.silent,
        "late": told.late, "waited": told.waited, "weight": told.weight, "clamped": told.clamped,
        "seconds": told.seconds, "lasted_s": told.lasted_s, "figures": told.figures, "withheld": sorted(told.withheld),
    }  # fmt: skip


def _spread(values: list[float] | list[int]) -> Json:
    return {name: float(np.quantile(values, at)) for name, at in QUARTERS.items()} | {"n": len(values)}


def _between(sites: Mapping[str, Json]) -> Json:
    """How figures are spread over the sites that have them."""
    told = {
        name: [one[name]["value"] for one in sites.values() if one.get(name, {}).get("value") is not None]
        for name in HEADLINE
    }
    return {name: _spread(values) for name, values in told.items() if values}


def show(told: Json) -> None:
    """Print what came of a simulation, from `document`."""
    sites, sizes = told["sites"], told["sites"]["training"]
    out = f"; {sites['left_out']} of them have too few patients and take no part" if sites["left_out"] else ""
    click.echo(
        f"{told['study']}: {sites['simulated']} sites by {told['partition']}, {sites['patients']} patients{out}. "
        f"Training patients of a site: {sizes['least']:.0f} to {sizes['most']:.0f}, half of them up to "
        f"{sizes['median']:.0f}.\n"
    )
    if said := fitness.told(told["blocked"], told["absent"]):
        click.echo("\n".join(said) + "\n")
    rounds = told["rounds"]
    names = [name for name in HEADLINE if any(name in one["figures"] for one in rounds)][:2]
    disturbed = told["drop"] > 0 or told["slow"] > 0
    cut = any(one["clamped"] for one in rounds)
    columns = ["round", "sites", *(["silent", "late", "came back", "would last"] if disturbed else [])]
    columns += ["values cut"] if cut else []
    table = Table(*columns, "seconds", *(HEADLINE[name] for name in names), box=None, pad_edge=False)
    for one in rounds:
        more = [str(one["silent"]), str(one["late"]), str(one["waited"]), f"{one['lasted_s']:.0f} s"]
        more = (more if disturbed else []) + ([str(one["clamped"])] if cut else [])
        figures = [output.figure(one["figures"].get(name)) if one["figures"] else "" for name in names]
        head = "last" if one["kind"] == "EVALUATE" else str(one["round"])
        table.add_row(head, str(one["took_part"]), *more, f"{one['seconds']:.2g}", *figures)
    output.console().print(table)
    click.echo(
        "\nFigures are of the model at which a round begins, on all patients held out; the last round judges the final "
        "model."
    )
    if told["noise"]:
        click.echo(f"Noise was added to the model on purpose. {Noise.read(told['noise']).words}")
    lacked = {name for one in rounds for name in one["withheld"]}
    if HELD_OUT in lacked:
        click.echo(
            "Rounds have no figures: so few sites hold out patients of each outcome that one could read another's. "
            "Hold out more (`evaluation.test_fraction`), or cross-validate (`evaluation.folds`)."
        )
    for line in sentences(lacked):
        click.echo(line)
    if cut:
        click.echo("Values were cut to privacy.clip: lower training.learning_rate, or raise it, in the study.")
    for name, spread in told["figures"]["between_sites"].items():
        click.echo(
            f"{HEADLINE[name]} at {spread['n']} single sites: {spread['least']:.3f} to {spread['most']:.3f}, half of "
            f"them from {spread['quarter']:.3f} to {spread['three_quarters']:.3f}."
        )
    without = told.get("without") or {}
    for name, spread in _between({site: one for site, one in without.items() if site != ALL}).items():
        over = without[ALL].get(name)
        together = f"; {output.figure(over)} on their patients together" if over else ""
        click.echo(
            f"{HEADLINE[name]} at hospitals, of a model trained without each: {spread['least']:.3f} to "
            f"{spread['most']:.3f}{together}."
        )
    click.echo(f"Model: {told['model']}")
