"""The site's line to its coordinator: dialled out, with short-lived tokens that the site's key earns."""

import uuid
from datetime import UTC, datetime

from pydantic import ValidationError

from consilium.core.errors import Unavailable
from consilium.site.folder import Folder
from consilium.wire.connection import SOON_S, Connection
from consilium.wire.identity import Identity
from consilium.wire.requests import AccessToken

AUDIENCE = "consilium-coordinator"
GRANT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def connect(folder: Folder, identity: Identity) -> Connection:
    """A connection that gets its tokens by the site's key."""
    member = folder.membership()
    anonymous = Connection(member.url, folder.authority(), limit_s=SOON_S)

    def token() -> str:
        now = datetime.now(UTC)
        assertion = identity.assertion(member.site, AUDIENCE, now, uuid.uuid4().hex)
        form = {"grant_type": "client_credentials", "client_assertion_type": GRANT, "client_assertion": assertion}
        try:
            return AccessToken.model_validate(anonymous.post("/v1/token", form, form=True)).access_token
        except ValidationError as error:
            raise Unavailable("what came is not an access token", "check the proxy") from error

    return Connection(member.url, folder.authority(), token, limit_s=SOON_S)
