"""Facts of a run from what commands write as JSON: `study result`, `demo`, `simulate`, and beside them `baseline`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from consilium.core.errors import Invalid
from consilium.core.judging import judged_on
from consilium.core.study import Study
from consilium.documents.cells import FOLLOWS, hidden
from consilium.documents.estimate import Estimate, Figures, Json, figures_of
from consilium.documents.facts import FEW_JUDGE, HELD_OUT, SHARED, WITHOUT, Facts, Flow, Hospital, Round
from consilium.documents.judged import ALL, Judged, judged
from consilium.documents.noise import Noise

MODELS = {
    "federated": "common model", SHARED: "common model", "own": "hospital's own model", "pooled": "all records pooled",
    "ensemble": "ensemble of own models",
    WITHOUT: "trained without it",
}  # fmt: skip
"""What is compared, first the model that hospitals use: the common one, unless they have personal ones."""
PERSONAL = "personal model"
COMMON = next(iter(MODELS))
WITHHELD = "secure_sum"
ALONE = "the hospitals that tell them of themselves, rounded, as their policies allow"
OUTSIDE = "one process outside of the federation"
TRIED = "approved and was asked, but is in no sum"
KEYLESS = "approved and was asked for keys, but is in no round"
BESIDE = f"of models that they do not tell, from {OUTSIDE}"


def gathered(document: Json, study: Study | None = None, baseline: Json | None = None) -> Facts:
    """The facts of a run.

    Args:    document: what `study result`, `demo` or `simulate` wrote as JSON.   study: the study, if it is at hand.
             baseline: what `baseline` wrote as JSON, for the same study.
    Raises:  Invalid: the document is of none of these commands, or the baseline is of another study, or was judged on
             other patients.
    """
    try:
        if "participation" in document and "state" in document:
            facts = _of_result(document, study)
        elif "hospitals" in document and "judged_by" in document:
            facts = _of_demo(document, study)
        elif "partition" in document and "executor" in document:
            facts = _of_simulation(document, study)
        else:
            raise Invalid("this is no result of a run", "give what `study result --json` or `simulate --json` wrote")
        if baseline is not None:
            _demand_the_same_patients(_judged_on(document, study), baseline)
            facts = _beside(facts, baseline)
        facts = replace(facts, noise=Noise.read(document["noise"]) if document.get("noise") else Noise.of(study))
        return hidden(_personal(_judged_last(facts, judged(document.get("evaluation")))))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Invalid("this result is not complete", "write it anew, by this release of consilium") from error


def _evaluated(figures: Figures) -> int | None:
    return max((one.n for one in figures.values()), default=0) or None


def _confidence(study: Study | None) -> float:
    return study.evaluation.confidence if study is not None else 0.95


def _round(entry: Json) -> Round:
    figures = entry.get("figures") or {}
    took = tuple(map(str, entry["took_part"]))
    asked = tuple(map(str, entry.get("roster") or took))
    refused = {str(site): str(why) for site, why in (entry.get("refused") or {}).items()}
    return Round(
        int(entry["round"]), str(entry["kind"]), asked, took, len(took), refused, figures_of(figures.get("all")),
        str(figures.get("withheld") or ""),
    )  # fmt: skip


TOLD = ("read", "without_label", "incomplete", "immature", "excluded", "training", "copies", "elsewhere")
"""Numbers of a hospital's patients that commands tell under these names."""


def _numbers(facts: Json) -> dict[str, Any]:
    return {name: facts.get(name) for name in TOLD}


def _flow(site: str, rounds: Iterable[Round], figures: Figures, known: Json | None = None) -> Flow:
    done = list(rounds)
    facts = known or {}
    return Flow(
        **_numbers(facts),
        held_out=facts.get("held_out", facts.get("test")),
        evaluated=_evaluated(figures),
        rounds=len({one.number for one in done if site in one.took_part}),
        asked=len({one.number for one in done if site in one.asked}),
    )


