"""A plan in plain words: what a data steward reads before deciding."""

from collections.abc import Mapping
from typing import Any

from consilium.core.contract import Contract, Feature, Image
from consilium.core.gate import Gate
from consilium.core.model import ONNX
from consilium.core.study import Plan, Study
from consilium.core.timed import TIMED
from consilium.governance.approvals import meant, weaker
from consilium.governance.learning import cells_of_times, learns, of_preparation

_START = {
    "seed": "It starts from values that follow from the study: this hospital makes them anew, and takes no others.",
    "drawn": (
        "It starts from values that are drawn by the study's seed, where models of this kind else start at zero: this "
        "hospital makes them anew, and takes no others. Sums of before, at zero or at other values, may have been over "
        "other hospitals: that does not stand against this study."
    ),
    "given": "It starts from a model that was made elsewhere.",
}
_UNTIED = (
    " Nothing ties it to this contract: the file that was given does not say by which plan it was trained, and that it "
    "takes these inputs, in this order and on these scales, is the word of who asks."
)
_CHECK = (
    "Whether the data pass the study's check, which kinds of findings there are and at which feature{counts}. All "
    "people with an account see that. With a check that did not pass this hospital is not asked {what}.{softer} "
    "{numbers}"
)
_NUMBERS = (
    "Numbers are told with the approval, and anew where a person here writes `--tell`; other checks repeat them. If "
    "this hospital's policy says `tell_flow`, it tells how many patients were read, left out and held out as well, in "
    "tens."
)
_NO_NUMBERS = (
    "No percent and no number of patients is told, whatever this hospital's policy says: it would leave without noise."
)
_LIMITS = {
    "unmapped_max": "codes without meaning", "not_a_number_max": "values that are no numbers",
    "out_of_range_max": "values out of range",
}  # fmt: skip
_UNCHECKED = (
    "The data need pass no check before a round: {why}. Values in a wrong unit, or with a wrong code, would be learned "
    "from; `consilium site check` finds them here all the same."
)


def _image(image: Image) -> str:
    """An image, in one line."""
    views = f", {' or '.join(image.view)}" if image.view else ""
    kinds, size = " or ".join(image.modality), f"{image.rows} x {image.columns} pixels"
    return (
        f"{image.id}: {_line(image.meaning)} (DICOM {kinds}{views}, {size}, of which nothing but their values is read)"
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
        *([] if study.contract.image is None else [f"  - {_image(study.contract.image)}"]),
        f"  - {study.contract.label.id}: {_line(study.contract.label.meaning)} ({_learned(study)})",
        "",
        "What is done here:",
        f"  {_model(plan)}",
        *(f"  {line}" for line in _prepared(study)),
        f"  {_rounds(study)}",
        f"  {_held_out(study)}",
        *_left_out(study.contract),
        *_unchecked(study),
        "",
        "What leaves, once per round:",
        f"  {_leaves(study)}",
        *(f"  {line}" for line in filter(None, (of_preparation(study),))),
        *(
            []
            if study.gate is None
            else ["", "What leaves with the approval, and with each check after it:", f"  {_attested(study)}"]
        ),
        "",
        "Who can learn what:",
        f"  {learns(study)}",
        *(f"  {meant(plan, mode)}" for mode in weaker(plan)),
        "",
        f"The study ends {f'on {study.purpose.expires}' if study.purpose.expires else 'when its rounds are done'}.",
        f"Plan {plan.digest}",
    ]
    return "\n".join(lines)


def _attested(study: Study) -> str:
    """What leaves of a check, and what follows."""
    assert study.gate is not None
    softer = _softer(study.gate)
    what = "to judge" if study.judged_only else "to train"
    if study.privacy.epsilon is not None:
        return _CHECK.format(counts="", what=what, softer=softer, numbers=_NO_NUMBERS)
    patients = "" if study.judged_only else ", and the number of training patients in tens"
    counts = f", what percent of patients has each value in steps of five{patients}"
    return _CHECK.format(counts=counts, what=what, softer=softer, numbers=_NUMBERS)


