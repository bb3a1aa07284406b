"""Who can learn what of patients and hospitals, and what protects them: in words, for the review and the result."""

from consilium.core.judging import SPANS
from consilium.core.study import GROUPED, Study
from consilium.core.timed import COX, TIMED, tells_times
from consilium.governance.approvals import small_cells

_SUMS = (
    "The coordinator, people with an account and the other hospitals learn, of each round, sums over at least {least} "
    "hospitals: {sums}; and who took part. Of a single hospital they learn what such a sum says of it{check}; its "
    "figures are withheld, but for those that its own policy lets it tell; and it says if it has no held-out patients "
    "of an outcome, next to no values of a feature that is prepared, nothing by which one is harmonised, or, with a "
    "common baseline, no patient with the event. That holds even if the coordinator lies, as long as people compared "
    "the words of the roster on a line that it does not control, hospitals keep their keys, and at most one hospital "
    "works with it: honest hospitals in any opened sum: {honest}. With fewer than {least} hospitals a round waits. A "
    "second sum at the same model, over other hospitals, "
    "is refused at each hospital that opened the first. {bound}"
)
_APART = (
    " Groups of hospitals that learn a model of their own are summed apart. Such a group may be of fewer than {floor} "
    "hospitals: the sum of a group of one is that hospital's update, without its name, but with its number of patients."
)
_UNBOUNDED = "What sums say of patients is not bounded: no noise is added."
_CHANGING = (
    "Where more than {quorum} hospitals take part, the plan goes on without one that is away in a round: of a hospital "
    "that is in one round and not in the next, which the coordinator can bring about, it learns by difference nearly "
    "what that hospital alone sends, and exactly its number of patients. A hospital's policy can refuse that "
    "(`changing_rosters: refuse`)."
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
    "Times are put into groups so that in each at least {least} patients of two hospitals each had the event, and that "
    "observation ended without it for as many, or for nobody; for that, hospitals first add up, for spans of times, "
    "how many of them have so many such patients themselves."
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
PROTECTS = {
    "plain": "plain: the coordinator saw each hospital's update and figures; each site signed that it accepts it",
    "secure_sum": "secure_sum: the coordinator saw sums over hospitals; figures of single hospitals are withheld",
}
"""What a result says of its recipe, in one line."""
_CELLS = "; cells of times of fewer than five patients were shown, which each site signed that it accepts"
_OF_HOSPITALS = (
    " Some of these sums are of numbers of hospitals as a whole: where few take part, one of them that is curious can "
    "compute those of each other one."
)
_GROUPED = "; of groups of hospitals apart, which may have been of one"


def learns(study: Study) -> str:
    """Who can learn what under which assumption, in one paragraph; for the fewest hospitals that the plan allows."""
    if study.privacy.recipe == "plain":
        what = "sums " + _curved(study) if study.exact else "changes of the model"
        told = _SINGLE.format(what=_judging(study) if study.judged_only else what) + _before(study)
        return _SINGLE_NOISED.format(bound=_bound(study)) if study.privacy.local else told
    floor = study.privacy.min_sites
    plain = _curved(study) if study.exact else _figures(study)
    same = study.judged_only or len(study.sites) == study.quorum  # there is one round, or nobody may be missing
    unbounded = _UNBOUNDED if same else f"{_UNBOUNDED} {_CHANGING.format(quorum=study.quorum)}"
    sums, bound = (plain, unbounded) if study.privacy.epsilon is None else (_NOISED, _bound(study))
    check = "" if study.gate is None else ", and what it tells of its check"
    told = _SUMS.format(least=study.quorum, honest=study.quorum - 1, sums=sums, bound=bound, check=check)
    apart = _APART.format(floor=floor) if study.strategy.name in GROUPED else ""
    return told + _before(study) + apart + (_OF_HOSPITALS if study.of_hospitals else "")


def _before(study: Study) -> str:
    """Who learns what of preparation; empty where nothing is asked for."""
    if study.prepare is None:
        return ""
    whose = (
        "each hospital's sums" if study.privacy.recipe == "plain" else "the sums over all of them, and of none alone"
    )
    return f" Before training, the coordinator learns {whose} by which inputs are prepared. {of_preparation(study)}"


def _curved(study: Study) -> str:
    if study.cell is not None:
        hidden = _HIDDEN.format(least=study.cell) if study.cell > 1 else ""
        return _BY_TIME.format(
            hidden=f"{hidden} {_OPEN if small_cells(study) else ''}".strip(), cells=cells_of_times(study)
        )
    tried = _TRIED.format(fits=study.fits) if study.validates else ""
    compared = _COMPARED.format(cells=cells_of_times(study))
    return (compared if study.model.kind == COX else _CURVED.format(told=_judging(study))) + tried


def cells_of_times(study: Study) -> str:
    """That times of held-out patients leave, in spans; empty where the plan asks for less."""
    times, scores = SPANS
    return _CELLS_OF_TIMES.format(times=times, scores=scores) if tells_times(study) else ""


def _figures(study: Study) -> str:
    if study.judged_only:
        return f"of numbers of patients and {_judging(study)}"
    return _FIGURES.format(told=_judging(study))


def _judging(study: Study) -> str:
    """What sums over held-out patients are of, in a few words."""
    timed = _PAIRS + cells_of_times(study)
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


def of_preparation(study: Study) -> str:
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
