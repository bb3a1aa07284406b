"""One coordinator process: API and driver on one HTTPS port."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from consilium.coordinator.api import application
from consilium.coordinator.bell import Bell
from consilium.coordinator.driver import Driver
from consilium.coordinator.gate import Gate
from consilium.coordinator.ingest import Ingest
from consilium.coordinator.perform import Performer
from consilium.coordinator.retention import Keeping, Retention
from consilium.coordinator.services import Services
from consilium.store.blobs import Directory
from consilium.store.database import Database
from consilium.store.shelf import Shelf
from consilium.wire.identity import Identity
from consilium.wire.messages import SMALL
from consilium.wire.tls import ending

log = logging.getLogger(__name__)
END_S = 10.0
"""What the server and what works beside it get to end by themselves."""
COLLECT = (20_000, 20, 50)
"""When to look for garbage in cycles: seldom, for each look goes through all that a request made."""
SWITCH_S = 0.0005
"""How long a thread may keep the interpreter: a request goes from thread to thread, and each change waits for this."""


@dataclass(frozen=True)
class Settings:
    """Where the coordinator lives and how it is reached. `url` is what sites dial."""

    home: Path
    host: str
    port: int
    url: str
    database: str
    blobs: Path
    certificate: Path
    key: Path
    ca: Path | None
    lease_s: float = 30.0
    keeping: Keeping = field(default_factory=Keeping)


def make_services(settings: Settings) -> Services:
    """Open the database (and migrate it), the blobs and the identity."""
    bell = Bell()
    database = Database(settings.database, bell.ring)
    database.prepare()
    identity = Identity.load(settings.home / "identity.key")
    blobs = Directory(settings.blobs)
    ca = settings.ca.read_bytes() if settings.ca else None
    name = f"{socket.gethostname()}-{os.getpid()}"
    shelf, gate = Shelf(blobs, SMALL), Gate(database, bell)
    ingest, performer = Ingest(identity, shelf), Performer(identity, shelf, name)
    return Services(
        name, database, blobs, shelf, bell, gate, identity, ingest, performer, settings.url, ca, settings.keeping
    )


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    services = make_services(settings)
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    services.bell.hang(loop)
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    server = Server(
        application(services),
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
        ssl_cert=settings.certificate,
        ssl_key=settings.key,
        http1_settings=HTTP1Settings(max_buffer_size=1 << 19),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    driver = Driver(
        services.database, services.bell, services.identity, services.performer, services.name, settings.lease_s
    )
    driving = asyncio.create_task(driver.drive(stop))
    retention = Retention(services.database, services.blobs, settings.keeping)
    keeping = asyncio.create_task(retention.watch(stop))
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    if words := ending(settings.certificate, datetime.now(UTC)):
        log.warning("%s", words)
    log.info("listening on https://%s:%s", settings.host, settings.port)
    done, _ = await asyncio.wait({driving, serving, stopping, keeping}, return_when=asyncio.FIRST_COMPLETED)
    log.info("ends%s", ", as it was asked to" if stopping in done else " by itself")
    stop.set()
    services.bell.close()
    server.stop()
    driving.cancel()
    keeping.cancel()
    ended, late = await asyncio.wait({driving, serving, keeping}, timeout=END_S)
    for task in late:
        task.cancel()
    services.database.close()
    failed = [task for task in ended if not task.cancelled() and task.exception() is not None]
    for task in sorted(failed, key=lambda task: task not in done):  # the first ends the process; others failed by it
        task.result()
