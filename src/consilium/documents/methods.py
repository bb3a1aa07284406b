"""How a model was made, and what was done with its inputs, in the words of a paper's methods."""

from consilium.core.study import Study
from consilium.core.timed import COX
from consilium.documents.facts import Facts
from consilium.documents.terms import penalty, plain

RAW = ("onnx", "xgboost")
"""Kinds of models that take values as they are."""


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "category"), counted(2, "category")
    ('1 category', '2 categories')
    """
    return f"{count} {noun if count == 1 else f'{noun[:-1]}ies' if noun.endswith('y') else f'{noun}s'}"


def scaled(study: Study) -> str:
    """What is done to numbers before the model sees them."""
    if study.model.kind in RAW:
        return "The model takes them as they are: what it does to them first is part of it."
    return _learned(study) or "Numbers are scaled by ranges of the contract, not by the data."


def _learned(study: Study) -> str:
    """How inputs were prepared by the patients of all hospitals; empty where they were not."""
    if study.prepare is None:
        return ""
    return f"By sums over all hospitals, in a round before training: {'; '.join(study.prepare.steps)}."


def missing(study: Study) -> str:
    """Who takes part without a value, and what stands in its place."""
    needed = [one.id for one in study.contract.inputs if one.missing == "forbidden"]
    count = len(study.contract.inputs)
    without = f"a patient without {plain(needed).replace(' and ', ' or ')} is excluded"
    if len(needed) == count:
        return f"No value is missing: {without}."
    filled = study.prepare is not None and study.prepare.missing == "impute"
    how = "filled in by the patients of all hospitals" if filled else "encoded as such"
    if study.model.kind in RAW:
        how = "given to the model as missing, which deals with it by itself"
    told = f"For {count - len(needed)} of {counted(count, 'predictor')} a patient without a value takes part, and the "
    return f"{told}missing value is {how}{f'; {without}' if needed else ''}."


def handled(study: Study) -> str:
    """How inputs enter the model."""
    if study.model.kind in RAW:
        return (
            "In the contract’s units and codes; a missing value is missing there, too. Whether the model scales "
            "or fills them in, and how, is inside of it, and for the authors."
        )
    if study.prepare is not None:
        return _learned(study)
    told = ["Numbers are scaled so that the contract's typical (or plausible) range becomes −1 to 1"]
    if any(one.type == "category" for one in study.contract.features):
        told.append("categories become indicators")
    if any(one.missing == "allowed" for one in study.contract.features):
        told.append("a missing value has an indicator of its own")
    return f"{'; '.join(told)}."


def method(facts: Facts) -> str:
    """Which model it is, how it was fitted or trained, with which penalty, and how it was validated."""
    study, noise = facts.about, facts.noise
    if study is None:
        return ""
    kind = f"{study.model.kind} ({study.model.architecture})" if study.model.architecture else study.model.kind
    if study.judged_only:
        return f"A model that was made elsewhere (kind: {kind}). How is for the authors."
    if study.exact:
        how, fixed = _fitted(study), "Rounds"
    else:
        passes = f" of {study.training.epochs} pass{'' if study.training.epochs == 1 else 'es'}"
        how = f"trained by {study.strategy.name} in up to {study.rounds} rounds{passes if noise is None else ''}, "
        how += f"learning rate {study.training.learning_rate:g}"
        fixed = "Rounds and rates"
    validation = "one split by patient" if study.evaluation.folds is None else f"{study.evaluation.folds} folds"
    return (
        f"A {kind} model, {how}, {_penalised(facts, study)}. {fixed} were fixed in the plan beforehand. "
        + (f"So that little can be learned of one {noise.unit} ({noise.bound}), {noise.how}. " if noise else "")
        + f"Internal validation: {validation}. Why this model is for the authors."
    )


def _fitted(study: Study) -> str:
    """As which regression on one table of all patients."""
    told = f"fitted by {study.strategy.name} in up to {study.rounds} rounds, exactly as on one table of all patients"
    if study.cell is not None:
        every, unit = study.strategy.options.get("every"), study.contract.label.unit
        times = f"on times that were rounded to multiples of {every:g} {unit} and put together into groups"
        return f"{told} with one baseline hazard for all hospitals, {times}"
    return f"{told}, each hospital with a baseline hazard of its own" if study.model.kind == COX else told


def _penalised(facts: Facts, study: Study) -> str:
    """With which penalties, and who chose them."""
    if not study.validates:
        return penalty(float(study.strategy.options.get("l1", 0.0)), study.model.l2)
    tried, fit = study.strategy.options.get("penalties") or (), facts.regression or {}
    chosen = next((one for one in fit.get("path") or () if one.get("chosen")), None)
    told = (
        f"with one of {len(tried)} penalties, chosen by the loss on a fifth of the training patients of models that "
        "were fitted to the others"
    )
    return told if chosen is None else f"{told}: {penalty(float(chosen['l1']), float(chosen['l2']))}"
