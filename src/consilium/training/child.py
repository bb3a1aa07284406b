"""The work of a site's child process. One line of JSON in, one out. As a program: `python -m consilium.training.child`.

Commands: ``load`` {plan, initial, table}, ``prepare`` {state, out}, ``train`` {state, round, out, sample, memory,
late, keep}, ``evaluate`` {state, out, memory, keep}, ``alone`` {state, out}: see alone.py. ``memory`` is a file of what
the strategy kept at this site, ``late`` of what it kept with an answer that was not counted, ``keep`` where to write
what it keeps now, if anything: after ``evaluate`` the model that is used here, if it is not the common one. What goes
back is ``{"ok": true}`` or a safe error {"code", "message", "remedy"}: never a value of a patient, never a traceback.
What foreign code failed with goes whole to the log of the run, which is the hospital's own (`consilium site log`).

A study with code or a graph of its own adds to ``load`` {confine: {read: [folder], write: [folder]}}, and one with code
its {wheel}; ``first`` {plan, wheel, confine, out} makes its first model, and reads no patient. States are read from the
one folder, and ``out`` lies in the other. Whoever asks must believe nothing that this process says from there on, and
must start it with ``python -P``, so that no file in a folder that foreign code wrote is taken for a module.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import IO, Any, cast

from consilium.core import state as chain
from consilium.core.errors import ConsiliumError, Refused
from consilium.core.tensors import to_safetensors
from consilium.core.update import Update
from consilium.durable import AheadFile
from consilium.training import alone
from consilium.training.limits import end_with, keep_memory, limit, named
from consilium.training.work import Foreign, Work, first

MEMORY_BYTES, FILE_BYTES = 64 << 30, 64 << 30
SAID = 32 << 10
"""Characters of what foreign code failed with that are told at once."""
NAME = "consilium-train"
"""What `ps` and `top` call the process."""


def serve(memory_bytes: int = MEMORY_BYTES, file_bytes: int = FILE_BYTES, parent: int = 0) -> None:
    """Answer commands until stdin ends; the process dies with the agent, whose id is `parent` (0: with nobody)."""
    if parent:
        end_with(parent)
    named(NAME)
    limit(memory_bytes, file_bytes)
    keep_memory()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a model prints goes to the site's log, and is not taken for an answer
    work, foreign = None, False
    for line in os.fdopen(os.dup(0), "rb"):
        try:
            ask = json.loads(line)
            foreign = foreign or "confine" in ask
            if ask["do"] == "load":
                work = Work.load(Path(ask["plan"]), Path(ask["initial"]), Path(ask["table"]), _foreign(ask))
                told: dict[str, Any] = {"ok": True}
            elif ask["do"] == "first":
                made = first(Path(ask["plan"]), _foreign(ask))
                Path(ask["out"]).write_bytes(to_safetensors(made))
                told = {"ok": True}
            else:
                assert work is not None
                told = _act(work, ask)
        except ConsiliumError as error:
            if foreign:
                _say(error)
            told = {"code": error.code, "message": error.message, "remedy": error.remedy}
            told |= {"reason": error.reason} if isinstance(error, Refused) else {}
        except MemoryError:
            told = _failed("training needs more memory than the site allows", "lower training.batch_size")
        except Exception as error:
            if foreign:
                _say(error)
            else:
                traceback.print_tb(error.__traceback__)  # to the site's log: where, and no value of anything
            told = _failed(
                f"training failed ({type(error).__name__})", "run `consilium site check`; the cause is local"
            )
        answers.write(json.dumps(told) + "\n")
        answers.flush()


def _say(error: Exception) -> None:
    """What it was, and where, with all that led to it, to the log of the run: its author wrote what fails."""
    sys.stderr.write("".join(traceback.format_exception(error))[-SAID:])
    sys.stderr.flush()


def _foreign(ask: dict[str, Any]) -> Foreign | None:
    if "confine" not in ask:
        return None
    read, write = (tuple(Path(folder) for folder in ask["confine"][name]) for name in ("read", "write"))
    return Foreign(Path(ask["wheel"]) if "wheel" in ask else None, read, write)


def _failed(message: str, remedy: str) -> dict[str, Any]:
    return {"code": "training-failed", "message": message, "remedy": remedy}


def _act(work: Work, ask: dict[str, Any]) -> dict[str, Any]:
    state, out = Path(ask["state"]), Path(ask["out"])
    memory, late = (work.arrays(Path(ask[name])) if name in ask else {} for name in ("memory", "late"))
    if ask["do"] == "train":
        update = work.train(state, int(ask["round"]), bytes.fromhex(ask.get("sample", "")), memory, late)
    elif ask["do"] == "prepare":
        update = work.prepare()
    elif ask["do"] == "alone":
        update = Update(dict(alone.judged(work)))
    else:
        update, own = work.evaluate(state, memory), work.own(state, memory)
        if own is not None:
            Path(ask["keep"]).write_bytes(to_safetensors(own))
        if (harmony := work.harmony(state)) is not None:
            Path(ask["harmony"]).write_text(json.dumps(harmony.to_json()))
    with out.open("wb") as file:
        digest, size = chain.write(update.segments, {}, cast(IO[bytes], AheadFile(file)))
    if update.memory:
        with Path(ask["keep"]).open("wb") as file:
            chain.write(update.memory, {}, file)
    return {"ok": True, "digest": digest, "size": size}


if __name__ == "__main__":
    serve(*(int(value) for value in sys.argv[1:4]))
