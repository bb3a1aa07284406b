"""How a hospital's server knows who asks: a password, a token, or SMART Backend Services. Secrets stay in memory."""

import json
import stat
import time
import uuid
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from consilium.core.errors import DataUnusable, MappingInvalid
from consilium.data.databases import expanded
from consilium.data.servers import AccessPart, SmartPart
from consilium.data.web import Web

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_S = 1e9
"""Of a token: what a server says beyond is no number of seconds."""
LIFETIME_S, MARGIN_S = 240, 30.0
"""Of an assertion, which must not exceed 300; and how long before its end a token is not used any more."""


def authority(given: AccessPart, folder: Path) -> Path | None:
    """The file of the CA."""
    return None if given.ca is None else (folder / given.ca).resolve()


def signed(web: Web, given: AccessPart, folder: Path) -> Web:
    """The same server, which is told who we are. Raises: MappingInvalid: a key or a password is not there."""
    if given.user is not None:
        said = f"{given.user}:{expanded(str(given.password))}"
        basic = {"Authorization": f"Basic {b64encode(said.encode()).decode()}"}
        web.bearer = lambda anew: basic
    elif given.bearer is not None:
        bearer = {"Authorization": f"Bearer {expanded(given.bearer)}"}
        web.bearer = lambda anew: bearer
    elif given.smart is not None:
        web.bearer = _Smart(web, given.smart, folder)
    return web


class _Smart:
    """Tokens of one client."""

    def __init__(self, web: Web, given: SmartPart, folder: Path) -> None:
        self._web, self._given = web, given
        self._key, self._kid = _key((folder / given.key).resolve(), given)
        self._url, self._token, self._until = given.token_url, "", 0.0

    def __call__(self, anew: bool) -> Mapping[str, str]:
        if anew or time.monotonic() >= self._until:
            self._token, seconds = self._fresh()
            self._until = time.monotonic() + max(seconds - MARGIN_S, 0.0)
        return {"Authorization": f"Bearer {self._token}"}

    def _fresh(self) -> tuple[str, float]:
        where, form = self._where(), "application/x-www-form-urlencoded"
        body = {
            "grant_type": "client_credentials", "scope": self._given.scope, "client_assertion_type": ASSERTION,
            "client_assertion": self._assertion(where),
        }  # fmt: skip
        answer = self._web.ask(
            where, "application/json", method="POST", body=urlencode(body).encode(), headers={"Content-Type": form},
            signed=False, most=1 << 20,
        )  # fmt: skip
        found = answer.json("source.access.smart")
        token = found.get("access_token") if type(found) is dict else None
        seconds = found.get("expires_in", 300) if type(found) is dict else 0
        if (
            type(token) is not str
            or not token.isascii()
            or not token.isprintable()
            or type(seconds) not in (int, float)
            or not abs(seconds) < LONGEST_S
        ):
            raise DataUnusable("source.access.smart: the server gave no token", "check its `token_url`")
        return token, float(seconds)

    def _where(self) -> str:
        if self._url is None:
            found = self._web.ask(
                ".well-known/smart-configuration", "application/json", signed=False, most=1 << 20
            ).json("source.access.smart")
            url = found.get("token_endpoint") if type(found) is dict else None
            if type(url) is not str:
                raise DataUnusable(
                    "source.access.smart: the server does not say where tokens are given", "name it as `token_url`"
                )
            self._url = url
        return self._web.url(self._url)

    def _assertion(self, audience: str) -> str:
        from joserfc import jwt

        seconds = int(time.time())
        name = self._given.client_id
        claims = {"iss": name, "sub": name, "aud": audience, "exp": seconds + LIFETIME_S, "jti": uuid.uuid4().hex}
        header = {"alg": self._given.algorithm, "typ": "JWT", **({"kid": self._kid} if self._kid else {})}
        return jwt.encode(header, claims, self._key, algorithms=[self._given.algorithm])


def _key(path: Path, given: SmartPart) -> tuple[Any, str | None]:
    """The private key, and its name. Raises: MappingInvalid: it is none of that algorithm, or others may read it."""
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, RSAKey

    kind: Any = RSAKey if given.algorithm == "RS384" else ECKey
    what = "source.access.smart.key"
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise MappingInvalid(f"{what}: others may read {path.name}", f"chmod 600 {path.name}")
        data = path.read_bytes()
        told = json.loads(data) if data.lstrip().startswith(b"{") else None
        key = kind.import_key(told if told is not None else data)
        if not key.is_private or (given.algorithm == "ES384" and key.curve_name != "P-384"):
            raise ValueError
    except OSError as error:
        raise MappingInvalid(f"{what}: there is no file {path.name}", "correct its path") from error
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise MappingInvalid(
            f"{what}: {path.name} is no private key for {given.algorithm}",
            "RS384 takes an RSA key, ES384 one of the curve P-384",
        ) from error
    return key, given.kid or (told or {}).get("kid")
