"""Items of TRIPOD+AI, as far as facts fill them; the others are open questions to the authors.

Collins et al. 2024, BMJ 385:e078378, https://doi.org/10.1136/bmj-2023-078378: numbers are the statement's, words ours.
"""

from collections.abc import Callable
from dataclasses import dataclass

from consilium.core.study import Study
from consilium.documents.facts import WITHOUT, Facts, Flow
from consilium.documents.findings import OTHERS, Findings, leading
from consilium.documents.methods import counted, handled, method, missing, scaled
from consilium.documents.terms import METRICS, interval, percent, plain

Fill = Callable[[Facts, Findings], str]


@dataclass(frozen=True)
class Item:
    """One item: its number, what it asks, and what the facts answer; empty: an open question."""

    number: str
    topic: str
    asks: str
    answer: str

    @property
    def open(self) -> bool:
        """Whether the authors have to answer it."""
        return not self.answer


def items(facts: Facts, found: Findings) -> tuple[Item, ...]:
    """All items, in the statement's order."""
    return tuple(
        Item(number, topic, asks, _FILLED.get(number, _nothing)(facts, found)) for number, topic, asks in _ITEMS
    )


def _nothing(facts: Facts, found: Findings) -> str:
    return ""


def _with(told: Callable[[Study], str]) -> Fill:
    """What the study file answers, if it is at hand."""
    return lambda facts, found: told(facts.about) if facts.about is not None else ""


def _title(study: Study) -> str:
    does = "evaluates" if study.judged_only else "develops"
    return f"Title of the study: “{study.title}”. It {does} a model that predicts {study.contract.label.meaning}."


def _aim(facts: Facts, found: Findings) -> str:
    if facts.judged_only:
        return "Evaluation of a model that was trained elsewhere; nothing was trained."
    if facts.crossed:
        return "Development, with cross-validation by patients of the same hospitals."
    return "Development, with evaluation on patients held out at the same hospitals."


def _predicted(facts: Facts, found: Findings) -> str:
    if not facts.judged_only:
        return ""
    return f"By the model as it was given, named by its digest {facts.model}, at each hospital on its own patients."


def _setting(facts: Facts, found: Findings) -> str:
    there = [one for one in facts.hospitals if not one.out]
    if facts.origin == "simulation":
        return f"{len(there)} simulated sites. It is no study of hospitals."
    names = plain([one.name for one in there])
    return f"{len(there)} hospitals: {names}. Their place and level of care are for the authors."


def _eligible(study: Study) -> str:
    demanded = [one.id for one in study.contract.inputs if one.missing == "forbidden"]
    needs = f" and with {plain(demanded)} known" if demanded else ""
    which = "patients" if study.judged_only else "training patients"
    return (
        f"Patients in each hospital's table with a known outcome{needs}; a hospital with fewer than "
        f"{study.min_patients} {which} takes no part. Which patients a table holds is for the authors."
    )


def _preparation(study: Study) -> str:
    contract = study.contract
    categories = sum(one.type == "category" for one in contract.features)
    return (
        f"Each hospital maps its table to one contract: {counted(contract.size - categories, 'number')} in fixed UCUM "
        "units and plausible ranges, "
        f"{counted(categories, 'category')} with fixed codes. What is out of range or unmapped counts "
        f"as missing. {scaled(study)}"
    )


def _outcome(study: Study) -> str:
    label = study.contract.label
    return f"{label.id} ({label.type}): {label.meaning}. The time horizon and how it was assessed are for the authors."


