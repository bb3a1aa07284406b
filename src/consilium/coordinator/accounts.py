"""Who is there: people with passwords, sites with keys, one-time join tokens, short-lived access tokens.

Tokens are random, kept as hashes, and shared by all coordinator processes through the database. OpenID Connect has its
place here: a second way to a person's access token, with the same roles.
"""

import base64
import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, literal, select, update

from consilium.core.errors import Conflict, Invalid, NotFound, Refused, Removed, Unauthenticated
from consilium.core.ids import COORDINATOR, SLUG, SiteId
from consilium.store.database import Transaction
from consilium.store.schema import access_tokens, assertions, join_tokens, people, sites
from consilium.wire.identity import subject_of, verify_assertion

AUDIENCE = "consilium-coordinator"
SITE_TOKEN_S = 300
PERSON_TOKEN_S = 12 * 3600
JOIN_TOKEN_S = 7 * 86400
ROLES_OF_PEOPLE = ("researcher", "auditor", "admin")
DISABLED = "disabled"
"""In place of a role: an account that may do nothing."""
UNFIT = "scrypt$AAAA$AAAA"
"""Kept in place of a password: none fits."""
ACCESS = "access"
"""Topic that is rung when somebody's access changes."""


@dataclass(frozen=True)
class Who:
    """An authenticated subject."""

    name: str
    role: str

    @property
    def subject(self) -> str:
        """How grants name it."""
        return f"{'site' if self.role in ('site', 'pending') else 'person'}:{self.name}"


NOBODY = Who("", "anyone")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _stretch(password: str, salt: bytes) -> str:
    return base64.b64encode(hashlib.scrypt(password.encode(), salt=salt, n=1 << 14, r=8, p=1)).decode()


def add_person(tx: Transaction, name: str, role: str, password: str, now: datetime) -> None:
    """Add an account, or change its role and password. Raises: Invalid: the name.   Refused: role or password."""
    if re.fullmatch(SLUG, name) is None:  # who logs in gives a name of this form
        raise Invalid("the name of an account is of a to z, 0 to 9 and `-`, at most 63 of them", "choose another")
    if role not in ROLES_OF_PEOPLE or len(password) < 8:
        raise Refused(
            "a person needs a role of researcher, auditor or admin, and a password of at least 8 characters",
            "choose both again",
            reason="account",
        )
    salt = os.urandom(16)
    row = {"role": role, "password": f"scrypt${base64.b64encode(salt).decode()}${_stretch(password, salt)}"}
    if tx.do(update(people).where(people.c.name == name).values(**row)) == 0:
        tx.do(insert(people).values(name=name, since=now, **row))
    tx.do(delete(access_tokens).where(access_tokens.c.subject == f"person:{name}"))  # got with the password of before
    tx.ring(ACCESS)


def disable(tx: Transaction, name: str, *, keep_an_admin: bool) -> bool:
    """Disable an account; whether it was not so before. `add_person` makes it serve again, with a new password.

    The name stays: what it did stands in the record, and nobody else is to be taken for it.

    Args:    keep_an_admin: whether the last administrator is refused; at the coordinator's machine one can be added.
    Raises:  NotFound.   Conflict: it is the last administrator.
    """
    role = tx.scalar(select(people.c.role).where(people.c.name == name))
    if role is None:
        raise NotFound(f"there is no account {name}", "`consilium people list` shows all")
    if role == DISABLED:
        return False
    admins = tx.scalar(select(func.count()).select_from(people).where(people.c.role == "admin"))
    if keep_an_admin and role == "admin" and admins == 1:
        raise Conflict(f"{name} is the only administrator", "add another one first")
    tx.do(update(people).where(people.c.name == name).values(role=DISABLED, password=UNFIT))
    tx.do(delete(access_tokens).where(access_tokens.c.subject == f"person:{name}"))
    tx.ring(ACCESS)
    return True


def stored(tx: Transaction, name: str) -> str:
    """What is kept of a person's password; for an unknown name, something that none fits."""
    known = tx.scalar(select(people.c.password).where(people.c.name == name))
    return UNFIT if known is None else str(known)


def fits(password: str, kept: str) -> bool:
    """Whether this is the password. It takes its time (scrypt), so outside of any transaction."""
    _, salt, known = kept.split("$")
    return hmac.compare_digest(_stretch(password, base64.b64decode(salt)), known)


def person_token(tx: Transaction, name: str, kept: str, now: float) -> tuple[str, int]:
    """A token for a person whose password fitted what was `kept`.

    Raises: Unauthenticated: the password was changed, or the account disabled, while it was being checked.
    """
    if stored(tx, name) != kept:
        raise Unauthenticated("the account was changed at this moment", "log in again")
    return _issue(tx, f"person:{name}", "person", now, PERSON_TOKEN_S), PERSON_TOKEN_S


def _issue(tx: Transaction, subject: str, role: str, now: float, seconds: int) -> str:
    secret = secrets.token_urlsafe(32)
    tx.do(delete(access_tokens).where(access_tokens.c.expires < now))
    row = {"secret": _hash(secret), "subject": subject, "role": role, "expires": now + seconds}
    tx.do(insert(access_tokens).values(**row))
    return secret


REMOVED = (
    "ask the administrator, or stop this agent; to come back, join under another name with a new folder (`consilium "
    "site init --home`)"
)


