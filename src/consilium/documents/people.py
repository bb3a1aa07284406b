"""Who took part, what became of patients, who can learn what, and what the authors still owe."""

from collections.abc import Sequence

from consilium.core.contract import Feature
from consilium.core.refusing import once
from consilium.documents import plots
from consilium.documents.facts import Facts, Flow, Hospital, Round
from consilium.documents.markup import Tag, name, prose, tag
from consilium.documents.parts import facts_of, figure, folded, section, table
from consilium.documents.terms import minute, plain, spoken
from consilium.documents.tripod import Item

STEPS = (
    ("opted_out", "opted out"), ("read", "in the table"),
    ("excluded", "excluded"), ("immature", "too early"), ("without_label", "no outcome"),
    ("incomplete", "incomplete"), ("training", "training"),
    ("held_out", "held out"), ("evaluated", "evaluated"),
)  # fmt: skip


OUT = (
    ("excluded", "not meant by the contract"), ("immature", "too early to know the outcome"),
    ("without_label", "without outcome"), ("incomplete", "incomplete"),
)  # fmt: skip
"""Why patients are left out, each for one reason."""
WITHHELD = "withheld"
STAY = "a hospital’s numbers of patients stay there under this recipe, or by its policy"
UNTOLD = {
    "federation": STAY, "demo": STAY, "simulation": "too few to be shown, or what is too few would follow from it",
}  # fmt: skip
"""Why a number of patients of a hospital is not told, by where the facts come from."""


ELSEWHERE = (
    "the very inputs and outcome of a training patient of another hospital: they are alike, or one patient is at "
    "two hospitals."
)


def _told(value: object, word: str = "not told") -> object:
    return tag("span", word, class_="quiet") if value is None else value


def _count(one: Flow, key: str) -> object:
    """A number of patients, or between which two it lies; in words why there is none."""
    value: int | None = getattr(one, key)
    if one.withheld and key != "evaluated":
        return _told(value, WITHHELD)
    return _told(f"{value} to {value + 9}" if value and one.rounded and key != "evaluated" else value)


def _sum(flows: Sequence[Flow], key: str) -> int | None:
    values = [getattr(one, key) for one in flows]
    return sum(values) if values and None not in values else None


def _together(flows: Sequence[Flow], key: str) -> str | None:
    """The same sum in words."""
    total = _sum(flows, key)
    rounded = any(one.rounded for one in flows) and key != "evaluated"
    return None if total is None else f"at least {total}" if total and rounded else f"{total}"


def _is_told(hospitals: Sequence[Hospital], key: str) -> bool:
    """Whether a step has a column: of what only some contracts ask, where it concerns anybody."""
    values = [getattr(one.flow, key) for one in hospitals]
    if key == "training" and any(one.flow.withheld for one in hospitals):
        return True
    return any(values) if key in ("excluded", "immature", "opted_out") else any(value is not None for value in values)


def flow(facts: Facts) -> Tag:
    """The flow of hospitals and of their patients."""
    there = [one for one in facts.hospitals if not one.out]
    steps = [(key, word) for key, word in _steps(facts) if _is_told(facts.hospitals, key)]
    total = len({one.number for one in facts.rounds})
    rows = [(one.name, *(_count(one.flow, key) for key, _ in steps), _rounds(one, total)) for one in facts.hospitals]
    sums = [facts.evaluated if key == "evaluated" else _together([one.flow for one in there], key) for key, _ in steps]
    last = ("all that took part", *(_told(one) for one in sums), "")
    columns = ("hospital", *(word for _, word in steps), "rounds")
    hidden = any(getattr(one.flow, key) is None for one in there for key, _ in steps)
    why = f"“not told”: {UNTOLD[facts.origin]}." if hidden else ""
    if any(one.flow.rounded for one in there):
        why = f"Numbers are those of each hospital’s signed check, which tells them in tens. {why}".strip()
    if any(one.flow.withheld for one in there):
        why = f"“{WITHHELD}”: under an epsilon a hospital’s signed check tells no number of patients. {why}".strip()
    if elsewhere := sum(one.flow.elsewhere or 0 for one in there):
        whose = "1 held-out patient has" if elsewhere == 1 else f"{elsewhere} held-out patients have"
        why = f"{why} {whose} {ELSEWHERE}".strip()
    bars = None if facts.judged_only else _bars(facts)
    return section(
        "flow", "Hospitals and patients",
        figure(_boxes(facts, there), "From hospitals that could take part to patients on whom the model was judged."),
        figure(bars, "Patients of each hospital, by what they were used for.") if bars is not None else None,
        table("flow-table", "What became of each hospital’s patients, and in how many rounds it was, with the judging.",
              columns, rows, tuple(range(1, len(steps) + 1)), last),
        tag("p", why, class_="quiet") if why else None,
    )  # fmt: skip


