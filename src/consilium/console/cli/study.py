"""`consilium study`: write a study, send it, start it, watch it, take the model home."""

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from consilium import studyfile
from consilium.console.cli import coefficients, output, reporting, taking, watching
from consilium.console.cli.session import federation
from consilium.core.errors import Invalid, TrainingFailed
from consilium.core.parts import STUDY_NAME
from consilium.core.study import Plan, Study
from consilium.durable import create_file
from consilium.governance.learning import ENOUGH

File = click.Path(dir_okay=False, path_type=Path)
Existing = click.Path(exists=True, dir_okay=False, path_type=Path)
NO_STUDY = "No study was submitted yet: `consilium study submit FILE` sends one."
UNDECIDED = "No hospital has decided on it, or checked its data, yet."


@click.group()
def study() -> None:
    """Write a study, submit it, watch it, and take the model home."""


@study.command()
@click.argument("file", type=File, default=Path("study.yaml"))
@click.option("--name", default="my-study", show_default=True, help="Name of the study: a-z, 0-9 and hyphens.")
@output.as_json
def new(file: Path, name: str, as_json: bool) -> None:
    """Write a commented study file to FILE, to be edited."""
    if file.exists():
        raise Invalid(f"{file} exists", "choose another name; nothing was written")
    if re.fullmatch(STUDY_NAME, name) is None:
        raise Invalid(f"{name[:60]!r} is no name of a study", "use a-z, 0-9 and hyphens, at most 50, as in heart-2030")
    create_file(file, studyfile.template(name).encode())
    output.say(
        {"file": str(file)},
        as_json,
        f"Wrote {file}. Edit it, then check it with `{shlex.join(['consilium', 'study', 'validate', str(file)])}`.",
    )


@study.command()
@click.argument("file", type=Existing)
@click.option("--wheel", type=Existing, help="As `study submit` takes it: its code is tried here.")
@click.option("--model", type=Existing, help="As `study submit` takes it.")
@output.as_json
def validate(file: Path, wheel: Path | None, model: Path | None, as_json: bool) -> None:
    """Check the study in FILE as `study submit` does; errors name the line, the value and the remedy.

    A study that names a wheel, or starts from a given model, is checked without what hangs on these, unless they are
    given.
    """
    read = _checked(studyfile.current(studyfile.read(file), datetime.now(UTC).date()), wheel, model)
    fact = {
        "valid": True,
        "study": read.name,
        "features": read.contract.size,
        "rounds": read.rounds,
        "plan": Plan.of(read).digest,
    }
    words = f"{file} is a valid study: {read.name}, {read.contract.size} features, {read.rounds} rounds."
    if read.exact and (known := read.contract.references):
        fact["references"] = known
        told = ", ".join(f"{feature} {code}" for feature, code in known.items())
        words += f" Categories are compared with those whose codes sort first: {told}."
    if (asked := read.privacy).epsilon is not None:
        fact |= {name: getattr(asked, name) for name in ("epsilon", "delta", "noise_multiplier", "all_honest")}
        words += (
            f" For epsilon {asked.epsilon:g} at delta {asked.delta:g} the noise multiplier is "
            f"{asked.noise_multiplier:g}"
        )
        if asked.whole and read.quorum < ENOUGH:
            words += f"; it is of a hospital, and with fewer than {ENOUGH} hygiene, not a guarantee"
        if asked.local:
            words += f", in each of {read.noised_steps} steps per round at each hospital."
        else:
            words += f"; while a quorum hold keys, and all of them add their noise, epsilon is {asked.all_honest:g}."
    output.say(fact, as_json, words)


def _checked(study: Study, wheel: Path | None, model: Path | None) -> Study:
    """The study with its noise, as a plan has it. Raises: as `api.freeze`, as far as what it needs is here."""
    from consilium.api import freeze  # with what finds noise and makes models, which other commands need not
    from consilium.privacy.mechanism import pinned

    given = wheel is not None or model is not None
    if not given and (study.model.wheel is not None or study.model.start == "given"):
        return pinned(study)
    try:
        return freeze(study, wheel, model)[0].study
    except ModuleNotFoundError:
        if given:
            raise
        return pinned(study)  # who has no torch cannot submit the study, and is told so then