def _attested(flow: Flow, check: Json | None) -> Flow:
    """The same with what the hospital told with its check, in tens; where it tells no number, they are withheld."""
    if check is None:
        return flow
    if check["patients"] is None:
        return replace(flow, withheld=True)
    told = check.get("flow") or {}
    known: dict[str, Any] = {name: told[name] for name in (*TOLD, "held_out", "opted_out") if name in told}
    return replace(flow, training=check["patients"] or None, rounded=True, **known)


def _of_result(document: Json, study: Study | None) -> Facts:
    begun = [one for one in document["participation"] if not one.get("cancelled")]
    # One that is open, as where a run was stopped amid it, nobody has missed, and no model came of it.
    asked, rounds = (tuple(map(_round, some)) for some in (begun, (one for one in begun if one.get("closed"))))
    figures = document.get("figures") or {}
    singles = {str(site): figures_of(given) for site, given in (figures.get("sites") or {}).items()}
    decisions = {str(site): dict(said) for site, said in (document.get("decisions") or {}).items()}
    absent = {str(one["site"]): f"invited, and {one['why']}" for one in document.get("missing") or ()}
    tried = {**absent, **_in_vain(document)}
    names = {
        *singles, *absent, *map(str, document["sites"]), *decisions, *(site for one in asked for site in one.asked)
    }  # fmt: skip
    checks = document.get("checks") or {}
    alone = {str(site): dict(told) for site, told in (document.get("declared") or {}).items()}
    hospitals = tuple(
        _declaring(Hospital(
            site, _attested(_flow(site, rounds, singles.get(site, {})), checks.get(site)),
            {COMMON: singles[site]} if site in singles else {}, _out(site, asked, decisions, tried),
        ), alone)
        for site in sorted(names)
    )  # fmt: skip
    if told := any(one.told for one in hospitals):
        hospitals = tuple(map(_silent, hospitals))
    judged_by = ALONE if told else "the federation"
    return Facts(
        origin="federation", study=str(document["study"]), run=str(document["run"]), plan=str(document["plan"]),
        status=str(document["status"]), about=study, confidence=_confidence(study),
        models=_models({COMMON, *(key for one in hospitals for key in one.figures)}),
        hospitals=hospitals, everyone={COMMON: figures_of(figures.get("all"))}, rounds=rounds,
        planned=int(document["rounds"]) - (0 if study is None else study.prepares),
        privacy=str(document["privacy"]), learns=str(document.get("learns") or ""),
        withheld=not singles and str(document["privacy"]).startswith(WITHHELD), model=str(document["state"]["digest"]),
        judged=_judged(document), judged_by=judged_by, weaker=tuple(document.get("weaker") or ()),
        decisions=tuple({"site": site, **said} for site, said in sorted(decisions.items())),
        refusals=tuple(document.get("refusals") or ()), audit=tuple(document.get("audit") or ()),
        regression=document.get("regression"), setting={"reason": document.get("reason") or ""},
        left_out=tuple(
            one for one in document.get("left_out") or ()
            if (decisions.get(str(one["site"])) or {}).get("decision") in ("approve", None)
        ),
        unlearned=_unlearned(
            (one.get("figures") or {}).get("not_learned")
            for one in document["participation"] if one["kind"] == "PREPARE"
        ),
    )  # fmt: skip


def _unlearned(rounds: Iterable[Iterable[str] | None]) -> tuple[str, ...]:
    """Of what rounds say that nothing was learned of it."""
    return tuple(sorted({str(name) for names in rounds for name in names or ()}))


def _declaring(one: Hospital, alone: Mapping[str, Json]) -> Hospital:
    """The same with what a hospital tells of itself alone, or with the word for why it tells nothing."""
    told = alone.get(one.name)
    if told is None:
        return one
    if told["figures"]:
        models = {str(model): figures_of(given) for model, given in told["figures"].items()}
        return replace(one, figures=models, told=True)
    return replace(one, word=str(told["word"]))