def _steps(facts: Facts) -> list[tuple[str, str]]:
    """What becomes of patients, and in which words: where nobody is trained on, nobody is held out."""
    if not facts.judged_only:
        return [*STEPS]
    return [(key, "with all it asks for" if key == "held_out" else word) for key, word in STEPS if key != "training"]


def _rounds(one: Hospital, total: int) -> str:
    if one.out:
        return one.out
    return "not told" if one.flow.rounds is None else f"{one.flow.rounds} of {total}"


def _boxes(facts: Facts, there: Sequence[Hospital]) -> Tag:
    out = [one for one in facts.hospitals if one.out]
    flows = [one.flow for one in there]
    sums = {key: _together(flows, key) for key, _ in STEPS}
    boxes = [plots.Box((f"{len(facts.hospitals)} hospitals", "asked, or known to the study"), _left(out))]
    read = [f"{sums['read']} patients in their tables"] if sums["read"] is not None else []
    excluded = [f"{sums[key]} {word}" for key, word in OUT if sums[key] is not None and _is_told(there, key)]
    boxes.append(plots.Box((f"{len(there)} hospitals took part", *read), ("Excluded", *excluded) if excluded else ()))
    if sums["training"] is not None and not facts.judged_only:
        boxes.append(plots.Box((f"{sums['training']} patients trained the model", f"in {_trained(facts)} rounds")))
    held = [f"{sums['held_out']} patients were held out"] if sums["held_out"] is not None else []
    held = [] if facts.judged_only or facts.crossed else held
    judged = facts.evaluated or 0
    whom = "patients" if facts.crossed else facts.whom
    by = ("each by a model that was trained without them",) if facts.crossed else ()
    boxes.append(plots.Box((*held, f"{judged} {whom} judged it", *by)))
    told = "; then ".join(", ".join(box.lines) for box in boxes)
    return plots.flow(boxes, "Flow of hospitals and patients", f"{told}.")


def _trained(facts: Facts) -> int:
    return len({one.number for one in facts.rounds if one.kind == "TRAIN"})


def _left(out: Sequence[Hospital]) -> tuple[str, ...]:
    if not out:
        return ()
    shown = [f"{one.name}: {one.out}" for one in out[:3]]
    more = [f"and {len(out) - 3} more, see the table"] if len(out) > 3 else []
    return (f"{len(out)} took no part", *shown, *more)


def _bars(facts: Facts) -> Tag | None:
    rows = []
    for one in facts.hospitals:
        if one.flow.training is None or one.flow.held_out is None:
            continue
        counts = {"training": one.flow.training} | ({} if facts.crossed else {"held_out": one.flow.held_out})
        excluded = [count for key, _ in OUT if (count := getattr(one.flow, key)) is not None]
        rows.append((one.name, {**counts, **({"excluded": sum(excluded)} if excluded else {})}))
    if not rows:
        return None
    told = "; ".join(
        f"{label}: {', '.join(f'{count} {key}' for key, count in counts.items())}" for label, counts in rows
    )
    return plots.bars(rows, "Patients of each hospital", f"{told}.".replace("held_out", "held out"))


def attendance(facts: Facts) -> Tag | None:
    """Who was part of which round."""
    done = [one for one in facts.rounds if one.asked]
    if not done:
        return None
    numbers = list(dict.fromkeys(one.number for one in done))
    newest = {one.number: one for one in done}
    names = [one.name for one in facts.hospitals if any(one.name in each.asked for each in done)]
    rows = [(site, "".join(_state(site, newest[n]) for n in numbers)) for site in names]
    counts = {site: states.count("i") for site, states in rows}
    whole = [site for site, count in counts.items() if count == len(numbers)]
    told = f"{len(whole)} of {len(names)} hospitals were part of all {len(numbers)} rounds. The table has the others."
    plot = plots.attendance(rows, numbers, "Who was part of which round", told)
    body = [
        (
            site,
            counts[site],
            _listed(states, numbers, "r"),
            _listed(states, numbers, "m"),
            _listed(states, numbers, "n"),
        )
        for site, states in rows
    ]
    return section(
        "attendance", "Who was part of which round",
        figure(plot, "A filled cell: the hospital’s part is in that round’s sum. The last round judges the model."),
        table("attendance-table", f"Of {len(numbers)} rounds.",
              ("hospital", "part of", "refused in round", "no answer in round", "not asked in round"), body, (1,)),
    )  # fmt: skip


def _state(site: str, one: Round) -> str:
    return "i" if site in one.took_part else "r" if site in one.refused else "m" if site in one.asked else "n"


def _listed(states: str, numbers: Sequence[int], wanted: str) -> str:
    found = [str(number) for state, number in zip(states, numbers, strict=True) if state == wanted]
    return ", ".join(found[:20]) + (f" and {len(found) - 20} more" if len(found) > 20 else "")