@study.command()
@click.argument("what", type=click.Choice(tuple(studyfile.SCHEMAS)), default="study")
@output.as_json
def schema(what: str, as_json: bool) -> None:
    """Print the JSON Schema of a study, mapping or policy file, for editors."""
    output.say(studyfile.json_schema(what), True)


@study.command()
@click.argument("file", type=Existing)
@click.option(
    "--format",
    "form",
    type=click.Choice(["odcs", "croissant", "fhir", "omop", "signature"]),
    required=True,
    help="odcs: an ODCS 3.1 document; croissant: metadata for catalogues; fhir: a ViewDefinition of the records; "
    "omop: one SELECT of them; signature: inputs and output of a model as an ONNX file.",
)
@click.option("--output", "-o", "out", type=File, help="File to write. Default: print it.")
@output.as_json
def contract(file: Path, form: str, out: Path | None, as_json: bool) -> None:
    """Compile the contract of the study in FILE, for data catalogues and for hospitals.

    View and query give one row per record, with columns patient, system, code, taken, value and unit, as `records` of a
    mapping wants them. With --json the text stands in `text`, or its file in `file`.
    """
    import json

    import yaml

    from consilium.algorithms.signature import signature
    from consilium.data import compiled  # with what reads records, which other commands need not

    study = studyfile.read(file)
    text = {
        "odcs": lambda: yaml.safe_dump(compiled.odcs(study), sort_keys=False, allow_unicode=True),
        "croissant": lambda: json.dumps(compiled.croissant(study), indent=2, ensure_ascii=False) + "\n",
        "fhir": lambda: json.dumps(compiled.views(study.contract), indent=2, ensure_ascii=False) + "\n",
        "omop": lambda: compiled.omop(study.contract) + "\n",
        "signature": lambda: json.dumps(signature(study.contract), indent=2, ensure_ascii=False) + "\n",
    }[form]()
    if out is None:
        output.say({"format": form, "text": text}, as_json, text.removesuffix("\n"))
        return
    create_file(out, text.encode())
    output.say({"format": form, "file": str(out)}, as_json, f"Wrote {out}.")


@study.command()
@click.argument("file", type=Existing)
@click.option("--wheel", type=Existing, help="Wheel with the study's own code, as named by `model.wheel`.")
@click.option("--model", type=Existing, help="Model to start from, for a study that says `model: {start: given}`.")
@output.as_json
def submit(file: Path, wheel: Path | None, model: Path | None, as_json: bool) -> None:
    """Send the study in FILE, with its initial model; every invited hospital then decides on it."""
    sent = federation().submit(file, wheel=wheel, model=model)
    assert sent.plan is not None
    fact = {
        "study": sent.name, "plan": sent.plan.digest, "initial": sent.plan.study.model.initial,
        "missing": list(sent.missing),
    }  # fmt: skip
    absent = [f"\nWarning: {line}" for line in watching.missing(fact)]
    words = f"Submitted {sent.name} as plan {sent.plan.digest}. Hospitals can now review it."
    output.say(fact, as_json, "".join([words, *absent]))


@study.command("list")
@output.as_json
def list_(as_json: bool) -> None:
    """List the studies that you may see."""
    found = federation().studies()
    rows = found if as_json else [{**one, "runs": _runs(one)} for one in found]
    output.table(rows, as_json, ("study", "title", "owner", "plan", "runs"), NO_STUDY)


def _when(decision: dict[str, Any]) -> dict[str, str]:
    """Its moments, as a person reads them."""
    from consilium.documents.terms import minute

    return {name: minute(decision[name]) for name in ("at", "expires") if decision.get(name)}


