"""Figures that hospitals tell of themselves alone: one message of each for each run, kept as it was signed."""

from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select

from consilium.algorithms import figure, rounded
from consilium.coordinator.conduct import Conduct
from consilium.coordinator.ledgers import record
from consilium.core.errors import Conflict, EnvelopeInvalid, Invalid, OutOfPhase
from consilium.core.ids import RunId, SiteId, digest
from consilium.core.run import Status
from consilium.core.study import Study
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import declarations
from consilium.wire.messages import Figures
from consilium.wire.messages import Rounded as Told

Json = dict[str, Any]
_OF_RUN = Hot(select(declarations).where(declarations.c.run == bindparam("run")).order_by(declarations.c.site))


def keep(
    tx: Transaction, conduct: Conduct, site: SiteId, told: Figures, payload: bytes, envelope: bytes, now: datetime
) -> None:  # fmt: skip
    """Keep what a site says of a run. The same bytes again change nothing; other ones are refused.

    Raises: EnvelopeInvalid: it is of another site.   OutOfPhase: the run is not finished.   Conflict: it is of another
            plan, state or sum, or something else was said before.   Invalid: numbers, where noise was promised.
    """
    if told.site != site:
        raise EnvelopeInvalid("the figures name another site", "sign with your own site's name")
    known = tx.find(declarations, run=told.run, site=site)
    if known is not None:
        if known.digest == digest(envelope):
            return
        raise Conflict(f"other figures of {told.run} were told before", "figures of one hospital are told once")
    study, fold = conduct.plan.study, conduct.fold
    if fold.status is not Status.FINISHED:
        raise OutOfPhase(f"{told.run} is not finished", "tell figures when it is")
    if (told.study, told.plan, told.state) != (conduct.study, conduct.plan.digest, fold.state):
        raise Conflict("the figures are of another plan or state than the run's", "compare both audit logs")
    if site not in fold.took_part.get(fold.number, ()):
        raise Conflict(f"this site was not in the last round of {told.run}", "compare both audit logs")
    if told.word == "told":
        if study.privacy.recipe != "secure_sum" or study.privacy.epsilon is not None:
            raise Invalid("figures of one hospital are not taken for this study", "they would leave without noise")
        of_plan = select(declarations.c.run).where(
            declarations.c.site == site, declarations.c.plan == told.plan, declarations.c.word == "told"
        )
        if tx.scalar(of_plan) is not None:
            raise Conflict("figures of this plan were told of another run", "figures of one hospital are told once")
    row = {"site": site, "run": told.run, "plan": told.plan, "word": told.word, "digest": digest(envelope)}
    tx.put(declarations, **row, envelope=envelope, payload=payload)
    record(tx, "figures", row, now)


def view(tx: Transaction, run: RunId, study: Study, sites: tuple[SiteId, ...]) -> Json:
    """What people see of each of these sites: a word, and where figures are told, those of each model.

    A site of which nothing came has the word `withheld`.
    """
    found: Json = {site: {"word": "withheld", "figures": {}} for site in sites}
    for row in tx.rows(_OF_RUN, run=run):
        told: Figures = Figures.decode(row.payload)
        found[row.site] = {"word": told.word, "figures": _figures(told, study)}
    return found


def _figures(told: Figures, study: Study) -> Json:
    if told.positives is None or told.negatives is None:
        return {}
    # `federated` is the model that hospitals use; where that is a personal one, the common one is `shared`.
    first = {"federated": told.personal, "shared": told.common} if study.personal else {"federated": told.common}
    models: dict[str, Told | None] = {**first, "own": told.own}
    return {
        name: figure.to_json(rounded.estimates(one.auroc, told.positives, told.negatives, study.evaluation.confidence))
        for name, one in models.items()
        if one is not None
    }