def site_token(tx: Transaction, assertion: str, now: float) -> tuple[str, int]:
    """A token for a site that proves its key (RFC 7523). Raises: Unauthenticated."""
    refusal = Unauthenticated("the assertion is not valid", "check the site's key and clock")
    name = subject_of(assertion)
    row = tx.row(select(sites).where(sites.c.site == name))
    if row is None:
        raise refusal
    claims = verify_assertion(assertion, row.public_key, AUDIENCE, datetime.fromtimestamp(now, UTC))
    if row.state == "removed":  # told to nobody but the holder of its key
        raise Removed(f"the coordinator's administrator has removed {name}: it takes part in nothing", REMOVED)
    tx.do(delete(assertions).where(assertions.c.expires < now))
    jti = _hash(f"{name}/{claims['jti']}")
    if tx.scalar(select(assertions.c.jti).where(assertions.c.jti == jti)) is not None:
        raise refusal
    tx.do(insert(assertions).values(jti=jti, expires=now + 600))
    return _issue(tx, f"site:{name}", "site", now, SITE_TOKEN_S), SITE_TOKEN_S


_WHO = (  # every request asks this
    select(access_tokens.c.subject, access_tokens.c.expires, people.c.role, sites.c.state)
    .outerjoin(people, literal("person:") + people.c.name == access_tokens.c.subject)
    .outerjoin(sites, literal("site:") + sites.c.site == access_tokens.c.subject)
    .where(access_tokens.c.secret == bindparam("secret"), access_tokens.c.expires > bindparam("now"))
)


def who(tx: Transaction, secret: str, now: float) -> tuple[Who, float]:
    """Whose token this is, and until when; the role is looked up anew. Raises: Unauthenticated."""
    row = tx.connection.execute(_WHO, {"secret": _hash(secret), "now": now}).first()
    if row is None:
        raise Unauthenticated("the token is unknown or has expired", "log in again")
    kind, name = row.subject.split(":", 1)
    known = {"admitted": "site", "pending": "pending"} if kind == "site" else {one: one for one in ROLES_OF_PEOPLE}
    role = known.get(row.state if kind == "site" else row.role)
    if role is None:
        raise Unauthenticated("the account was removed or disabled", "ask the coordinator's admin")
    return Who(name, role), row.expires


def join_token(tx: Transaction, site: str, now: float) -> tuple[str, float]:
    """A one-time token with which `site` may join. Raises: Conflict: the name is taken.   Invalid: it is ours."""
    if site == COORDINATOR:  # heads of two logs would stand under one name
        raise Invalid(f"{COORDINATOR} is the name of the coordinator's own log", "choose another name")
    if tx.scalar(select(sites.c.site).where(sites.c.site == site)) is not None:
        raise Conflict(f"a site named {site} has joined already", "choose another name")
    secret = secrets.token_urlsafe(32)
    tx.do(insert(join_tokens).values(secret=_hash(secret), site=site, expires=now + JOIN_TOKEN_S))
    return secret, now + JOIN_TOKEN_S


def _unused(now: float) -> Any:
    return (join_tokens.c.used.is_(None), join_tokens.c.expires > now)


def unused(tx: Transaction, now: float) -> list[dict[str, Any]]:
    """Join tokens that may still be used: for which site, and until when."""
    rows = tx.rows(select(join_tokens).where(*_unused(now)).order_by(join_tokens.c.site, join_tokens.c.expires))
    return [{"site": row.site, "expires": row.expires} for row in rows]


def cancel(tx: Transaction, site: str, now: float) -> int:
    """Cancel the join tokens of a site that may still be used; how many there were. Raises: NotFound: none."""
    count = tx.do(delete(join_tokens).where(join_tokens.c.site == site, *_unused(now)))
    if count == 0:
        raise NotFound(f"no unused token is there for {site}", "`consilium sites tokens` shows all")
    return count


def join(tx: Transaction, token: str, site: str, public_key: str, about: str, now: float) -> str:
    """Make a site known, pending admission; the same request again is a no-op. Returns its state.

    Raises: Refused: the token is unknown, expired, used by another key, or for another name; or the site was removed.
    """
    row = tx.row(select(join_tokens).where(join_tokens.c.secret == _hash(token)))
    known = tx.row(select(sites).where(sites.c.site == site))
    same = row is not None and row.site == site and known is not None and known.public_key == public_key
    if same and known.state != "removed":
        return str(known.state)
    if row is None or row.used is not None or row.expires < now or row.site != site or known is not None:
        raise Refused("this join token does not serve", "ask the coordinator's admin for a new one", reason="token")
    if tx.scalar(select(sites.c.site).where(sites.c.public_key == public_key)) is not None:
        raise Refused("this key belongs to another site", "make a key of its own for each site", reason="key")
    tx.do(update(join_tokens).where(join_tokens.c.secret == row.secret).values(used=now))
    since = datetime.fromtimestamp(now, UTC)
    row = {"site": site, "state": "pending", "public_key": public_key, "about": about, "since": since}
    tx.do(insert(sites).values(**row, last_seen=now, activity="joined"))
    return "pending"


def set_state(tx: Transaction, site: SiteId, state: str) -> None:
    """Admit or remove a site. Raises: NotFound."""
    if tx.do(update(sites).where(sites.c.site == site).values(state=state)) == 0:
        raise NotFound(f"there is no site {site}", "`consilium sites list` shows all")
    tx.ring(ACCESS)
