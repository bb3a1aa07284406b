"""By what token the processes of a cluster of Ray's know each other. https://docs.ray.io/en/latest/ray-security/token-auth.html

Ray reads from the environment whether a token is asked for and where it lies, once, and its processes inherit that.
Left to itself, a cluster that begins here writes a token to HOME, where what begins later finds it, and this process
asks for it ever after: processes of a cluster without one are then strangers to it.
"""

import os
import secrets
from importlib import import_module
from pathlib import Path
from typing import Any

from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import AuthenticationError

from consilium.core.errors import Unavailable

_raylet: Any = import_module("ray._raylet")  # has no types
MODE, TOKEN, PLACE, TOLD = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_USAGE_STATS_ENABLED"
HOOK = "PYTHONBREAKPOINT"
"""Ray makes it its own debugger."""
LAY = f"put it into ~/.ray/auth_token, or name its file in {PLACE}"


class Admission:
    """What the environment of this process says of it, until `end`, which makes it what it was."""

    def __init__(self) -> None:
        self._before = {name: os.environ.get(name) for name in (MODE, TOKEN, PLACE, TOLD, HOOK)}

    def own(self, folder: Path) -> None:
        """To a cluster that begins here: by a token of its own, which lies in the folder."""
        place = folder / "token"
        place.touch(0o600)
        place.write_text(secrets.token_hex(32))
        _say({MODE: "token", TOKEN: None, PLACE: str(place), TOLD: "0"})  # Ray would tell its makers of the cluster

    def join(self, address: str) -> str:
        """To one that runs: by the token that lies here, if the cluster asks for one. HOST:PORT of its first machine.

        Raises:  Unavailable: none lies here, or another; or it asks for none, and RAY_AUTH_MODE wants one.
                 OSError, ray.exceptions.RayError: no cluster answers.
        """
        if "://" in address:
            return address
        at = str(canonicalize_bootstrap_address(address))
        _say({MODE: "disabled"})
        if _admits(at):
            if (self._before[MODE] or "").lower() == "token":
                raise Unavailable(
                    f"the cluster at {at} asks for no token, and {MODE}=token wants one",
                    f"begin it with {MODE}=token on each machine; where it is in a network of its own, unset {MODE}",
                )
            return at
        if not _lies_here():
            raise Unavailable(f"the cluster at {at} asks for a token, and none lies here", LAY)
        _say({MODE: "token"})
        if not _admits(at):
            raise Unavailable(f"the cluster at {at} asks for another token than the one that lies here", LAY)
        return at

    def end(self) -> None:
        """The environment is what it was, and Ray reads it anew."""
        _say(self._before)


def _say(said: dict[str, str | None]) -> None:
    for name, value in said.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _loader().reset_cache()
    _raylet.Config.initialize("")


def _loader() -> Any:
    return _raylet.AuthenticationTokenLoader.instance()


def _lies_here() -> bool:
    try:
        return bool(_loader().has_token(ignore_auth_mode=True))
    except AuthenticationError:  # RAY_AUTH_TOKEN_PATH names no file
        return False


def _admits(at: str) -> bool:
    try:
        _raylet.GcsClient(address=at)
    except AuthenticationError:
        return False
    return True