def _silent(one: Hospital) -> Hospital:
    """The same with its word in the place of figures, beside hospitals that tell theirs."""
    return replace(one, figures={COMMON: _hidden({"auroc": Estimate(None)}, one.word)}) if one.word else one


def _in_vain(document: Json) -> dict[str, str]:
    """Who is in no round though it approved and was asked: for keys, or in attempts that were given up."""
    given_up = [one for one in document["participation"] if one.get("cancelled")]
    word = {site: TRIED for one in given_up for site in one.get("roster") or ()}
    keyless = {site: KEYLESS for one in document.get("pairing") or () for site in one.get("roster") or ()}
    return {**keyless, **word}


def _out(site: str, rounds: Iterable[Round], decisions: Mapping[str, Json], tried: Mapping[str, str]) -> str:
    """Why a hospital is in no round; empty if it is in one."""
    if any(site in one.asked for one in rounds):
        return ""
    said = decisions.get(site)
    if site in tried and (said is None or said.get("decision") == "approve"):
        return tried[site]
    if said is None:
        return "was asked in no round"
    reason = f": {said['reason']}" if said.get("reason") else ""
    word = {"approve": "approved, and was asked in no round", "decline": "declined", "revoke": "revoked its approval"}
    return f"{word.get(str(said.get('decision')), 'has not decided')}{reason}"


def _judged(document: Json) -> str:
    of = document.get("judged")
    if of is None:
        rounds = document.get("participation") or []
        why = [one["figures"]["withheld"] for one in rounds if (one.get("figures") or {}).get("withheld")]
        return f"There are no figures: {why[-1]}." if why else "No hospital has sent figures yet."
    if of["kind"] == "EVALUATE":
        return ""
    number = of["model_after_round"]
    model = f"the model after round {number}" if number else "the initial model"
    return f"The final model was not judged: the figures are of {model}."


def _models(known: Iterable[str]) -> dict[str, str]:
    there = set(known)
    return {key: heading for key, heading in MODELS.items() if key in there}


def _of_demo(document: Json, study: Study | None) -> Facts:
    rounds = tuple(_round({**one, "figures": {"all": one.get("figures")}}) for one in document["participation"])
    hospitals = tuple(
        Hospital(
            str(site), _flow(str(site), rounds, figures_of(facts.get(COMMON)), facts),
            {key: figures_of(facts[key]) for key in MODELS if facts.get(key)},
        )
        for site, facts in sorted(document["hospitals"].items())
    )  # fmt: skip
    everyone = {key: figures_of(document["all"][key]) for key in MODELS if document["all"].get(key)}
    audit = document["audit"]
    logs = audit if isinstance(audit, list) else [audit["coordinator"], *audit["sites"].values()]
    return Facts(
        origin="demo", study=str(document["study"]), run=str(document["run"]), plan=str(document["plan"]),
        status="finished", about=study, confidence=_confidence(study),
        models=_models(key for one in hospitals for key in one.figures), hospitals=hospitals,
        everyone=everyone, rounds=rounds, planned=int(document["rounds"]), privacy=str(document["privacy"]),
        learns=str(document["learns"]), withheld=False, model=str(document["model"]),
        judged_by=str(document["judged_by"]), audit=tuple(logs),
        budgets=document.get("budgets") or {}, setting={"epochs": document["epochs"]},
    )  # fmt: skip


