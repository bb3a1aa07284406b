"""The site's line to its coordinator: dialled out, with short-lived tokens that the site's key earns."""

import time
import uuid
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from consilium.core.errors import ConsiliumError, Removed, Unauthenticated, Unavailable
from consilium.site.folder import Folder, Membership
from consilium.wire.connection import SOON_S, Connection
from consilium.wire.identity import Identity
from consilium.wire.requests import AccessToken, Hello

AUDIENCE = "consilium-coordinator"
CLOCK_S = 30.0
"""Beyond this the coordinator does not accept the site's assertions."""
ANOTHER, NTP = "ask its admin before anything else", "set the clock by NTP"
REMOVED_S = 600.0
"""So long a site that was removed asks for nothing: each of the agent's threads would else dial every second."""
GRANT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def why(member: Membership, anonymous: Connection, now: datetime) -> Unauthenticated | None:
    """What a refused token comes from, where the coordinator's greeting tells: another key, or the clocks."""
    try:
        hello = Hello.model_validate(anonymous.get("/v1/hello"))
    except (ConsiliumError, ValidationError):
        return None
    if hello.public_key != member.coordinator_key:
        return Unauthenticated(f"{member.url} has another key than when this site joined", ANOTHER)
    ahead = (hello.now - now).total_seconds()
    return Unauthenticated(differs(ahead), NTP) if abs(ahead) > CLOCK_S else None


def differs(ahead: float) -> str:
    """How far this clock is from the coordinator's, which is so many seconds `ahead`."""
    return f"this clock is {abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} the coordinator's"


def connect(folder: Folder, identity: Identity) -> Connection:
    """A connection that gets its tokens by the site's key."""
    member = folder.membership()
    anonymous = Connection(member.url, folder.authority(), limit_s=SOON_S)
    gone: dict[str, Any] = {"until": 0.0}  # for so long it is believed that this site was removed

    def token() -> str:
        """A token for this site. Raises: Removed: the coordinator has removed it; Unauthenticated, Unavailable."""
        now = datetime.now(UTC)
        if time.monotonic() < gone["until"]:
            raise Removed(gone["message"], gone["remedy"])
        assertion = identity.assertion(member.site, AUDIENCE, now, uuid.uuid4().hex)
        form = {"grant_type": "client_credentials", "client_assertion_type": GRANT, "client_assertion": assertion}
        try:
            return AccessToken.model_validate(anonymous.post("/v1/token", form, form=True)).access_token
        except Removed as error:
            again = f"{error.remedy}. The agent asks again every {REMOVED_S / 60:.0f} minutes, and as it starts"
            gone.update(until=time.monotonic() + REMOVED_S, message=error.message, remedy=again)
            raise Removed(error.message, again) from error
        except Unauthenticated as error:
            raise why(member, anonymous, now) or error from error
        except ValidationError as error:
            raise Unavailable("what came is not an access token", "check the proxy") from error

    return Connection(member.url, folder.authority(), token, limit_s=SOON_S)
