"""`consilium demo`: hospitals with real patients train one model together, on this machine, by public commands."""

import json
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from consilium.core.errors import Conflict
from consilium.governance.learning import PROTECTS
from consilium.number import Number
from consilium.simulation import federation, hospitals, report
from consilium.simulation.federation import NOT_YET, Shell
from consilium.simulation.processes import demand_port, ended_at_last, free_port

Json = dict[str, Any]
COLUMNS = {"own": "own model", "federated": "federated", "pooled": "pooled"}
ONE_MACHINE = (
    "Here one machine played all hospitals and their stewards: it shows how keys and words are kept apart, and proves "
    "nothing."
)


@dataclass(frozen=True)
class Example:
    """A study with hospitals that have patients."""

    study: str
    sites: tuple[str, ...]
    prepare: str
    patients: str
    recipe: str
    epsilon: float | None = None

    @classmethod
    def chosen(cls, data: Path | None, recipe: str, epsilon: float | None = None) -> "Example":
        """By default the bundled breast-cancer patients; with a folder of raw files, those of UCI Heart Disease."""
        options = f"--recipe {recipe}" + (f" --epsilon {epsilon:g}" if epsilon is not None else "")
        if data is None:
            patients = "569 patients with a breast mass (Wisconsin, bundled with scikit-learn), divided by case mix"
            prepare = f"consilium demo --prepare hospitals {options}"
            return cls("breast-cancer", tuple(hospitals.CASE_MIX), prepare, patients, recipe, epsilon)
        hospitals.demand_raw(data)
        prepare = f"consilium demo --prepare hospitals {options} --data {federation.quoted(data.resolve())}"
        patients = "920 patients of four real hospitals, in their raw files"
        return cls("heart-disease", hospitals.UCI, prepare, patients, recipe, epsilon)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder with the four raw files of UCI Heart Disease.")
@click.option(
    "--recipe", type=click.Choice(list(PROTECTS)), default=hospitals.SECURE, show_default=True,
    help="How updates are protected.",
)  # fmt: skip
@click.option(
    "--epsilon", type=Number(0, 100, min_open=True),
    help="Bound what the model says of one patient: with noise, by differential privacy.",
)  # fmt: skip
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="Keep everything in this new folder.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the coordinator. Default: a free one.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the outcome to this file.")
@click.option("--prepare", type=click.Path(file_okay=False, path_type=Path), help="Only write the hospitals here.")
def demo(
    data: Path | None, recipe: str, epsilon: float | None, home: Path | None, port: int | None, file: Path | None,
    prepare: Path | None,
) -> None:  # fmt: skip
    """Let four hospitals train one model together on this machine, and compare it with what each can do alone.

    A coordinator and four site agents run as separate processes over TLS. Every step is a public command and is
    printed: typed again in a new folder, the commands give the same model, unless it has noise. Takes about half a
    minute.
    """
    if epsilon is not None and recipe != hospitals.SECURE:
        raise Conflict("shares of noise only add up in a secure sum", f"choose --recipe {hospitals.SECURE}")
    example = Example.chosen(data, recipe, epsilon)
    if prepare is not None:
        _prepare(prepare, data, recipe, epsilon)
        return
    if port is not None:
        demand_port(port)
    if file is not None and not file.absolute().parent.is_dir():
        raise Conflict(f"there is no folder {file.parent}", "choose another file for --json")
    with _folder(home) as folder:
        where = f"mkdir -p {federation.quoted(home)} && cd {federation.quoted(home)}" if home else 'cd "$(mktemp -d)"'
        found = _told(example, folder, where, port or free_port())
    if file is not None:
        file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        click.echo(f"The same as data: {file}")
    if home is not None:
        click.echo(f"All of it is in {home}; `consilium up --home {home}` lets it run again.")


def _prepare(folder: Path, data: Path | None, recipe: str, epsilon: float | None) -> None:
    if data is None:
        made = hospitals.breast_cancer(folder, recipe, epsilon)
    else:
        made = hospitals.heart_disease(folder, data, recipe, epsilon)
    click.echo(f"Wrote {', '.join(made)} and study.yaml into {folder}.")