def _unchecked(study: Study) -> list[str]:
    """That nothing is asked of the data, where nothing is."""
    if study.gate is not None and not study.gate.idle:
        return []
    why = "the study says `gate: none`" if study.gate is None else "nothing that is found in them blocks"
    return [f"  {_UNCHECKED.format(why=why)}"]


def _softer(gate: Gate) -> str:
    """What blocks in studies that say nothing of a gate, and not here; empty where there is no such thing."""
    usual, told = Gate(), ""
    if gate.softened:
        told += f" Told alone, where it blocks in a study that does not say otherwise: {', '.join(gate.softened)}."
    more = [
        f"{words} of up to {getattr(gate, name):.0%} of the patients (else {getattr(usual, name):.0%})"
        for name, words in _LIMITS.items()
        if getattr(gate, name) > getattr(usual, name)
    ]
    return f"{told} More than usual is let pass: {'; '.join(more)}." if more else told


def _held_out(study: Study) -> str:
    apart = f", and by {' and '.join(group.feature for group in study.apart)} apart" if study.apart else ""
    if study.judged_only:
        told = f"The model is judged on all patients{apart}."
        return f"{told} With fewer than {study.min_patients} this hospital takes no part."
    told = (
        f"{study.evaluation.test_fraction:.0%} of the patients are held out; the model is judged on them alone"
        f"{apart}.\n"
    )
    if folds := study.evaluation.folds:
        return (
            f"All patients train the model. Beside it {folds} others are trained, each without one in {folds} of the "
            f"patients, by which these are judged{apart}. So sums over all patients leave, and sums without each part: "
            f"they differ by sums over one in {folds} of the patients of each hospital.\n"
            f"  With fewer than {study.min_patients} in the smallest part this hospital takes no part."
        )
    if study.validates:
        return told + (
            "  About a fifth of the others choose the penalty, by a hash of the patient that no study changes.\n"
            f"  With fewer than {study.min_patients} of these this hospital takes no part."
        )
    return f"{told}  With fewer than {study.min_patients} training patients this hospital takes no part."


def _rounds(study: Study) -> str:
    if study.judged_only:
        return "Nothing is trained: one round judges the model."
    asked, judged = study.privacy, "and one round that judges the final model."
    if asked.epsilon is None or asked.whole:
        passes = f"{study.training.epochs} passes over the patients each"
        if study.exact:
            passes = "each with sums over all patients"
        told = f"At most {study.rounds} rounds of training, {passes}, {judged}"
        if study.enough:
            told += (
                f" A round closes with the first {study.enough} answers; what this hospital has trained later goes "
                "into a later round."
            )
        return f"{told} {_shortened(study)}" if asked.whole else told
    steps = f"In each of the {study.noised_steps} steps of a round" if asked.local else "In each"
    return (
        f"At most {study.rounds} rounds of training, {judged} {steps}, every patient is drawn with a chance of "
        f"{asked.sampling:g}; what the drawn ones change is cut to a norm of {asked.clip_norm:g} for each, summed, and "
        f"gets noise of {asked.noise_multiplier or 0:g} times that."
    )


def _prepared(study: Study) -> list[str]:
    """What is learned of the patients of all before training; nothing where nothing is asked for."""
    if study.prepare is None:
        return []
    return [f"First, in one round without training, inputs are prepared: {'; '.join(study.prepare.steps)}."]


def _shortened(study: Study) -> str:
    asked = study.privacy
    bound = f"a norm of {asked.clip_norm:g}"
    if asked.clip_quantile is not None:
        bound += f" at first, which then follows what {asked.clip_quantile:.0%} of the hospitals stay below"
    noise = asked.noise_multiplier or 0
    return f"What a hospital changes in a round is cut to {bound}, and the sum gets noise of {noise:g} times that."


ERRORS = (
    "sums over held-out patients of the model's errors, and in the last round of powers of these and of predictions"
)
JUDGED = {
    "binary": "histograms of the model's scores on held-out patients",
    TIMED: (
        "numbers of pairs of held-out patients whom the model's scores order as their times do, or do not, and in the "
        "last round how likely the model makes their order, and how many events it expects"
    ),
}
"""What leaves of held-out patients, by type of outcome."""


