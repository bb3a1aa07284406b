"""A plan in plain words: what a data steward reads before deciding."""

from consilium.core.round import threshold
from consilium.core.study import Feature, Plan
from consilium.governance.approvals import WEAKER, weaker


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
        f"  {learns(plan)}",
        "",
        f"The study ends {f'on {study.purpose.expires}' if study.purpose.expires else 'when its rounds are done'}.",
        f"Plan {plan.digest}",
    ]
    return "\n".join(lines)


def learns(plan: Plan) -> str:
    """Who can learn what of this hospital from what leaves, in one paragraph."""
    if weaker(plan):
        told = " ".join(WEAKER[mode] for mode in weaker(plan))
        return f"{told} Other hospitals learn the sums; people with an account at the coordinator see its figures, too."
    study = plan.study
    least = max(study.privacy.min_sites, threshold(len(study.sites)) if study.sites else 0)
    return (
        "The recipe `secure_sum` masks what leaves. Coordinator, researcher and other hospitals learn sums over "
        f"{least} hospitals or more (changes of the model, numbers of patients, histograms of scores) and who took "
        "part; of this hospital alone they learn what such a sum says of it, and its own figures are shown to nobody. "
        "It needs people who compare the words of the roster with other hospitals, once (`consilium site compare`), "
        "and hospitals that do not work with the coordinator: if one does, the two learn sums over "
        f"{least - 1} others or more. No noise is added: what a sum says of a patient is not bounded."
    )


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
