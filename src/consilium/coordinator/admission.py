"""The endpoints of the administrator: accounts, join tokens, sites. Who may call them: access.py."""

from typing import Any

from pydantic import Field
from sqlalchemy import select

from consilium.coordinator import accounts, views
from consilium.coordinator.conduct import Conduct
from consilium.coordinator.endpoints import Body, Call, Login, offer
from consilium.coordinator.ledgers import record
from consilium.core.errors import NotFound, Refused
from consilium.core.ids import RunId, SiteId
from consilium.core.study import Plan
from consilium.store.database import Transaction
from consilium.store.schema import runs, sites, studies
from consilium.wire import messages
from consilium.wire.identity import fingerprint


class Person(Login):
    """An account."""

    role: str = Field(max_length=20)


class ForSite(Body):
    """The site that is to join."""

    site: messages.Name


class Admission(Body):
    """The fingerprint that a person compared with the one the site shows."""

    fingerprint: str = Field(max_length=200)


def _say(tx: Transaction, call: Call, kind: str, **about: Any) -> None:
    """Record in the audit log what was done, and by whom."""
    record(tx, kind, {**about, "by": call.who.name}, call.services.now())


async def add_person(call: Call) -> Any:
    """Add an account, or change its role and password; its tokens end at once."""
    await call.store(_add_person, call)
    return {"name": call.body.name, "role": call.body.role}


def _add_person(tx: Transaction, call: Call) -> None:
    """Add an account, or change it."""
    ask: Person = call.body
    accounts.add_person(tx, ask.name, ask.role, ask.password, call.services.now())
    _say(tx, call, "person", name=ask.name, role=ask.role)


async def person_list(call: Call) -> Any:
    """All accounts."""
    return await call.store(views.person_list)


async def disable_person(call: Call) -> Any:
    """Disable an account: its tokens end at once, and its password serves no more; what it did stays in the record."""
    disabled = await call.store(_disable_person, call)
    return {"name": call.key, "role": accounts.DISABLED, "disabled": disabled}


def _disable_person(tx: Transaction, call: Call) -> bool:
    """Disable an account; whether it was not so before."""
    disabled = accounts.disable(tx, call.key, keep_an_admin=True)
    if disabled:
        _say(tx, call, "person-disabled", name=call.key)
    return disabled


async def join_token(call: Call) -> Any:
    """A one-time token for a site, as the secret; the command line makes the join string of it."""
    site = call.body.site
    secret, expires = await call.store(_join_token, call)
    return {"token": call.services.join_string(site, secret), "expires": expires}


def _join_token(tx: Transaction, call: Call) -> tuple[str, float]:
    """The secret of a new token, and until when it serves."""
    _say(tx, call, "join-token", site=call.body.site)
    return accounts.join_token(tx, call.body.site, call.services.seconds())


async def token_list(call: Call) -> Any:
    """Join tokens that may still be used: for which site, and until when. The secrets themselves are not kept."""
    return await call.store(accounts.unused, call.services.seconds())


async def cancel_tokens(call: Call) -> Any:
    """Cancel the join tokens of a site that nobody has used."""
    return {"site": call.key, "cancelled": await call.store(_cancel_tokens, call)}


def _cancel_tokens(tx: Transaction, call: Call) -> int:
    """How many tokens were cancelled. Raises: NotFound: there was none."""
    count = accounts.cancel(tx, call.key, call.services.seconds())
    _say(tx, call, "join-tokens-cancelled", site=call.key, count=count)
    return count


async def site_list(call: Call) -> Any:
    """All sites."""
    return await call.store(views.site_list)


async def admit(call: Call) -> Any:
    """Admit a site whose fingerprint a person has compared; offer it the studies that invite it."""
    await call.store(_admit, call)
    return {"site": call.key, "state": "admitted"}


def _admit(tx: Transaction, call: Call) -> None:
    """Admit a site, unless it is. Raises: NotFound.   Refused: the fingerprint is another one."""
    row = tx.row(select(sites).where(sites.c.site == call.key))
    if row is None:
        raise NotFound(f"there is no site {call.key}", "`consilium sites list` shows all")
    if fingerprint(row.public_key) != call.body.fingerprint.strip():
        raise Refused(
            "the fingerprint differs from this site's key", "compare again, word by word", reason="fingerprint"
        )
    if row.state == "admitted":
        return
    accounts.set_state(tx, SiteId(call.key), "admitted")
    _say(tx, call, "admit", site=call.key)
    for study in tx.rows(select(studies).order_by(studies.c.since)):
        offer(tx, call.services, Plan.load(study.payload), [SiteId(call.key)])


async def remove(call: Call) -> Any:
    """Remove a site: its tokens end at once, and no round asks it again."""
    for conduct in await call.store(_remove, call):
        conduct.remember()
    return {"site": call.key, "state": "removed"}


def _remove(tx: Transaction, call: Call) -> list[Conduct]:
    """The runs, from each of which the site was withdrawn."""
    accounts.set_state(tx, SiteId(call.key), "removed")
    _say(tx, call, "remove", site=call.key)
    found = []
    for row in tx.rows(select(runs.c.run)):
        conduct = Conduct.load(tx, call.services.identity, RunId(row.run), call.services.now())
        conduct.withdraw(SiteId(call.key), "removed")
        found.append(conduct)
    return found