def _leaves(study: Study) -> str:
    told = JUDGED.get(study.contract.label.type, ERRORS) + cells_of_times(study)
    if study.judged_only:
        return f"The number of patients, and {told}. No record of a patient leaves."
    if study.privacy.epsilon is None:
        what = "The change of the model's parameters"
        if study.exact:
            what = "Sums over training patients of first and second derivatives of the loss"
        if study.validates:
            what += f" at {study.fits} models, over all and without the fifth that chooses a penalty"
        if study.cell is not None:
            what = "Sums over training patients by groups of times"
        return f"{what}, the number of training patients, and {told}. No record of a patient leaves."
    noise = "all the noise that is promised" if study.privacy.local else "this hospital's share of noise"
    return (
        f"The change of the model's parameters, with {noise}; and in the last round, instead of "
        f"it, {told}. No record of a patient and no number of training patients leaves."
    )


def _learned(study: Study) -> str:
    if study.contract.label.type != TIMED:
        return "what the model learns to predict"
    return "and after what time, or until when it had not happened: what the model learns to predict"


def _line(text: str) -> str:
    """In one line: what a study says of itself cannot look like what we say of it."""
    return " ".join(text.split())


def _feature(feature: Feature) -> str:
    meaning = _line(feature.meaning)
    if feature.type == "number":
        assert feature.range is not None
        low, high = feature.range
        return f"{feature.id}: {meaning}, {low:g} to {high:g} {_line(feature.unit or '')}{_records(feature)}"
    words = ", ".join(_line(word) for word in (feature.categories or {}).values())
    return f"{feature.id}: {meaning}, one of {words}{_records(feature)}"


_RECORDED = {
    None: "records", "observation": "records", "condition": "conditions", "procedure": "procedures", "drug": "drugs",
}  # fmt: skip


def _records(feature: Feature) -> str:
    """Of which records, where the contract says so."""
    if feature.window is None:
        return ""
    first, last = (end or "any time" for end in feature.window)
    codes = ", ".join(_line(f"{one.code} ({one.system})") for one in feature.codes)
    of = _RECORDED[feature.recorded]
    return f"; {feature.aggregate} of {of} {codes}, from {first} to {last} around the index moment"


def _left_out(contract: Contract) -> list[str]:
    """Who takes no part, in one line each."""
    said = []
    for one in contract.exclude:
        parts = [f"below {one.below:g}"] if one.below is not None else []
        parts += [f"above {one.above:g}"] if one.above is not None else []
        parts += [f"one of {', '.join(one.among)}"] if one.among else []
        said.append(f"  Patients take no part with {one.feature} {' or '.join(parts)}.")
    if contract.label.maturity_days:
        said.append(f"  Nor do patients whose index moment is younger than {contract.label.maturity_days} days.")
    return said


def _plain(value: Any) -> str:
    """Options as people read them: which columns fill an input, and which class is the label's 1."""
    if isinstance(value, Mapping):
        return "; ".join(f"{_line(name)} ({_plain(one)})" for name, one in value.items())
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else _line(str(value))


def _model(plan: Plan) -> str:
    model, strategy = plan.study.model, plan.study.strategy.name
    named = f"{model.kind} ({_line(model.architecture)})" if model.architecture else model.kind
    code = f", with foreign code from the wheel {model.wheel}" if model.wheel else ""
    code = ", by the graph of an ONNX file, which runs confined" if model.kind == ONNX else code
    untied = _UNTIED if model.untied else ""
    if plan.study.judged_only:
        told = f" Its options: {_plain(model.options)}." if model.kind == ONNX and model.options else ""
        told = f"Its digest is {model.initial}.{told}{untied}"
        return f"A model of kind {named} that was made elsewhere is judged{code}. {told}"
    return f"A model of kind {named} is trained by {strategy}{code}. {_START[model.start]}{untied}"