@contextmanager
def _folder(home: Path | None) -> Iterator[Path]:
    if home is None:
        with tempfile.TemporaryDirectory(prefix="consilium-demo-") as name:
            yield Path(name)
        return
    if home.exists() and any(home.iterdir()):
        raise Conflict(f"{home} is not empty", "give a new or empty folder with --home")
    home.mkdir(parents=True, exist_ok=True)
    yield home.resolve()


def _told(example: Example, folder: Path, where: str, port: int) -> Json:
    began = time.monotonic()
    variables = {"CONSILIUM_HOME": str(folder / "person"), "CONSILIUM_PASSWORD": secrets.token_urlsafe(12)}
    shell = Shell(folder, variables, _tell)
    _head(f"{len(example.sites)} hospitals, {example.patients}")
    preamble = shell.preamble(where)
    for line in preamble:
        _tell(line)
    with ended_at_last(shell.children):
        found = _played(example, shell, f"https://127.0.0.1:{port}")
    found["seconds"] = round(time.monotonic() - began, 1)
    lines = [{"line": line.text, "background": line.background} for line in shell.lines]
    _summary(example, found)
    return {**found, "environment": preamble, "commands": lines}


def _played(example: Example, shell: Shell, url: str) -> Json:
    study, secure = example.study, example.recipe == hospitals.SECURE
    click.echo(shell.type(example.prepare), nl=False)
    _head("A coordinator, which never sees a patient record")
    federation.begin(shell, url)
    _head("Each hospital makes its key and joins; its fingerprint is compared, then it is admitted")
    federation.join(shell, example.sites)
    weaker, signed = ("", "") if secure else (f"--accept {example.recipe} ", f", and that it is {example.recipe}")
    _head(f"A researcher sends the study; each hospital's steward approves exactly this plan{signed}")
    click.echo(shell.type("consilium study submit hospitals/study.yaml"), nl=False)
    approvals = [
        f"consilium site approve {study} --home sites/{site} --person steward {weaker}"
        f"--mapping hospitals/{site}/mapping.yaml"
        for site in example.sites
    ]
    shell.together([[line] for line in approvals], again=NOT_YET)
    if secure:
        _head("The hospitals agree on keys, and their stewards read each other the words of the roster: nobody stands")
        click.echo("between them. Here one machine plays all stewards; else it is a telephone call, once per roster.")
    shell.type(f"consilium study start {study}")
    if secure:
        federation.compare(shell, f"{study}-1", example.sites)
    _head("They train one model; every record stays where it is")
    shell.shown(f"consilium study watch {study}")
    result = json.loads(shell.type(f"consilium study result {study} --model model.safetensors --json"))
    _head("For comparison, outside of the federation: each hospital alone, and all records in one place")
    judge = "--model model.safetensors " if secure else ""  # the coordinator has figures of no single hospital
    line = f"consilium baseline hospitals/study.yaml --hospitals hospitals {judge}--json"
    compared = json.loads(shell.type(line))
    _head("Each end's audit log is checked against what the other end kept of it")
    audit = _audited(example, shell)
    budgets = _budgets(example, shell) if example.epsilon is not None else {}
    return _outcome(example, result, compared, audit, budgets)


def _budgets(example: Example, shell: Shell) -> Json:
    """What each hospital's privacy ledger says that it has spent, of which budget."""
    _head("What that took of each hospital's privacy budget, by its own ledger")
    said = shell.together([[f"consilium site budget --home sites/{site} --json"] for site in example.sites])
    return {site: json.loads(printed[0]) for site, printed in zip(example.sites, said, strict=True)}


def _audited(example: Example, shell: Shell) -> Json:
    shell.type("consilium audit export audit.json")
    against = " ".join(f"--against sites/{site}" for site in example.sites)
    lines = [f"consilium audit verify --home sites/{site} --against audit.json --json" for site in example.sites]
    said = shell.together([[line] for line in [*lines, f"consilium audit verify --file audit.json {against} --json"]])
    *sites, coordinator = [json.loads(printed[0]) for printed in said]
    for log in (coordinator, *sites):
        if not log["intact"] or log["checkpoints_of_the_other_end"] == 0:
            raise Conflict(f"the audit log of {log['log']} was not checked against the other end", "report this")
    return {"coordinator": coordinator, "sites": dict(zip(example.sites, sites, strict=True))}


