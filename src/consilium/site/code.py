"""A study's own code, fetched so that people at the hospital can read it. Nothing of it runs here."""

import tempfile
from pathlib import Path
from threading import Event

from consilium.core.errors import Conflict, NotFound
from consilium.core.ids import Digest
from consilium.core.study import Plan
from consilium.site.folder import Folder
from consilium.site.line import connect
from consilium.training import wheels
from consilium.wire.transfer import download


def fetch_code(folder: Folder, plan: Plan, into: Path) -> Path:
    """Fetch the wheel that a plan names, check it as before training, and unpack it into the new folder `into`.

    Raises: NotFound: the study brings none.   Conflict: `into` exists.   Refused: it holds what a wheel may not.
    """
    wheel = plan.study.model.wheel
    if wheel is None:
        raise NotFound(f"{plan.study.name} brings no code of its own", "review it without --code")
    if into.exists():
        raise Conflict(f"{into} exists", "name a new folder")
    with tempfile.TemporaryDirectory(dir=folder.work) as place:
        path = Path(place) / "code.whl"
        download(connect(folder, folder.identity()), Digest(wheel), path, Event())
        return wheels.unpack(path, wheel, into)
