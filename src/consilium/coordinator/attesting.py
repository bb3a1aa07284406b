"""Checks that sites attest: kept as they were signed; the newest of a site says whether it may be asked to train."""

from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, select

from consilium.coordinator.invited import invites
from consilium.coordinator.ledgers import record
from consilium.core.errors import EnvelopeInvalid, NotFound
from consilium.core.ids import SiteId, digest
from consilium.core.study import Plan
from consilium.store.database import Transaction
from consilium.store.hot import Hot
from consilium.store.schema import attestations, studies
from consilium.wire.messages import Attestation

Json = dict[str, Any]
_OF_STUDY = Hot(
    select(attestations).where(attestations.c.study == bindparam("study")).order_by(attestations.c.id)
)  # fmt: skip


def keep(tx: Transaction, site: SiteId, told: Attestation, payload: bytes, envelope: bytes, now: datetime) -> bool:
    """Keep an attestation; whether it is news that a run may wait for: new, and of a study that asks for it.

    Raises: EnvelopeInvalid: it is of another site.   NotFound: no study that invites it has this plan and contract.
    """
    if told.site != site:
        raise EnvelopeInvalid("the attestation names another site", "sign with your own site's name")
    if tx.scalar(select(attestations.c.id).where(attestations.c.digest == digest(envelope))) is not None:
        return False
    known = tx.scalar(select(studies.c.payload).where(studies.c.study == told.study))
    plan = Plan.load(known) if known is not None else None
    wanted = (told.plan, told.contract)
    if plan is None or (plan.digest, plan.study.contract.digest) != wanted or not invites(plan, site):
        raise NotFound(f"study {told.study} has no such plan and contract", "check the data against it again")
    row = {"site": site, "study": told.study, "payload": payload, "envelope": envelope, "digest": digest(envelope)}
    tx.do(insert(attestations).values(**row))
    body = {"site": site, "study": told.study, "contract": told.contract, "passed": told.passed}
    record(tx, "attestation", body, now)
    return plan.study.gate is not None


def newest(tx: Transaction, plan: Plan) -> dict[str, Attestation]:
    """The newest attestation of each site for this plan."""
    found: dict[str, Attestation] = {}
    for row in tx.rows(_OF_STUDY, study=plan.study.name):
        told: Attestation = Attestation.decode(row.payload)
        if (told.plan, told.contract) == (plan.digest, plan.study.contract.digest):
            found[row.site] = told
    return found


def lacking(tx: Transaction, plan: Plan) -> dict[str, str] | None:
    """Why a site is not asked, by the sites that attested: `check-failed` or empty; None: the study asks for no check.

    A site that is not among them is not asked either: `not-attested`.
    """
    if plan.study.gate is None:
        return None
    return {site: "" if told.passed else "check-failed" for site, told in newest(tx, plan).items()}


def why(known: dict[str, str] | None, site: str) -> str:
    """The reason code for which a site is not asked, or empty."""
    return "" if known is None else known.get(site, "not-attested")


def view(tx: Transaction, plan: Plan) -> dict[str, Json]:
    """What people see of each site's newest check, and how often it was checked."""
    counts: dict[str, int] = {}
    for row in tx.rows(_OF_STUDY, study=plan.study.name):
        counts[row.site] = counts.get(row.site, 0) + 1
    return {
        site: {**told.model_dump(mode="json", exclude={"protocol", "site", "study"}), "checks": counts[site]}
        for site, told in newest(tx, plan).items()
    }
