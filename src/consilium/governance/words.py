"""A plan in plain words: what a data steward reads before deciding."""

from consilium.core.round import threshold
from consilium.core.study import Feature, Plan, Study
from consilium.governance.approvals import WEAKER, weaker

_SUMS = (
    "The coordinator, people with an account and the other hospitals learn, of each round, sums over at least {least} "
    "hospitals: of changes of the model, numbers of patients and histograms of scores; and who took part. Of a single "
    "hospital they learn what such a sum says of it; its figures are withheld. That holds even if the coordinator "
    "lies, as long as people compared the words of the roster on a line that it does not control, hospitals keep "
    "their keys, and at most one hospital works with it: honest hospitals in any opened sum: {honest}. {missing} A "
    "second sum at the same model that would show fewer than {floor} hospitals by difference is refused at each "
    "hospital. What sums say of patients is not bounded: no noise is added."
)
_SINGLE = (
    "The coordinator learns each hospital's changes of the model, number of patients and figures in every round, and "
    "may be able to reconstruct something of its patients from them: nothing but the good will of those who run it is "
    "in the way. People with an account see the figures of each hospital; the other hospitals see sums over all that "
    "took part."
)


def explain(plan: Plan) -> str:
    """The whole plan, in words."""
    study = plan.study
    lines = [
        _line(study.title),
        f"Study {study.name}, asked by {_line(study.purpose.requester)}, for {study.purpose.code}.",
        f"Purpose: {_line(study.purpose.text)}",
        "",
        "What is read here, and stays here:",
        *(f"  - {_feature(feature)}" for feature in study.contract.features),
        f"  - {study.contract.label.id}: {_line(study.contract.label.meaning)} (what the model learns to predict)",
        "",
        "What is done here:",
        f"  {_model(plan)}",
        f"  At most {study.rounds} rounds of training, {study.training.epochs} passes over the patients each, and "
        "one round that judges the final model.",
        f"  {study.evaluation.test_fraction:.0%} of the patients are held out; the model is judged on them alone.",
        f"  With fewer than {study.min_patients} training patients this hospital takes no part.",
        "",
        "What leaves, once per round:",
        "  The change of the model's parameters, the number of training patients, and histograms of the model's "
        "scores on held-out patients. No record of a patient leaves.",
        "",
        "Who can learn what:",
        f"  {learns(study)}",
        *(f"  {WEAKER[mode]}" for mode in weaker(plan)),
        "",
        f"The study ends {f'on {study.purpose.expires}' if study.purpose.expires else 'when its rounds are done'}.",
        f"Plan {plan.digest}",
    ]
    return "\n".join(lines)


def learns(study: Study) -> str:
    """Who can learn what under which assumption, in one paragraph; for the fewest hospitals that the plan allows."""
    if study.privacy.recipe == "plain":
        return _SINGLE
    floor = study.privacy.min_sites
    least = max(threshold(study.quorum), floor)
    spare = study.quorum - least
    missing = f"With {study.quorum} hospitals, " + (f"{spare} may be missing." if spare else "none may be missing.")
    return _SUMS.format(least=least, honest=least - 1, missing=missing, floor=floor)


def _line(text: str) -> str:
    """In one line: what a study says of itself cannot look like what we say of it."""
    return " ".join(text.split())


def _feature(feature: Feature) -> str:
    meaning = _line(feature.meaning)
    if feature.type == "number":
        assert feature.range is not None
        low, high = feature.range
        return f"{feature.id}: {meaning}, {low:g} to {high:g} {_line(feature.unit or '')}"
    return f"{feature.id}: {meaning}, one of {', '.join(_line(word) for word in (feature.categories or {}).values())}"


def _model(plan: Plan) -> str:
    model, strategy = plan.study.model, plan.study.strategy.name
    named = f"{model.kind} ({_line(model.architecture)})" if model.architecture else model.kind
    code = f", with foreign code from the wheel {model.wheel}" if model.wheel else ""
    return f"A model of kind {named} is trained by {strategy}{code}."