def _allowed(one: Feature) -> str:
    """A number's range and unit, or the categories."""
    if one.type == "category":
        return plain([*(one.categories or {}).values()])
    unit = spoken(str(one.unit))
    return f"{one.range[0]:g} to {one.range[1]:g} {unit}".rstrip() if one.range else f"any number, {unit or 'pure'}"


def predictors(facts: Facts) -> Tag | None:
    """What the contract says of inputs and outcome."""
    if facts.about is None:
        return None
    contract = facts.about.contract
    rows = [
        (
            one.id, name(one.meaning),
            _allowed(one),
            one.missing,
        )
        for one in contract.inputs
    ]  # fmt: skip
    body = table(
        "predictors-table", f"{len(rows)} inputs of contract {contract.id}.",
        ("input", "meaning", "range and unit, or categories", "missing values"), rows,
    )  # fmt: skip
    return section(
        "predictors", "Inputs and outcome",
        tag("p", "Outcome: ", tag("strong", name(contract.label.id)), ", ", name(contract.label.meaning), "."),
        body if len(rows) <= 12 else folded(f"All {len(rows)} inputs", body),
    )  # fmt: skip


def privacy(facts: Facts) -> Tag:
    """Who can learn what."""
    budgets = [
        (str(site), f"{one['spent']:.2f} of {one['epsilon']:g}", f"{one['delta']:g}")
        for site, fact in facts.budgets.items()
        for one in fact.get("populations", [])
    ]
    return section(
        "privacy", "Who can learn what",
        tag("p", tag("strong", f"{facts.privacy}.")),
        tag("p", f"Noise: {facts.noise.bound}; {facts.noise.how}.", id="noise") if facts.noise else None,
        tag("p", prose(facts.learns)) if facts.learns else None,
        tag("p", "Weaker modes that each hospital accepted by name, with a signed decision: ",
            tag("strong", plain(list(facts.weaker))), ".", id="weaker-modes") if facts.weaker else None,
        table("budgets", "What the study took of each hospital’s privacy budget, by its own ledger.",
              ("hospital", "epsilon spent", "delta"), budgets) if budgets else None,
    )  # fmt: skip


def audit(facts: Facts) -> Tag:
    """What came of checking the audit logs, and who decided what."""
    logs = [
        (str(log["log"]), "intact" if log.get("intact") else "altered", int(log.get("entries") or 0),
         int(log.get("checkpoints_of_the_other_end") or 0), tag("code", str(log.get("head") or "")))
        for log in facts.audit
    ]  # fmt: skip
    said = [
        (str(one["site"]), str(one.get("decision") or ""), name(str(one.get("person") or "")), minute(one.get("at")),
         minute(one.get("expires")), name(str(one.get("reason") or "")))
        for one in facts.decisions
    ]  # fmt: skip
    refused = [
        (", ".join(one.sites), one.run, str(one.times), one.rounds, one.reason, name(one.text))
        for one in once(facts.refusals)
    ]
    return section(
        "audit", "Audit and decisions",
        table("audit-table", "Audit logs, checked entry by entry and against signed heads that the other end kept.",
              ("log", "result", "entries", "heads kept elsewhere", "head"), logs, (2, 3)) if logs else
        tag("p", "No audit log was checked for this report."),
        table("approvals", "What each hospital decided on this plan.",
              ("hospital", "decision", "person", "at", "expires", "reason"), said) if said else None,
        table("refusals", "What hospitals refused, each sentence once.",
              ("hospitals", "run", "times", "rounds", "reason", "why"), refused, (2,)) if refused else None,
        facts_of(_origin(facts)),
    )  # fmt: skip


def _origin(facts: Facts) -> list[tuple[str, object]]:
    """What names this run's plan and model; and how a simulation was set up."""
    named: list[tuple[str, object]] = [("plan", tag("code", facts.plan)), ("model", tag("code", facts.model))]
    if facts.origin == "simulation":
        named += [(key.replace("_", " "), str(value)) for key, value in facts.setting.items() if value is not None]
    return named


def tripod(items: Sequence[Item]) -> Tag:
    """TRIPOD+AI, item by item; what the facts do not answer is a question to the authors."""
    answered = [one for one in items if not one.open]
    asked = [one for one in items if one.open]
    return section(
        "tripod", "TRIPOD+AI",
        tag("p", f"{len(answered)} of {len(items)} items are answered by the facts of this run; {len(asked)} are open "
            "questions to the authors. Numbers are those of the statement (Collins et al., BMJ 2024;385:e078378), the "
            "wording is ours."),
        table("tripod-table", "Items that the facts answer.", ("item", "topic", "answer"),
              [(one.number, one.topic, one.answer) for one in answered]),
        table("open-questions", "Open questions to the authors.", ("item", "topic", "question"),
              [(one.number, one.topic, one.asks) for one in asked]),
    )  # fmt: skip
