"""A study's own code, fetched so that people at the hospital can read it. Nothing of it runs here."""

import tempfile
from pathlib import Path

from consilium.core.errors import Conflict, NotFound
from consilium.core.ids import Digest
from consilium.core.study import Plan
from consilium.site import room
from consilium.site.deciding import Desk
from consilium.site.line import connect
from consilium.training import wheels
from consilium.wire.connection import Patience
from consilium.wire.transfer import download


def fetch_code(desk: Desk, plan: Plan, into: Path) -> Path:
    """Fetch the wheel that a plan names, check it as before training, and unpack it into the new folder `into`.

    Raises: NotFound: the study brings none.   Conflict: `into` exists.   Refused: it holds what a wheel may not.
            TooLarge: more comes than was announced.   Unavailable: the coordinator does not answer.
    """
    wheel = plan.study.model.wheel
    if wheel is None:
        raise NotFound(f"{plan.study.name} brings no code of its own", "review it without --code")
    if into.exists():
        raise Conflict(f"{into} exists", "name a new folder")
    folder = desk.folder
    limit = int(folder.policy().limits.file_gb * room.GB)
    most = min(limit, room.announced(desk.journal, plan)[1] or limit)  # an older coordinator announces nothing
    with tempfile.TemporaryDirectory(dir=folder.work) as place:
        path = Path(place) / "code.whl"
        stop = Patience()
        download(connect(folder, folder.identity()), Digest(wheel), path, stop, stop.moved, most=most)
        return wheels.unpack(path, wheel, into)