def _of_simulation(document: Json, study: Study | None) -> Facts:
    rounds = tuple(
        Round(
            int(one["round"]), str(one["kind"]), (), (), int(one["took_part"]), {}, figures_of(one["figures"]),
            FEW_JUDGE if HELD_OUT in (one.get("withheld") or ()) else "",
        )
        for one in document["rounds"]
    )  # fmt: skip
    singles = {str(site): figures_of(given) for site, given in document["figures"]["sites"].items()}
    known = {str(site): facts for site, facts in (document.get("hospitals") or {}).items()}
    without = {str(site): figures_of(given) for site, given in (document.get("without") or {}).items()}
    over = without.pop("all", {})
    hospitals = tuple(
        _simulated(site, known.get(site, {}), singles.get(site, {}), without.get(site, {}))
        for site in sorted({*known, *singles})
    )
    return Facts(
        origin="simulation", study=str(document["study"]), run=f"{document['study']}-1", plan=str(document["plan"]),
        status="finished", about=study, confidence=_confidence(study),
        models=_models((COMMON, WITHOUT) if over else (COMMON,)), hospitals=hospitals, rounds=rounds,
        everyone={COMMON: figures_of(document["figures"]["all"]), **({WITHOUT: over} if over else {})},
        planned=sum(one.kind == "TRAIN" for one in rounds), privacy=str(document["recipe"]),
        learns="Nobody's records were kept apart: this was a simulation, in which all records lay together.",
        withheld=False, model=str(document["model"]), judged_by="the simulation",
        judged=f"There are no figures: {FEW_JUDGE}." if rounds and rounds[-1].withheld else "",
        regression=document.get("regression"),
        unlearned=_unlearned(one.get("withheld") for one in document["rounds"] if one["kind"] == "PREPARE"),
        setting={key: document[key] for key in ("partition", "seed", "executor", "drop", "slow", "slow_s")},
    )  # fmt: skip


def _simulated(site: str, known: Json, figures: Figures, without: Figures) -> Hospital:
    flow = Flow(
        **_numbers(known), held_out=known.get("held_out"), evaluated=_evaluated(figures),
        rounds=known.get("rounds"), asked=known.get("asked"),
    )  # fmt: skip
    models = {COMMON: figures, WITHOUT: without}
    return Hospital(site, flow, {name: one for name, one in models.items() if one}, str(known.get("out") or ""))


def _hidden(figures: Figures, note: str, n: int = 0) -> Figures:
    """Figures without value and number of patients: what is too small to be shown is so for all models."""
    return {name: Estimate(None, n=n, note=note) for name in figures}


def _judged_last(facts: Facts, last: Judged | None) -> Facts:
    """The same with what the last round says: it has more, and hides small cells that headline figures may show."""
    if last is None:
        return facts
    hospitals = []
    for one in facts.hospitals:
        worth = last.sites.get(one.name)
        if worth is not None and worth.figures:
            one = replace(one, figures={**one.figures, COMMON: worth.figures})
        elif worth is not None:
            figures = {model: _hidden(of_model, worth.note) for model, of_model in one.figures.items()}
            kept = one.figures.get(COMMON, {}) if worth.note == FOLLOWS else {}
            one = replace(one, figures=figures, flow=replace(one.flow, evaluated=None), unsaid=kept)
        hospitals.append(one)
    everyone = {**facts.everyone, COMMON: {**facts.everyone.get(COMMON, {}), **last.everyone.figures}}
    if not last.everyone.figures and last.everyone.note:  # nor of any other model, nor by any round
        note, n = last.everyone.note, last.everyone.n or 0
        everyone = {model: _hidden(of_model, note, n) for model, of_model in everyone.items()}
        hospitals = [
            replace(one, figures={model: _hidden(of_model, note) for model, of_model in one.figures.items()})
            for one in hospitals
        ]
        facts = replace(facts, rounds=tuple(replace(r, figures=_hidden(r.figures, note, n)) for r in facts.rounds))
    return replace(facts, hospitals=tuple(hospitals), everyone=everyone, last=last)


def _personal(facts: Facts) -> Facts:
    """The same with the common model beside the personal ones, where hospitals use such."""
    known = {} if facts.last is None else facts.last.common
    told = {SHARED for one in facts.hospitals if SHARED in one.figures} | ({SHARED} if known else set())
    if not told and not facts.personal:
        return facts
    hospitals = [
        replace(one, figures={**one.figures, SHARED: known[one.name]}) if one.name in known else one
        for one in facts.hospitals
    ]
    everyone = {**facts.everyone, SHARED: known[ALL]} if known else facts.everyone
    models = {**_models({*facts.models, *told}), COMMON: PERSONAL}
    return replace(facts, hospitals=tuple(hospitals), everyone=everyone, models=models)


