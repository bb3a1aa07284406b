"""A plan in plain words: what a data steward reads before deciding."""

from collections.abc import Mapping
from typing import Any

from consilium.core.contract import Contract, Feature, Image
from consilium.core.gate import Gate
from consilium.core.judging import SPANS
from consilium.core.study import GROUPED, ONNX, Plan, Study
from consilium.core.timed import COX, TIMED, tells_times
from consilium.governance.approvals import meant, small_cells, weaker

_SUMS = (
    "The coordinator, people with an account and the other hospitals learn, of each round, sums over at least {least} "
    "hospitals: {sums}; and who took part. Of a single hospital they learn what such a sum says of it{check}; its "
    "figures are withheld. That holds even if the coordinator "
    "lies, as long as people compared the words of the roster on a line that it does not control, hospitals keep "
    "their keys, and at most one hospital works with it: honest hospitals in any opened sum: {honest}. With "
    "fewer than {least} hospitals a round waits. A second sum at the same model, over other hospitals, is refused at "
    "each hospital that opened the first. {bound}"
)
_APART = (
    " Groups of hospitals that learn a model of their own are summed apart. Such a group may be of fewer than {floor} "
    "hospitals: the sum of a group of one is that hospital's update, without its name, but with its number of patients."
)
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
_UNBOUNDED = "What sums say of patients is not bounded: no noise is added."
_CHANGING = (
    "The plan goes on without a hospital that is away in a round: of one that is in one round and not in the next, "
    "which the coordinator can bring about, it learns by difference nearly what that hospital alone sends, and exactly "
    "its number of patients. A hospital's policy can refuse that (`changing_rosters: refuse`)."
)
_BOUNDED = (
    "What all rounds of a run together say of one patient is bounded (differential privacy; two sets of patients are "
    "neighbours when one patient is added or removed): epsilon {epsilon:g} at delta {delta:g} as long as all but "
    "{colluding} of the hospitals in an opened sum add their noise and tell nobody theirs, whoever stays away; epsilon "
    "{all_honest:g} while {quorum} hospitals hold keys, and all of them do. Where more hold keys, each adds less: it "
    "is another one then, and at most {epsilon:g}. That holds while it stays secret who was drawn in a round. A "
    "patient of several hospitals is counted at each of them: the epsilons of their hospitals add up. Every further "
    "run and study costs as much again. Not covered: the figures of held-out patients, which leave once, for the final "
    "model, without noise; {check}which hospitals have enough patients to take part; and how long they take."
)
_BOUNDED_EACH = (
    "What all rounds of a run together say of one patient of this hospital is bounded (differential privacy; two "
    "tables are neighbours when one patient is added or removed): epsilon {epsilon:g} at delta {delta:g}, whoever sees "
    "it. This hospital adds all the noise itself before anything leaves, so that holds even if the coordinator and all "
    "other hospitals work together. It holds while it stays secret here who was drawn in a step, and which noise was "
    "added. A patient of several hospitals is counted at each of them: the epsilons of their hospitals add up. Every "
    "further run and study costs as much again. Not covered: the figures of held-out patients, which leave once, for "
    "the final model, without noise; {check}which hospitals have enough patients to take part; and how long they take."
)
_BOUNDED_WHOLE = (
    "What all rounds of a run together say of one hospital as a whole is bounded (differential privacy; two consortia "
    "are neighbours when one hospital's changes of the model are there, or none in their place): epsilon {epsilon:g} "
    "at delta {delta:g} as long as all but {colluding} of the hospitals in an opened sum add their noise and tell "
    "nobody theirs, whoever stays away; epsilon {all_honest:g} while {quorum} hospitals hold keys, and all of them do. "
    "Where more hold keys, each adds less: it is another one then, and at most {epsilon:g}. {size} A patient is within "
    "it, too, but at twice the distance: the review of the budget says at which epsilon, and the ledger counts that. "
    "Every further run and study costs as much again. Not covered: that this hospital takes part; the figures of "
    "held-out patients, which leave once, for the final model, without noise; {check}and how long training takes."
)
_FOUND = "whether its data pass the check, and which kinds of findings"
ENOUGH = 50
"""With fewer hospitals, noise that bounds much leaves no model, and noise that leaves one bounds little."""
_FEW = (
    "With fewer than {enough} hospitals take that for hygiene and not for a guarantee: noise that leaves a model worth "
    "having makes such an epsilon a large one, and one that is small leaves little of the model."
)
_MANY = "That is for {quorum} hospitals and more."
_FIGURES = "of changes of the model, numbers of patients and {told}"
_CURVED = (
    "of first and second derivatives of the loss over patients, from which follows how many patients have each two "
    "codes together, and how numbers go together with them, with one another and with the label; numbers of patients "
    "and {told}"
)
_PAIRS = "numbers of pairs of patients, of whom the score told who had the event first, or did not"
_CELLS_OF_TIMES = (
    "; and once, of how many held-out patients, and of each group of them that is judged, have a time and a score in "
    "each of {times} by {scores} spans or fewer, with the event and without it: often that is one patient"
)
_COMPARED = (
    "of first and second derivatives of the log partial likelihood, in which each hospital compares its own patients "
    "with one another: how far those with the event are from those who were still observed then, and how much these "
    "differ; no time of an event of a training patient; numbers of patients, and of how many pairs of them the score "
    "told who had the event first{cells}"
)
_BY_TIME = (
    "by groups of times of numbers of patients, and of sums over those whose observation ended in a group, and over "
    "those among them with the event: of each feature, and of each product of two, weighted by hazards, which at first "
    "are all 1. How many of them have a code, or two codes together, follows, and that may be one patient. {hidden} "
    "Further of numbers of patients, and of how many pairs of them the score told who had the event first{cells}"
)
_HIDDEN = (
    "Times are put into groups so that in each at least {least} patients had the event, and that observation ended "
    "without it for at least {least}, or for nobody; for that, hospitals first add up, for spans of times, how many of "
    "them have so many such patients themselves."
)
_OPEN = "Groups of fewer patients than five are shown, too: of a single one, the time and each feature follow."
_TRIED = (
    "; all that at {fits} models at once, over all training patients and over four fifths of them, so that their "
    "difference tells it of the last fifth alone; and how well models fit that fifth, by which a penalty is chosen"
)
_NOISED = "of changes of the model, with noise; and once, of histograms of the final model's scores, without"
_SINGLE = (
    "The coordinator learns each hospital's {what}, number of patients and figures in every round, and "
    "may be able to reconstruct something of its patients from them: nothing but the good will of those who run it is "
    "in the way. People with an account see the figures of each hospital; the other hospitals see sums over all that "
    "took part."
)
_SINGLE_NOISED = (
    "The coordinator learns each hospital's changes of the model in every round, with the noise that the hospital "
    "added, and no number of its training patients; and once, of each hospital on its own, histograms of the final "
    "model's scores on held-out patients, without noise. People with an account see the figures of each hospital; the "
    "other hospitals see sums over all that took part. {bound}"
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
PROTECTS = {
    "plain": "plain: the coordinator saw each hospital's update and figures; each site signed that it accepts it",
    "secure_sum": "secure_sum: the coordinator saw sums over hospitals; figures of single hospitals are withheld",
}
"""What a result says of its recipe, in one line."""
_CELLS = "; cells of times of fewer than five patients were shown, which each site signed that it accepts"
_GROUPED = "; of groups of hospitals apart, which may have been of one"


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
        *(f"  {line}" for line in filter(None, (_told(study),))),
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


def learns(study: Study) -> str:
    """Who can learn what under which assumption, in one paragraph; for the fewest hospitals that the plan allows."""
    if study.privacy.recipe == "plain":
        what = "sums " + _curved(study) if study.exact else "changes of the model"
        told = _SINGLE.format(what=_judging(study) if study.judged_only else what) + _before(study)
        return _SINGLE_NOISED.format(bound=_bound(study)) if study.privacy.local else told
    floor = study.privacy.min_sites
    plain = _curved(study) if study.exact else _figures(study)
    same = study.judged_only or len(study.sites) == study.quorum  # there is one round, or nobody may be missing
    unbounded = _UNBOUNDED if same else f"{_UNBOUNDED} {_CHANGING}"
    sums, bound = (plain, unbounded) if study.privacy.epsilon is None else (_NOISED, _bound(study))
    check = "" if study.gate is None else ", and what it tells of its check"
    told = _SUMS.format(least=study.quorum, honest=study.quorum - 1, sums=sums, bound=bound, check=check)
    return told + _before(study) + (_APART.format(floor=floor) if study.strategy.name in GROUPED else "")


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


def _before(study: Study) -> str:
    """Who learns what of preparation; empty where nothing is asked for."""
    if study.prepare is None:
        return ""
    whose = (
        "each hospital's sums" if study.privacy.recipe == "plain" else "the sums over all of them, and of none alone"
    )
    return f" Before training, the coordinator learns {whose} by which inputs are prepared. {_told(study)}"


def _curved(study: Study) -> str:
    if study.cell is not None:
        hidden = _HIDDEN.format(least=study.cell) if study.cell > 1 else ""
        return _BY_TIME.format(
            hidden=f"{hidden} {_OPEN if small_cells(study) else ''}".strip(), cells=_cells_of_times(study)
        )
    tried = _TRIED.format(fits=study.fits) if study.validates else ""
    compared = _COMPARED.format(cells=_cells_of_times(study))
    return (compared if study.model.kind == COX else _CURVED.format(told=_judging(study))) + tried


def _cells_of_times(study: Study) -> str:
    """That times of held-out patients leave, in spans; empty where the plan asks for less."""
    times, scores = SPANS
    return _CELLS_OF_TIMES.format(times=times, scores=scores) if tells_times(study) else ""


def _figures(study: Study) -> str:
    if study.judged_only:
        return f"of numbers of patients and {_judging(study)}"
    return _FIGURES.format(told=_judging(study))


def _judging(study: Study) -> str:
    """What sums over held-out patients are of, in a few words."""
    timed = _PAIRS + _cells_of_times(study)
    return {"binary": "histograms of scores", TIMED: timed}.get(study.contract.label.type, "sums of errors")


def _bound(study: Study) -> str:
    asked = study.privacy
    check = f"{_FOUND}; " if study.gate is not None else ""
    if asked.local:
        return _BOUNDED_EACH.format(epsilon=asked.epsilon, delta=asked.delta, check=check)
    size = (_FEW if study.quorum < ENOUGH else _MANY).format(enough=ENOUGH, quorum=study.quorum)
    return (_BOUNDED_WHOLE if asked.whole else _BOUNDED).format(
        epsilon=asked.epsilon, delta=asked.delta, colluding=asked.colluding,
        all_honest=asked.all_honest or asked.epsilon, quorum=study.quorum, size=size, check=check,
    )  # fmt: skip


def protects(study: Study) -> str:
    """How a plan protects updates, in one line."""
    asked = study.privacy
    if asked.epsilon is None:
        grouped = asked.recipe == "secure_sum" and study.strategy.name in GROUPED
        return PROTECTS[asked.recipe] + (_GROUPED if grouped else "") + (_CELLS if small_cells(study) else "")
    if asked.local:
        how = "with noise that each hospital added itself"
    else:
        how = f"while all hospitals add their noise: {asked.all_honest or asked.epsilon:g}"
    few = ": hygiene and no guarantee for so few" if asked.whole and study.quorum < ENOUGH else ""
    return (
        f"{PROTECTS[asked.recipe]}; differential privacy per {asked.unit}{few}, with epsilon {asked.epsilon:g} at "
        f"delta {asked.delta:g} ({how}), which does not cover the figures of held-out patients"
        + ("" if study.gate is None else f", nor {_FOUND.replace('its', 'their')}")
    )


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


def _told(study: Study) -> str:
    """What of preparation is told; empty where nothing is asked for."""
    asked = study.prepare
    if asked is None:
        return ""
    hidden = (
        "Counts of few patients are told, too."
        if asked.hide_below == 1
        else (
            f"No count of fewer than {asked.hide_below} patients of a hospital is told: it is added to the hospital's "
            "largest one, or left out, so that no sum holds it."
        )
    )
    sums = (
        ["how many have each value, and sums and sums of squares of numbers"]
        if asked.numbers == "standardise" or (asked.missing == "impute")
        else []
    )
    sums += ["histograms of " + ", ".join(sorted(asked.bins))] if asked.bins else []
    if asked.harmonise is not None:
        sums.append(
            "sums of numbers that are harmonised and of what is kept, sums of squares and products of how they differ "
            "from this hospital's means, and of how many patients"
        )
    sums += ["how many have each code"] if asked.rare_below or asked.missing == "impute" else []
    return f"Of the round before training: over training patients, {'; '.join(sums)}. {hidden}"


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
    told = JUDGED.get(study.contract.label.type, ERRORS) + _cells_of_times(study)
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
