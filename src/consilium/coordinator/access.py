"""Who may do what: THE table. A test walks every endpoint with every role and sees exactly these accesses."""

import re

from consilium.core.errors import Refused, Unauthenticated

ANYONE, SITE, PENDING, RESEARCHER, AUDITOR, ADMIN = "anyone", "site", "pending", "researcher", "auditor", "admin"
PEOPLE = (RESEARCHER, AUDITOR, ADMIN)
ROLES = (ANYONE, PENDING, SITE, *PEOPLE)

ACCESS: dict[str, frozenset[str]] = {
    "GET /v1/hello": frozenset(ROLES),
    "GET /v1/ca": frozenset(ROLES),
    "GET /v1/openapi.json": frozenset(ROLES),
    "POST /v1/join": frozenset(ROLES),
    "POST /v1/token": frozenset(ROLES),
    "POST /v1/login": frozenset(ROLES),
    "GET /v1/site": frozenset({SITE, PENDING}),
    "GET /v1/inbox": frozenset({SITE}),
    "GET /v1/record": frozenset({SITE}),
    "GET /v1/runs/{run}/said": frozenset({SITE}),
    "GET /v1/runs/{run}/opening": frozenset({SITE}),
    "POST /v1/envelopes": frozenset({SITE}),
    "POST /v1/answers": frozenset({SITE}),
    "POST /v1/heartbeat": frozenset({SITE}),
    "HEAD /v1/blobs/{digest}": frozenset({SITE, RESEARCHER, ADMIN}),
    "PATCH /v1/blobs/{digest}": frozenset({SITE, RESEARCHER, ADMIN}),
    "GET /v1/blobs/{digest}": frozenset({SITE, RESEARCHER, AUDITOR, ADMIN}),
    "POST /v1/people": frozenset({ADMIN}),
    "GET /v1/people": frozenset({ADMIN}),
    "POST /v1/people/{person}/disable": frozenset({ADMIN}),
    "POST /v1/tokens": frozenset({ADMIN}),
    "GET /v1/tokens": frozenset({ADMIN}),
    "POST /v1/tokens/{site}/cancel": frozenset({ADMIN}),
    "GET /v1/sites": frozenset(PEOPLE),
    "POST /v1/sites/{site}/admit": frozenset({ADMIN}),
    "POST /v1/sites/{site}/remove": frozenset({ADMIN}),
    "POST /v1/sites/{site}/acknowledge": frozenset({ADMIN}),
    "POST /v1/sites/{site}/reopen": frozenset({ADMIN}),
    "POST /v1/studies": frozenset({RESEARCHER, ADMIN}),
    "GET /v1/studies": frozenset(PEOPLE),
    "GET /v1/studies/{study}": frozenset(PEOPLE),
    "GET /v1/studies/{study}/plan": frozenset(PEOPLE),
    "POST /v1/studies/{study}/runs": frozenset({RESEARCHER, ADMIN}),
    "POST /v1/runs/{run}/stop": frozenset({RESEARCHER, ADMIN}),
    "GET /v1/runs/{run}": frozenset(PEOPLE),
    "GET /v1/runs/{run}/events": frozenset(PEOPLE),
    "GET /v1/runs/{run}/result": frozenset(PEOPLE),
    "GET /v1/audit": frozenset({AUDITOR, ADMIN}),
    "GET /v1/audit/links": frozenset({SITE, AUDITOR, ADMIN}),
    "GET /v1/checkpoints": frozenset({AUDITOR, ADMIN}),
}
"""Beside the role, an owner rule holds: a researcher starts and stops own studies only; a blob needs a grant."""


def check(endpoint: str, role: str, what: str = "") -> None:
    """Whether `role` may call `endpoint`, which does `what`: its first words are told.

    Raises: Unauthenticated: nobody is logged in.   Refused: the role does not allow it.
    """
    if role in ACCESS[endpoint]:
        return
    if role == ANYONE:
        raise Unauthenticated("this needs a token", "log in, or ask for a token with the site's key")
    who = " or ".join([one for one in PEOPLE if one in ACCESS[endpoint]] or sorted(ACCESS[endpoint]))
    does = re.split(r"[.:;]", what, maxsplit=1)[0].strip()
    words = f"the role {role} does not allow this: {does} ({endpoint})"
    raise Refused(words, f"it is for the role {who}: ask the coordinator's admin", reason="role")
