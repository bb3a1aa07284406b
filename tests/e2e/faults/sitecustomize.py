"""A bench of faults: Python loads this at start when its folder is on PYTHONPATH. The product holds none of it.

It wraps functions of the product, so that the process ends itself by SIGKILL at a named point. Which point stands in
the file `armed` in the folder $FAULTS: {"point": name, "nth": which time, "delay": seconds until the kill}. Every point
that is passed is noted in `last`, so that a kill from outside can tell what it hit; every hit is a line in `hits`. With
$HOLD, a child process is stopped in mid-round instead.
"""

import base64
import functools
import importlib.util
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

FOLDER = Path(os.environ.get("FAULTS", ""))
PRODUCT = str(Path(importlib.util.find_spec("consilium").origin).parent) + os.sep
lock = threading.Lock()
passed: dict[str, int] = {}


def reach(point):
    """The process is at `point`. What is armed, if it is due here and now."""
    os.pwrite(LAST, point.ljust(40).encode(), 0)
    try:
        text = (FOLDER / "armed").read_text()
    except FileNotFoundError:
        return None
    armed = json.loads(text)
    if armed["point"] != point:
        return None
    with lock:
        passed[text] = passed.get(text, 0) + 1
        return armed if passed[text] == armed["nth"] else None


def kill(armed, pid=None):
    with (FOLDER / "hits").open("a") as file:
        file.write(json.dumps({**armed, "pid": os.getpid()}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    (FOLDER / "armed").unlink()
    if armed.get("delay"):  # the process goes on, and is hit in the middle of what comes next
        threading.Thread(target=lambda: (time.sleep(armed["delay"]), os.kill(os.getpid(), signal.SIGKILL))).start()
    else:
        os.kill(pid or os.getpid(), signal.SIGKILL)


def at(point):
    if armed := reach(point):
        kill(armed)


def around(owner, name, before=None, after=None):
    """Call `before(*args)` and `after(result, *args)` around a function."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def wrapped(*args, **more):
        if before:
            before(*args)
        result = real(*args, **more)
        if after:
            after(result, *args)
        return result

    setattr(owner, name, wrapped)


def stack():
    """Names of the product's functions that are being executed in this thread, innermost first."""
    found, frame = [], sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(PRODUCT):
            found.append((Path(frame.f_code.co_filename).stem, frame.f_code.co_name))
        frame = frame.f_back
    return found


class Torn:
    """A file, request body or answer: half of the data of the fatal step goes through before the process dies."""

    def __init__(self, real, point):
        self._real, self._point = real, point

    def __getattr__(self, name):
        return getattr(self._real, name)

    def write(self, data):
        if armed := reach(self._point):
            self._real.write(bytes(data)[: len(data) // 2])
            getattr(self._real, "flush", lambda: None)()
            kill(armed)
        return self._real.write(data)

    def read(self, *size):
        at(self._point)
        return self._real.read(*size)


def coordinator():
    from contextlib import contextmanager

    from starlette.responses import FileResponse

    from consilium.coordinator import transfers
    from consilium.coordinator.driver import Driver
    from consilium.coordinator.ingest import Ingest
    from consilium.coordinator.perform import Performer
    from consilium.coordinator.services import Services
    from consilium.coordinator.steps import Sealed
    from consilium.store.blobs import Directory
    from consilium.store.database import Database
    from consilium.store.shelf import Shelf
    from consilium.wire.messages import Answer

    def small(self):  # what is small is a row or a file, as the fault that is armed wants it
        try:
            armed = json.loads((FOLDER / "armed").read_text())
        except FileNotFoundError:
            return self.__dict__["small"] if os.environ.get("FAULTS_ROWS") != "0" else 0
        return self.__dict__["small"] if armed["rows"] else 0

    Shelf.small = property(small, lambda self, value: self.__dict__.update(small=value))
    transfers.PIECE = int(os.environ.get("FAULTS_PIECE", transfers.PIECE))
    around(Performer, "begin", before=lambda *_: at("begin"))
    around(Performer, "sum", before=lambda *_: at("apply"))
    around(Performer, "apply", after=lambda *_: at("applied"))

    around(Sealed, "recover", before=lambda *_: at("opening"), after=lambda *_: at("opened"))
    around(Services, "said", before=lambda self, run, number, attempt, phase: at(f"{phase}.relayed"))
    said = threading.local()

    def taken(result, self, tx, site, letter, *more):
        said.phase = letter.message.phase
        at(f"{said.phase}.before-commit")

    around(
        Ingest, "_step", before=lambda self, tx, site, letter, *more: at(f"{letter.message.phase}.taken"), after=taken
    )

    append, make, real_once = Directory.append, Directory.make, Database._once

    @contextmanager
    def torn_append(self, *args, **more):
        with append(self, *args, **more) as write:
            file = type("Upload", (), {"write": staticmethod(write)})
            yield Torn(file, "upload").write

    def torn_make(self, write):
        return make(self, lambda file: write(Torn(file, "save.write")))

    doing = threading.local()

    def once(self, act):  # one transaction: of one act, or of several that share it
        doing.kinds = set()

        def inside(tx):
            result = act(tx)
            for what in sorted(doing.kinds):
                at(f"{what}.before-commit")
                at(f"{what}.commit")  # with a delay: somewhere in the commit
            return result

        said.phase = None
        result = real_once(self, inside)
        if said.phase:
            at(f"{said.phase}.committed")
        for what in sorted(doing.kinds):
            at(f"{what}.committed")
        return result

    def answered(_, ingest, tx, site, letter, *__):
        if isinstance(letter.message, Answer):
            doing.kinds.add("answer")

    def applied(_, performer, conduct, done):
        if done.number:
            doing.kinds.add("apply")

    around(Ingest, "take", after=answered)
    around(Performer, "_record", after=applied)
    Directory.append, Directory.make, Database._once = torn_append, torn_make, once
    around(Driver, "_perform", before=lambda _, effect, *__: effect.kind == "apply" and at("leased"))
    files("blobs", lambda names: "upload" if "complete" in names else "save" if "make" in names else None)
    answer = FileResponse.__call__

    async def deliver(self, scope, receive, send):
        async def torn(message):
            await send(message)
            if message["type"] != "http.response.start":
                at("deliver")

        await answer(self, scope, receive, torn)

    FileResponse.__call__ = deliver


def files(module, purpose):
    """Points around fsync and rename in one module of the product; `purpose` of the functions' names names them."""
    fsync, replace = os.fsync, Path.replace

    def named(what):
        where = [one for one in stack() if one[0] != "durable"]  # it serves all
        if not where or where[0][0] != module:
            return None
        of = purpose({name for _, name in where})
        return f"{of}.{what}" if of else None

    def torn_fsync(number):
        if point := named("fsync"):
            at(point)
        return fsync(number)

    def torn_replace(self, target):
        point = named("rename")
        if point:
            at(point)
        result = replace(self, target)
        if point:
            at(point + "d")
        return result

    os.fsync, Path.replace = torn_fsync, torn_replace


def site():
    from consilium.site import journal, pipeline, seats, states, steps, updates
    from consilium.site.child import Child
    from consilium.site.inbox import Inbox
    from consilium.site.journal import Writing
    from consilium.site.outbox import Outbox
    from consilium.site.worker import Worker
    from consilium.wire import http, transfer
    from consilium.wire.connection import Connection

    http.PIECE = transfer.PIECE = int(os.environ.get("FAULTS_PIECE", http.PIECE))
    around(Inbox, "_after", before=lambda *_: at("received"))

    def told(result, tx, kind, envelope, about, *more):
        if kind in ("answer", "step"):
            at("journal.before-commit")
            at(f"{about.get('phase')}.before-commit")

    def settled(self, row, *more):
        at("acknowledged")
        if row["type"] == "step":
            envelope = json.loads(bytes(row["envelope"]))
            at(f"{json.loads(base64.b64decode(envelope['payload']))['phase']}.acknowledged")

    around(Writing, "send", after=told)
    around(Worker, "_submit", after=lambda *_: at("journal.committed"))
    around(
        Worker,
        "_step",
        before=lambda self, row, task, *more: at(f"{task.phase}.begun"),
        after=lambda _, self, row, task, *more: at(f"{task.phase}.committed"),
    )
    around(steps.Steps, "send", before=lambda self, seq, task, *more: at(f"{task.phase}.made"))
    around(Outbox, "_settle", before=settled)
    sent = ("/v1/envelopes", "/v1/answers")
    around(Connection, "post", before=lambda self, path, *_: path in sent and at("uploaded"))
    around(Connection, "exchange", before=lambda self, path, *_: at("uploaded"))
    if "FAULTS_SMALL" in os.environ:  # what is larger goes by itself, is made durable by itself, and is fetched
        for module in (journal, pipeline, seats, states, steps, updates):
            module.SMALL = int(os.environ["FAULTS_SMALL"])
        states.States.offer = lambda self, blobs: None
        steps.Steps.offer = lambda self, *beside: None

    request, ask, line = Connection.request, Child.ask, Child._line

    def torn_request(self, method, path, data=None, *args, **more):
        if method == "PATCH":
            return request(self, method, path, Torn(data, "upload"), *args, **more)
        if path.startswith("/v1/answers"):
            headers = {**args[0], "Content-Length": str(len(data))}
            return request(self, method, path, Torn(io.BytesIO(data), "upload"), headers, *args[1:], **more)
        response = request(self, method, path, data, *args, **more)
        if more.get("stream"):
            real = response.read

            def read(*size, **rest):
                found = real(*size, **rest)
                at("download")
                return found

            response.read = read
        return response

    def noted_ask(self, command):
        self.doing = command["do"]
        told = ask(self, command)
        if self.doing != "load":
            at("trained")
        return told

    def torn_line(self, stdout):
        at("loading" if self.doing == "load" else "training")
        if armed := reach(f"child.{'loading' if self.doing == 'load' else 'training'}"):
            kill(armed, self._process.pid)
        return line(self, stdout)

    Connection.request, Child.ask, Child._line = torn_request, noted_ask, torn_line
    files("states", lambda names: "state" if "_written" in names else None)
    files("transfer", lambda names: "download" if "download" in names else None)


def holding():
    """The child that is about to train stops before it is told to, once the file $HOLD is there; its id goes there."""
    from consilium.site.child import Child

    ask, hold = Child.ask, Path(os.environ["HOLD"])

    def held_ask(self, command):
        if command["do"] != "load" and hold.exists() and not hold.stat().st_size:
            os.kill(self._process.pid, signal.SIGSTOP)
            fresh = hold.with_suffix(".new")
            fresh.write_text(str(self._process.pid))
            fresh.replace(hold)
        return ask(self, command)

    Child.ask = held_ask


if "HOLD" in os.environ and "run" in sys.orig_argv:
    holding()
if "FAULTS" in os.environ and "run" in sys.orig_argv:
    LAST = os.open(FOLDER / "last", os.O_RDWR | os.O_CREAT, 0o600)
    site() if "site" in sys.orig_argv else coordinator()