def _predictors(study: Study) -> str:
    names = [one.id for one in study.contract.inputs]
    shown = plain(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    chosen = "those that the model asks for" if study.judged_only else "chosen before training and the same everywhere"
    return f"{counted(len(names), 'predictor')}, {chosen}: {shown}."


def _split(study: Study) -> str:
    if study.judged_only:
        return "All patients were used for evaluation. On whom the model was trained is for the authors."
    if study.evaluation.folds:
        return (
            f"{study.evaluation.folds}-fold cross-validation: each patient is judged by a model that was trained "
            "without its fold, which follows from a hash of its key. The model of the study was trained on all."
        )
    return (
        f"At each hospital {study.evaluation.test_fraction:.0%} of the patients are held out, chosen by a hash of the "
        f"patient's key and the seed {study.evaluation.split_seed}, and are used for nothing but the figures."
    )


def _heterogeneity(facts: Facts, found: Findings) -> str:
    metric = leading(facts)
    if metric is None:
        return ""
    if not found.made.get(OTHERS):
        return "Hospitals were not compared with one another: figures of single hospitals are not in this report."
    return (
        f"Each hospital was compared with all others together, by {metric.word}; Bonferroni’s correction for "
        f"{found.comparisons} comparisons."
    )


def _measures(facts: Facts, found: Findings) -> str:
    known = [one.word for one in METRICS.values() if one.id in facts.everyone.get("federated", {})]
    models = plain(list(facts.models.values()))
    return f"{plain(known)}; compared: {models}." if known else ""


def _fairness(facts: Facts, found: Findings) -> str:
    if facts.last is None or not facts.last.groups:
        return ""
    if not any(worth.figures for parts in facts.last.groups.values() for worth in parts.values()):
        return (
            f"Figures by {plain(list(facts.last.groups))} were asked for, and all of them are too few or withheld: how "
            "the model serves these groups is not known."
        )
    return (
        f"Figures are told by {plain(list(facts.last.groups))}, and {facts.last.made} differences were looked at at "
        "once. What else was done for fairness, and why, is for the authors."
    )


def _output(study: Study) -> str:
    return {
        "binary": "A probability from 0 to 1. Which threshold is to be used and why is for the authors.",
        "number": f"A value of {study.contract.label.id} in {study.contract.label.unit}.",
        "count": f"An expected count of {study.contract.label.id}.",
        "time-to-event": "A relative risk, which orders patients by when the event is to be expected. It is no chance "
                         "of the event by a certain time.",
    }[study.contract.label.type]  # fmt: skip


def _same(facts: Facts, found: Findings) -> str:
    if facts.about is None or facts.about.judged_only:
        return ""
    told = "Training and held-out patients are of the same hospitals, and of the same contract, outcome and predictors."
    if WITHOUT in facts.models:
        return f"{told} How a model that was trained without a hospital does there stands beside, under “{WITHOUT}”."
    return f"{told} Hospitals in which the model was not trained are not in this report."


def _updated(facts: Facts, found: Findings) -> str:
    if facts.about is None or facts.about.model.start != "given":
        return "It was not updated."
    if facts.about.judged_only:
        return "It was judged as it was given, and not updated."
    return f"A model that was made elsewhere was trained further, in up to {facts.about.rounds} rounds."


def _code(facts: Facts, found: Findings) -> str:
    return f"Consilium is open source (Apache-2.0). The plan is {facts.plan}, the model {facts.model}."


def _data(facts: Facts, found: Findings) -> str:
    if facts.origin == "simulation":
        return ""
    return "No record of a patient has left its hospital. Whom to ask for access is for the authors."


def _participants(facts: Facts, found: Findings) -> str:
    prevalence, n = facts.everyone.get("federated", {}).get("prevalence"), facts.evaluated
    if n is None:
        return ""
    cases = f", {interval(prevalence)} of them with the outcome" if prevalence and prevalence.value is not None else ""
    if not cases and facts.last is not None and facts.last.everyone.positives is not None:  # of times
        cases = f", {facts.last.everyone.positives} of them with the event"
    return f"{n} {facts.whom} were evaluated{cases}. The flow per hospital, as far as it is known, stands above."


def _sum(flows: list[Flow], name: str) -> int | None:
    values = [getattr(one, name) for one in flows]
    return sum(values) if values and all(value is not None for value in values) else None


def _developed(facts: Facts, found: Findings) -> str:
    there = [one.flow for one in facts.hospitals if not one.out]
    total = _sum(there, "training")
    if total is None or facts.judged_only:
        return ""
    least = "At least " if any(one.rounded for one in there) else ""
    return f"{least}{total} training patients at {len(there)} hospitals. How many of them have the outcome is not told."


def _specified(facts: Facts, found: Findings) -> str:
    if facts.personal:
        return f"Each hospital’s personal model stays there; the common one is the file with the state {facts.model}."
    where = "Its coefficients stand above; t" if facts.regression else "T"
    return f"{where}he whole model is the file with the state {facts.model}."


def _performance(facts: Facts, found: Findings) -> str:
    metric = leading(facts)
    one = facts.everyone.get("federated", {}).get(metric.id) if metric else None
    if metric is None or one is None:
        return ""
    whose = f" of {facts.which}" if facts.personal else ""
    told = f"{metric.word}{whose} {interval(one)} on {one.n} {facts.whom} at {percent(facts.confidence)}"
    return f"{told}; all others stand above."


def _clusters(facts: Facts, found: Findings) -> str:
    if facts.withheld and not any(one.figures for one in facts.hospitals):
        return ""
    return "Per hospital, with intervals, stands above." if any(one.figures for one in facts.hospitals) else ""


_ITEMS = (
    ("1", "Title", "Does the title say that a prediction model is developed or evaluated, for whom, for what?"),
    ("2", "Abstract", "Does the abstract follow TRIPOD+AI for abstracts?"),
    ("3a", "Background", "What is the clinical context, and why this model, beside those that there are?"),
    ("3b", "Background", "For whom is it meant, at which point of care, and who is to use it?"),
    ("3c", "Background", "Which health inequalities between groups are known?"),
    ("4", "Objectives", "Is this development, evaluation, or both?"),
    ("5a", "Data", "Where do the data come from, why these, and whom do they represent?"),
    ("5b", "Data", "From when to when were patients included and followed?"),
    ("6a", "Participants", "In which setting, how many centres, and where?"),
    ("6b", "Participants", "Who was eligible?"),
    ("6c", "Participants", "Which treatments were given, and how were they dealt with?"),
    ("7", "Data preparation", "How were data prepared and checked, alike for all groups?"),
    ("8a", "Outcome", "What exactly is the outcome, over which time, assessed how, alike for all groups?"),
    ("8b", "Outcome", "If assessing it is a matter of judgement: by whom?"),
    ("8c", "Outcome", "Was its assessment blinded?"),
    ("9a", "Predictors", "How were predictors chosen?"),
    ("9b", "Predictors", "How is each defined, and when and how was it measured?"),
    ("9c", "Predictors", "If measuring them is a matter of judgement: by whom?"),
    ("10", "Sample size", "Why are so many patients enough, for training and for evaluation?"),
    ("11", "Missing data", "How were missing values dealt with?"),
    ("12a", "Analysis", "Which patients were used for training, and which for evaluation?"),
    ("12b", "Analysis", "How do predictors enter the model?"),
    ("12c", "Analysis", "Which model, why, built and tuned how, and validated how internally?"),
    ("12d", "Analysis", "How were differences between hospitals estimated?"),
    ("12e", "Analysis", "By which measures and plots was it evaluated, and against which models?"),
    ("12f", "Analysis", "Was the model updated after evaluation?"),
    ("12g", "Analysis", "How are its predictions computed?"),
    ("13", "Class imbalance", "Was class imbalance dealt with, why, and was the model recalibrated after it?"),
    ("14", "Fairness", "What was done for fairness, and why?"),
    ("15", "Model output", "What does the model give, and which thresholds are used, and why?"),
    ("16", "Training and evaluation", "How do patients of training and of evaluation differ?"),
    ("17", "Ethics", "Which ethics committee approved it, and was consent given or waived?"),
    ("18a", "Open science", "Who paid, and what was the funders' part?"),
    ("18b", "Open science", "Which conflicts of interest are there?"),
    ("18c", "Open science", "Where is the protocol?"),
    ("18d", "Open science", "Is the study registered, and where?"),
    ("18e", "Open science", "How can data be had?"),
    ("18f", "Open science", "How can the code be had?"),
    ("19", "Patients and public", "How were patients and the public involved?"),
    ("20a", "Participants", "What is the flow of participants, with and without the outcome?"),
    ("20b", "Participants", "What are their characteristics, overall and per hospital, with what is missing?"),
    ("20c", "Participants", "How do those of evaluation compare with those of training?"),
    ("21", "Model development", "How many participants and outcomes are in each analysis?"),
    ("22", "Model specification", "Where is the whole model, so that others can predict with it?"),
    ("23a", "Performance", "How good is it, with intervals, also in groups of patients?"),
    ("23b", "Performance", "How does that differ between hospitals?"),
    ("24", "Updating", "If it was updated: with what result?"),
    ("25", "Interpretation", "What do the results mean, fairness included, beside other studies?"),
    ("26", "Limitations", "What limits the study, and what follows for bias and generalisability?"),
    ("27a", "Usability", "What is to be done when inputs are poor or missing in use?"),
    ("27b", "Usability", "What must users do and know?"),
    ("27c", "Usability", "What comes next, for use and for research?"),
)  # fmt: skip
_FILLED: dict[str, Fill] = {
    "1": _with(_title),
    "3b": _with(
        lambda study: f"As the study says: “{study.purpose.text}” The point of care and the users are for the authors."
    ),
    "4": _aim,
    "6a": _setting,
    "6b": _with(_eligible),
    "7": _with(_preparation),
    "8a": _with(_outcome),
    "9a": _with(_predictors),
    "9b": _with(
        lambda study: (
            "Definitions, units and ranges stand in the table of inputs. When they were measured is for the authors."
        )
    ),
    "11": _with(missing),
    "12a": _with(_split),
    "12b": _with(handled),
    "12c": lambda facts, found: method(facts),
    "12d": _heterogeneity,
    "12e": _measures,
    "12f": _updated,
    "12g": _predicted,
    "14": _fairness,
    "15": _with(_output),
    "16": _same,
    "18e": _data,
    "18f": _code,
    "20a": _participants,
    "21": _developed,
    "22": _specified,
    "23a": _performance,
    "23b": _clusters,
    "24": _updated,
}