@study.command()
@click.argument("name")
@output.as_json
def show(name: str, as_json: bool) -> None:
    """Show one study: its plan, each hospital's decision, its runs, and who was left out of the newest one, and why.

    What hospitals refused is told once for each reason, with how often and in which rounds; --json has each refusal.
    """
    fact = federation().study(name).show()
    if as_json:
        output.say(fact, True)
        return
    click.echo(f"{fact['study']}: {fact['title']}\nplan {fact['plan']}\nowner {fact['owner']}\nruns {_runs(fact)}\n")
    known = {**{one["site"]: {"decision": one["why"]} for one in fact.get("missing") or ()}, **fact["sites"]}
    rows = [{"site": site, **decision, **_when(decision)} for site, decision in sorted(known.items())]
    check = ("check",) if any("check" in row for row in rows) else ()
    output.table(rows, False, ("site", "decision", *check, "person", "at", "expires", "reason"), UNDECIDED)
    if fact.get("refusals"):
        click.echo("\nRefusals")
        output.table(watching.refusals(fact["refusals"]), False, ("run", "reason", "sites", "times", "rounds", "text"))
    told = [*watching.missing(fact), *(line for run in fact["runs"] for line in watching.left_out(run))]
    for line in told:
        click.echo(f"\n{line}")


@study.command()
@click.argument("name")
@output.as_json
def checks(name: str, as_json: bool) -> None:
    """Show, side by side, what each hospital's newest check of its data found, and how many patients have which value.

    Percents are in steps of five and patients in tens, as hospitals send them; `?` is hidden. Under `epsilon` no number
    is sent: they are withheld.
    """
    fact = federation().study(name).show()
    found = dict(sorted(fact.get("checks", {}).items()))
    if as_json:
        output.say({"study": name, "checks": found}, True)
        return
    rows = [
        {
            "site": site, "check": "passed" if told["passed"] else "not passed", "at": told["at"][:19],
            "source": told["source"], "patients": "withheld" if told["patients"] is None else told["patients"],
            "checks": told["checks"],
            "blocking": ", ".join(_place(one) for one in told["findings"] if one["blocks"]),
        }
        for site, told in found.items()
    ]  # fmt: skip
    rows += [{"site": site, "check": "none"} for site in sorted(fact["sites"]) if site not in found]
    output.table(rows, False, ("site", "check", "at", "source", "patients", "checks", "blocking"), UNDECIDED)
    if any(told["coverage"] for told in found.values()):
        click.echo("\nPatients who have a value, in percent")
        output.table(_coverage(found), False, ("feature", *found))


def _place(finding: dict[str, Any]) -> str:
    return f"{finding['where'] or 'table'}: {finding['kind']}"