def _judged_on(document: Json, study: Study | None) -> Json | None:
    """By what the result's held-out patients were chosen; None: they are drawn, or it is not known."""
    if "judged_on" in document:
        return dict(document["judged_on"]) if document["judged_on"] else None
    return None if study is None else judged_on(study)


def _demand_the_same_patients(known: Json | None, baseline: Json) -> None:
    """That a baseline was judged on the patients on whom the result was.

    Raises: Invalid: it was not, or one of both does not say.
    """
    told = baseline.get("judged_on")
    if told is None:
        raise Invalid("the baseline does not say which patients were held out", "make it anew, by this release")
    if known is None:
        raise Invalid(
            "a baseline judges the patients whom hospitals hold out, and this result is of others: a simulation drew "
            "them or set some aside, or the result does not say",
            "simulate all patients; of a result of an older release, give the study file with --study",
        )
    apart = [
        f"{name} is {told.get(name)} in the baseline and {known.get(name)} in the result"
        for name in known
        if told.get(name) != known[name]
    ]
    if apart:
        raise Invalid(
            f"the baseline was judged on other held-out patients: {'; '.join(apart)}",
            "make it anew with the study file of this result: `consilium baseline STUDY --hospitals FOLDER --json`",
        )


def _beside(facts: Facts, baseline: Json) -> Facts:
    """The same with each hospital's own model, the pooled one and, if it was given, the common one judged outside."""
    if baseline["study"] != facts.study:
        raise Invalid(f"the baseline is of the study {str(baseline['study'])[:60]}", f"make one of {facts.study}")
    told = {str(site): given for site, given in baseline["hospitals"].items()}
    which = SHARED if facts.personal else COMMON  # what a file of a model holds
    mine = [_compared(one, told.get(one.name), which) for one in facts.hospitals]
    judged_by = facts.judged_by
    if facts.withheld and any({COMMON, which} & one.figures.keys() and not (one.told or one.word) for one in mine):
        judged_by = f"{ALONE}; of others, and {BESIDE}" if any(one.told for one in mine) else OUTSIDE
    everyone = {
        **facts.everyone,
        **{name: figures_of(baseline["all"][name]) for name in ("pooled", "ensemble") if name in baseline["all"]},
    }
    return replace(
        facts, hospitals=tuple(mine), everyone=everyone, judged_by=judged_by,
        models=_models(key for one in mine for key in one.figures) or facts.models,
        setting={**facts.setting, "epochs of the baseline": baseline.get("epochs")},
    )  # fmt: skip


def _compared(one: Hospital, given: Json | None, which: str) -> Hospital:
    if given is None:
        return one
    figures = {key: figures_of(given[key]) for key in ("own", "pooled", "ensemble") if given.get(key)}
    common = None if one.word else one.figures.get(which)  # a word stands where nobody has them
    if common is None and given.get("given"):
        common, one = figures_of(given["given"]), replace(one, word="")
    elif common is None:
        common = one.figures.get(which)
    if one.told:  # what it tells stays as it is told
        figures |= {key: one.figures[key] for key in ("own",) if key in one.figures}
    unknown: dict[str, Any] = dict.fromkeys((*TOLD, "held_out"))
    flow = replace(one.flow, **unknown, rounded=False) if one.flow.rounded else one.flow
    for name, key in (*((name, name) for name in TOLD), ("held_out", "test")):
        if getattr(flow, name) is None and given.get(key) is not None:
            number: dict[str, Any] = {name: int(given[key])}
            flow = replace(flow, **number)
    return replace(one, flow=flow, figures={**one.figures, **({which: common} if common else {}), **figures})
