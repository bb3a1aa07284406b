"""Metrics and numbers as people read them."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from consilium.documents.estimate import Estimate


@dataclass(frozen=True)
class Metric:
    """A metric, and in which table it stands: `worth`, `threshold` or `calibration`.

    share: it lies between 0 and 1.   leads: hospitals may be compared by it.   chance: of a model that knows nothing.
    ideal: of a model that is calibrated.
    """

    id: str
    word: str
    meaning: str
    table: str = "worth"
    share: bool = True
    more_is_better: bool = True
    leads: bool = False
    chance: float | None = None
    ideal: float | None = None


METRICS = {
    one.id: one
    for one in (
        Metric("auroc", "AUROC", "chance that a patient with the outcome scores higher than one without",
               leads=True, chance=0.5),
        Metric("stratified_auroc", "AUROC within hospitals", "the same of two patients of one hospital"),
        Metric("concordance", "concordance", "of two patients, chance that the one with the event first has the higher "
               "score", leads=True, chance=0.5),
        Metric("stratified_concordance", "concordance within hospitals", "the same of two patients of one hospital, "
               "each hospital by the number of its patients", leads=True, chance=0.5),
        Metric("auprc", "AUPRC", "precision over all thresholds; a model that knows nothing has the prevalence"),
        Metric("r2", "R²", "share of the label's variance that is explained", share=False, leads=True, chance=0.0),
        Metric("deviance", "deviance", "mean deviance per patient", share=False, more_is_better=False, leads=True),
        Metric("brier", "Brier score", "mean squared difference of score and outcome", more_is_better=False),
        Metric("logloss", "log loss", "mean negative log-likelihood", share=False, more_is_better=False),
        Metric("rmse", "RMSE", "root of the mean squared error, in the label's unit", share=False,
               more_is_better=False),
        Metric("mae", "MAE", "mean absolute error, in the label's unit", share=False, more_is_better=False),
        Metric("prevalence", "prevalence", "share of patients with the outcome"),
        Metric("sensitivity", "sensitivity", "of those with the outcome, share at or above the threshold", "threshold"),
        Metric("specificity", "specificity", "of those without, share below it", "threshold"),
        Metric("ppv", "PPV", "of those at or above it, share with the outcome", "threshold"),
        Metric("npv", "NPV", "of those below it, share without", "threshold"),
        Metric("accuracy", "accuracy", "share on the right side of it", "threshold"),
        Metric("flagged", "flagged", "share at or above it", "threshold"),
        Metric("net_benefit", "net benefit", "true positives per patient, less false ones by the odds of the threshold",
               "threshold", share=False),
        Metric("mean_error", "mean error", "outcome less prediction, on average, in the label's unit", "calibration",
               share=False, ideal=0.0),
        Metric("observed_to_expected", "O:E", "outcomes, per one that the model expects", "calibration", share=False,
               ideal=1.0),
        Metric("calibration_in_the_large", "in the large", "log odds by which outcomes exceed what is expected",
               "calibration", share=False, ideal=0.0),
        Metric("calibration_slope", "slope", "below 1: predictions are too far apart; above: too close", "calibration",
               share=False, ideal=1.0),
        Metric("calibration_error", "mean distance", "of scores from what comes true, over ten equal spans of scores",
               "calibration", more_is_better=False, ideal=0.0),
    )
}  # fmt: skip
"""In the order of a table."""


def number(value: float | None, digits: int = 2) -> str:
    """A number as a journal prints it; 0 to 1 with its leading zero.

    >>> number(0.914), number(12345.6), number(-0.001), number(None)
    ('0.91', '12346', '0.00', '')
    """
    if value is None:
        return ""
    text = f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.0f}"
    return text.replace("-", "" if float(text) == 0 else "−")


def percent(share: float) -> str:
    """A confidence, with the digits by which it differs from 1.

    >>> percent(0.95), percent(0.975), percent(0.9983870967741936), percent(0.99996)
    ('95%', '97.5%', '99.84%', '99.996%')
    """
    digits = 2 if share >= 1 else max(2, 1 - math.floor(math.log10(100 * (1 - share))))
    return f"{round(100 * share, digits):.15g}%"


def fine(value: float | None) -> str:
    """A coefficient or a ratio, which may be of any size: three digits at least that are no zeros before others.

    >>> fine(1.0131), fine(-0.000301), fine(0.04), fine(None)
    ('1.013', '−0.000301', '0.04', '')
    """
    if value is None:
        return ""
    text = f"{value:.3f}" if 0.1 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"
    return text.replace("-", "−")


def ratio(value: float | None) -> str:
    """A ratio, of which the digits are seen by which it differs from 1.

    >>> ratio(1.0131), ratio(0.999699), ratio(0.0123), ratio(1.0)
    ('1.013', '0.99970', '0.0123', '1.000')
    """
    if value is None or value == 1 or abs(value - 1) >= 0.001:
        return fine(value)
    return f"{value:.{min(1 - math.floor(math.log10(abs(value - 1))), 8)}f}"


def interval(one: Estimate, told: Callable[[float | None], str] = number) -> str:
    """A figure with its interval; why there is none.

    >>> interval(Estimate(0.914, 0.85, 0.97, 100)), interval(Estimate(None, note="one class only"))
    ('0.91 (0.85 to 0.97)', 'one class only')
    """
    if one.value is None:
        return one.note or "not known"
    if one.low is None or one.high is None:
        return told(one.value)
    return f"{told(one.value)} ({told(one.low)} to {told(one.high)})"


def penalty(l1: float, l2: float) -> str:
    """Penalties of a model.

    >>> penalty(0.1, 0.0), penalty(0.0, 0.0), penalty(0.1, 0.02)
    ('L1 penalty 0.1', 'L2 penalty 0', 'L1 penalty 0.1 and L2 penalty 0.02')
    """
    told = [*([f"L1 penalty {l1:g}"] if l1 else []), *([f"L2 penalty {l2:g}"] if l2 or not l1 else [])]
    return plain(told)


def shrunk(l1: float, l2: float, tried: int) -> str:
    """What penalties do to coefficients of a regression, and who chose them; empty without any.

    Args:    tried: how many penalties there were to choose among; 0: the plan has one.

    >>> shrunk(0.1, 0.0, 0)
    ' With a lasso penalty of 0.1: coefficients lean towards zero, and have no standard errors.'
    """
    known = {"a ridge": l2, "a lasso": l1}
    which = " and ".join(f"{name} penalty of {size:g}" for name, size in known.items() if size)
    told = f" With {which}: coefficients lean towards zero, and have no standard errors." if which else ""
    return f"{told} The penalty was chosen among {tried}, for which no standard error accounts." if tried else told


SPOKEN = {
    "1": "", "a": "years", "mo": "months", "wk": "weeks", "d": "days", "h": "hours", "mm[Hg]": "mmHg", "Cel": "°C",
    "[degF]": "°F", "m2": "m²", "kg/m2": "kg/m²", "/min": "per minute", "1/min": "per minute",
}  # fmt: skip
"""Units of UCUM that readers of a report write otherwise."""


def spoken(unit: str) -> str:
    """A unit of UCUM as people write it; one that nobody here knows stands as it is.

    >>> spoken("a"), spoken("mm[Hg]"), spoken("umol/L"), spoken("10*9/L"), spoken("[IU]/L")
    ('years', 'mmHg', 'µmol/L', '10⁹/L', 'IU/L')
    """
    if unit in SPOKEN:
        return SPOKEN[unit]
    text = re.sub(r"\bu(?=mol|g\b|L\b|\[IU\])", "µ", unit).replace("[IU]", "IU")
    return re.sub(r"\b10\*(\d+)", lambda found: f"10{found[1].translate(RAISED)}", text)


RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def minute(at: object) -> str:
    """A moment for people, of one that JSON has; what is none stays as it is.

    >>> minute("2030-01-31T08:05:40.370366Z"), minute(None)
    ('2030-01-31 08:05 UTC', '')
    """
    try:
        return f"{datetime.fromisoformat(str(at or '')).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return str(at or "")


def plain(words: Sequence[str]) -> str:
    """Words in a row.

    >>> plain(["north", "south", "west"])
    'north, south and west'
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"