def _coverage(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per feature, one column per hospital."""
    names = list(dict.fromkeys(one["id"] for told in found.values() for one in told["coverage"]))
    by_site = {site: {one["id"]: one["percent"] for one in told["coverage"]} for site, told in found.items()}
    return [
        {"feature": name, **{site: "?" if known.get(name) is None else known[name] for site, known in by_site.items()}}
        for name in names
    ]


def _runs(fact: dict[str, Any]) -> str:
    return ", ".join(f"{run['run']} ({run['status']})" for run in fact["runs"]) or "none"


@study.command()
@click.argument("name")
@output.as_json
def start(name: str, as_json: bool) -> None:
    """Start a run of study NAME, from the beginning; below its quorum of approvals it waits and says for what.

    While a run is on, no other is started: it says so, with exit code 0 and `"started": false`.
    """
    run = federation().study(name).start()
    fact = {"study": name, "run": run.name, "started": run.started}
    words = f"{run.name} is on already: nothing was started."
    if run.started:
        words = f"Started {run.name}"
        words += ", from the beginning; what earlier runs reached stays." if run.name != f"{name}-1" else "."
    output.say(fact, as_json, f"{words} Watch it: consilium study watch {name}")


@study.command()
@click.argument("name")
@output.as_json
def watch(name: str, as_json: bool) -> None:
    """Watch a run (or the newest run of a study) until it ends.

    --json prints one line per change: where the run stands, the events since the line before, and in `participation`
    and `pairing` only the rounds that are new or have changed.

    Ctrl-C ends the watching and not the run. Exit code 1: the run was stopped or has failed.
    """
    last = watching.watch(federation().run(name), as_json)
    if last["status"] == "failed":
        raise TrainingFailed(
            f"run {last['run']} failed: {last.get('reason', '')}", f"see `consilium study show {name}`"
        )
    if last["status"] == "stopped":
        raise click.exceptions.Exit(1)


@study.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why; every hospital reads it.")
@output.as_json
def stop(name: str, reason: str, as_json: bool) -> None:
    """End a run (or the newest run of a study). What it has reached stays.

    A run that is over stays as it is: it says so, with exit code 0 and `"stopped": false`.
    """
    if not reason.strip():
        raise click.BadParameter("say why", param_hint="'--reason'")
    fact = federation().run(name).stop(reason)
    run, status = fact["run"], fact["status"]
    words = f"Stopped {run}." if fact["stopped"] else f"{run} is over already ({status}): nothing was done."
    output.say(fact, as_json, words)


@study.command()
@click.argument("name")
@click.option("--model", type=File, help="Also write the model to this file, as safetensors.")
@output.as_json
def result(name: str, model: Path | None, as_json: bool) -> None:
    """Show what a run gave: pooled over and per hospital, with confidence intervals; coefficients of a regression.

    Of a run that was stopped, or goes on, the newest figures are those of an earlier model, and it is said of which.
    """
    run = federation().run(name)
    found = run.result()
    saved = {"model": {"file": str(model), "digest": found.save(model)}} if model is not None else {}
    fit = found.regression()
    if as_json:
        told = {"regression": fit.to_json()} if fit is not None else {}
        output.say({**found.document, **told, **saved}, True)
        return
    rows = watching.result_rows(found)
    output.table(rows, False, tuple(rows[0]))
    known = run.federation.study(str(found.document["study"])).approved().study
    about = watching.judged(found.document), watching.of_which(known), *watching.unlearned(found.document)
    for words in filter(None, about):
        click.echo(f"\n{words}")
    if fit is not None:
        coefficients.show(fit)
    click.echo(f"\nPrivacy: {found.document['privacy']}.")
    if "learns" in found.document:  # a coordinator of an older release does not tell
        click.echo(f"{found.document['learns']}")
    if model is not None:
        click.echo(f"Model written to {model}, {saved['model']['digest']}.")


@study.command()
@click.argument("name", required=False)
@click.option(
    "--from", "source", type=Existing, help="Instead of NAME: what `study result`, `simulate` or `demo` wrote."
)
@click.option("--study", "file", type=Existing, help="With --from: the study file, for purpose, inputs and methods.")
@click.option("--baseline", type=Existing, help="What `consilium baseline --json` wrote: each hospital's own model.")
@click.option("--audit", "logs", type=click.Path(exists=True, path_type=Path), multiple=True,
              help="An exported audit log, or the folder of a site; each is checked against the others.")  # fmt: skip
@click.option(
    "--output", "-o", "page", type=File, default=Path("report.html"), show_default=True, help="File to write."
)
@output.as_json
def report(
    name: str | None, source: Path | None, file: Path | None, baseline: Path | None, logs: tuple[Path, ...],
    page: Path, as_json: bool,
) -> None:  # fmt: skip
    """Write the report of a run (or of the newest run of a study) as one HTML page that stands alone.

    It says per hospital what the model is worth, with intervals, beside what else there is; who took part, who can
    learn what, what was withheld and why; and what is wrong comes first. --json prints all of it as data, too.
    """
    reporting.write(name, reporting.Given(source, file, baseline, logs), page, as_json)


@study.command()
@click.argument("name", required=False)
@click.option("--from", "source", type=Existing, help="Instead of NAME: a model that was written as safetensors.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["safetensors", "onnx"]),
    help="onnx: a graph that takes raw rows in the contract's units and codes, with the plan's preparation inside. "
    "Default: onnx for a file whose name ends in .onnx, else safetensors.",
)
@click.option("--output", "-o", "file", type=File, required=True, help="File to write.")
@output.as_json
def export(name: str | None, source: Path | None, form: str | None, file: Path, as_json: bool) -> None:
    """Write the model of a run (or of the newest run of a study), with its origin as metadata."""
    if (name is None) == (source is None):
        raise Invalid("give either NAME or --from FILE", "the model comes from one of them")
    from consilium.exported import form_of

    form = form or form_of(file)
    if source is not None:
        fact = taking.written(source, form, file)
    else:
        found = federation().run(str(name)).result()
        fact = {"file": str(file), "format": form, "digest": found.save(file, form), "metadata": found.metadata()}
    output.say(fact, as_json, f"Wrote {file}, {fact['digest']}.{taking.whose(fact['metadata'])}")