def _outcome(example: Example, result: Json, compared: Json, audit: Json, budgets: Json) -> Json:
    figures, rows = result["figures"], {}
    for site, facts in compared["hospitals"].items():
        part = result["sites"].get(site, {"rounds": 0, "bytes": 0})
        judged = figures["sites"].get(site) or facts.get("given")
        other = {key: value for key, value in facts.items() if key != "given"}
        rows[site] = {**other, "rounds": part["rounds"], "bytes": part["bytes"], "federated": judged}
    own = [facts["own_on_all"].get("auroc", {}).get("value") for facts in rows.values()]
    known = [value for value in own if value is not None]
    everybody: Json = {"federated": figures["all"], "pooled": compared["all"]["pooled"]}
    if known:
        everybody["own_mean_auroc"] = sum(known) / len(known)
    return {
        "study": result["study"], "run": result["run"], "plan": result["plan"], "privacy": result["privacy"],
        "learns": f"{result['learns']} {ONE_MACHINE}", "budgets": budgets,
        "rounds": result["rounds"], "hospitals": rows, "all": everybody, "baselines": compared["label"],
        "evaluation": result.get("evaluation"), "initial": result["initial"],
        "judged_on": result.get("judged_on"),
        "judged_by": "the federation" if figures["sites"] else "one process outside of the federation",
        "epochs": compared["epochs"], "audit": audit, "model": result["state"]["digest"],
        "participation": [
            {
                **{key: entry[key] for key in ("round", "kind", "took_part")},
                "figures": (entry.get("figures") or {}).get("all"),
            }
            for entry in result["participation"]
        ],
    }  # fmt: skip


def _summary(example: Example, found: Json) -> None:
    _head("What it is worth, on patients held out at each hospital (with 95 % intervals)")
    rows = [{"hospital": site, **facts} for site, facts in found["hospitals"].items()]
    mean = found["all"].get("own_mean_auroc")
    own = {"own": {"auroc": {"value": mean, "low": None, "high": None, "note": "mean"}}} if mean is not None else {}
    report.show([*rows, {"hospital": "all", **own, **found["all"]}], COLUMNS)
    seen = sum(log["checkpoints_of_the_other_end"] for log in found["audit"]["sites"].values())
    back = found["audit"]["coordinator"]["checkpoints_of_the_other_end"]
    everyone = all(len(entry["took_part"]) == len(example.sites) for entry in found["participation"])
    rounds = f"all {len(example.sites)} hospitals in every one" if everyone else "not every hospital in every one"
    click.echo()
    for key, text in {
        "own model": "trained by one hospital on its own records; in the row `all`, judged on everybody's patients",
        "federated": f"{found['rounds']} rounds and one that judges the final model: {rounds}. The row `all` was "
        f"judged by the federation; figures of one hospital come from {found['judged_by']}",
        "pooled": f"all records in one place. Own and pooled models were {found['baselines']}; "
        f"{found['epochs']} epochs each, as many as in the federation",
        "privacy": found["privacy"],
        "who learns": found["learns"],
        **_ledgers(found["budgets"]),
        "audit": f"intact at both ends: the coordinator kept {seen} heads of the hospitals' logs, and they {back} of "
        "its log; none was altered",
        "model": found["model"],
        "time": f"{found['seconds']:.0f} s",
    }.items():
        report.say(key, text)


def _ledgers(budgets: Json) -> dict[str, str]:
    """One line on what hospitals spent; none where nothing is counted."""
    if not budgets:
        return {}
    told = []
    for site, fact in budgets.items():
        for one in fact["populations"]:
            told.append(f"{site} spent {one['spent']:.2f} of {one['epsilon']:g} (delta {one['delta']:g})")
    return {"ledgers": "; ".join(told) + ". Each counts by Renyi curves, so that further studies add less"}


def _head(words: str) -> None:
    click.echo()
    click.secho(words, bold=True)


def _tell(line: str) -> None:
    click.echo(f"{click.style('$', fg='green', bold=True)} {click.style(line, fg='cyan')}")
