"""A hospital that dies in a secure sum: the round closes over the others, and the model is that of their sum.

And what the coordinator's disk holds after such runs: nothing that any single hospital's update can be read from.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.core import state as chain
from consilium.core.privacy import Privacy
from consilium.core.study import Plan, Study
from consilium.core.tensors import from_safetensors, to_safetensors
from e2e import chaos
from e2e.federation import Federation, Hospital, study
from e2e.lying import beginning
from e2e.processes import until

HOSPITALS = ("east", "north", "south", "upland", "west")
SECURE: dict[str, Any] = {"privacy": {"recipe": "secure_sum"}, "quorum": 4, "deadlines": {"round_s": 86_400}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("dropouts"))
    try:
        for name in HOSPITALS:
            made.add(name, **chaos.bench(made.folder / f"faults-{name}"))
        chaos.acquainted(made)
        yield made
    finally:
        made.close()


def approved(made: Federation, wanted: Study) -> tuple[Plan, np.ndarray[Any, Any]]:
    """A study with a first model of its own, which every hospital approves; the plan, and that model."""
    plan, weights = beginning(wanted)
    made.owner.send_blob(weights)
    made.owner.connection.post("/v1/studies", {"plan": plan.payload.decode()})
    for hospital in made.hospitals.values():
        hospital.approve(plan)
    arrived = f"SELECT count(DISTINCT site) FROM decisions WHERE study = '{wanted.name}'"
    until(lambda: made.rows(arrived)[0][0] == len(HOSPITALS), f"every approval of {wanted.name} arrived", 60.0)
    return plan, np.concatenate([np.ravel(array) for _, array in sorted(from_safetensors(weights).items())])


def armed(hospital: Hospital, point: str) -> Path:
    """Let a hospital die at a point, once it comes there; the file that is gone then."""
    path: Path = hospital.home.parent.parent / f"faults-{hospital.name}" / "armed"
    path.write_text(json.dumps({"point": point, "nth": 1, "delay": 0}))
    return path


def dead(hospital: Hospital, path: Path) -> None:
    until(lambda: not path.exists() and not hospital.process.alive, f"{hospital.name} dies", 60.0)


def answered(made: Federation, run: str, silent: set[str]) -> None:
    until(lambda: set(made.view(run)["waiting_for"]) == silent, f"all of {run} but {silent} answer", 60.0)


def closed(made: Federation, run: str) -> bool:
    return made.rows(f"SELECT round FROM results WHERE run = '{run}' AND round = 1") != []


def overdue(made: Federation, run: str) -> None:
    """Let the deadline of the open phase pass, though it is a day away: a run that begins wakes who looks at it."""
    made.coordinator.in_database(f"UPDATE effects SET due = 0 WHERE run = '{run}' AND kind = 'deadline'")
    made.start(made.submit(study(f"bell-{run}")))


def trained(made: Federation, run: str, names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """The updates of round 1, from the disks of the hospitals: they are there while the round is open."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in names:
        path = made.hospitals[name].home / "work" / run / "update-1.safetensors"
        found[name] = {what: np.array(array) for what, array in chain.read(path).arrays.items()}
    return found


def averaged(first: np.ndarray[Any, Any], updates: Iterable[Mapping[str, Any]]) -> np.ndarray[Any, Any]:
    """The model after FedAvg over these."""
    told = list(updates)
    return np.asarray(first + sum(one["update"] for one in told) / sum(one["weight"][0] for one in told))


LATER = pytest.mark.long  # the test below the threshold dies in UNMASK, too
PHASES = ["MASK", *(pytest.param(phase, marks=LATER) for phase in ("READY", "UNMASK"))]


@pytest.mark.parametrize("phase", PHASES)
def test_a_round_closes_over_those_who_stay(made: Federation, phase: str) -> None:
    west, counted = made.hospitals["west"], phase == "UNMASK"  # its vector is there: the sum holds it
    plan, first = approved(made, study(f"dies-in-{phase}".lower(), rounds=1, **SECURE))
    gone = armed(west, f"{phase}.begun")
    run = made.start(plan)
    dead(west, gone)
    answered(made, run, {"west"})
    updates = trained(made, run, HOSPITALS if counted else HOSPITALS[:-1])
    overdue(made, run)
    until(lambda: closed(made, run), f"round 1 of {run} closes", 60.0)
    west.process.start()
    view = made.until(run, "finished", 120.0)
    assert view["participation"][0]["took_part"] == sorted(updates)
    alike = view["participation"][-1]["took_part"] == sorted(updates)
    assert bool(view["participation"][0]["figures"]["all"]) == alike, "else those of who is missing would follow"
    model = from_safetensors(made.model(run))["model"]
    assert np.allclose(model, averaged(first, updates.values()), rtol=0, atol=1e-8)
    fewer = [one for name, one in updates.items() if name != "upland"]
    assert not np.allclose(model, averaged(first, fewer), rtol=0, atol=1e-8), "sums over others can be told apart"


def test_below_the_threshold_the_run_pauses_and_finishes_when_sites_return(made: Federation) -> None:
    plan, first = approved(made, study("pauses", rounds=1, **SECURE))
    two = [made.hospitals["upland"], made.hospitals["west"]]
    gone = [armed(hospital, "UNMASK.begun") for hospital in two]
    run = made.start(plan)
    for hospital, path in zip(two, gone, strict=True):
        dead(hospital, path)
    answered(made, run, {"upland", "west"})
    updates = trained(made, run, HOSPITALS)
    overdue(made, run)
    view = made.until(run, "paused")
    assert view["reason"] == "round 1: 3 of the 4 needed sites have sent what opens the sum"
    assert not closed(made, run)
    two[0].process.start()
    until(lambda: closed(made, run), f"round 1 of {run} closes", 60.0)
    two[1].process.start()
    view = made.until(run, "finished", 120.0)
    assert [entry["attempt"] for entry in view["participation"]] == [1, 1], "nothing was asked a second time"
    assert np.allclose(from_safetensors(made.model(run))["model"], averaged(first, updates.values()), atol=1e-8)


@pytest.fixture(scope="module")
def dying(made: Federation) -> Path:
    """The coordinator may be told to die, too: by a file here."""
    folder = made.folder / "faults-coordinator"
    assert made.coordinator.stop() == 0
    made.coordinator.process.variables |= chaos.bench(folder)
    made.coordinator.start()
    return folder / "armed"


@pytest.mark.long
@pytest.mark.parametrize(
    ("who", "what"),
    [*(("west", what) for what in chaos.AT_SITE), *(("coordinator", what) for what in chaos.AT_COORDINATOR)],
)
def test_who_dies_while_survivors_are_confirmed_is_back_and_the_sum_is_theirs(
    made: Federation, dying: Path, who: str, what: str
) -> None:
    """Upland is lost in MASK, so the others confirm who has masked; one of these dies meanwhile, or the coordinator."""
    upland = made.hospitals["upland"]
    plan, first = approved(made, study(f"confirms-{who}-{what}", rounds=1, **SECURE))
    gone = armed(upland, "MASK.begun")
    fault: dict[str, Any] = {"point": f"CONFIRM.{what}", "nth": 1, "delay": 0, "rows": True}
    process = made.hospitals[who].process if who == "west" else made.coordinator.process
    later = armed(made.hospitals[who], fault["point"]) if who == "west" else dying
    later.write_text(json.dumps(fault))
    run = made.start(plan)
    dead(upland, gone)
    answered(made, run, {"upland"})
    updates = trained(made, run, (name for name in HOSPITALS if name != "upland"))
    overdue(made, run)
    until(lambda: not later.exists() and not process.alive, f"{who} dies", 60.0)
    process.start()
    until(lambda: closed(made, run), f"round 1 of {run} closes", 60.0)
    upland.process.start()
    view = made.until(run, "finished", 120.0)
    assert view["participation"][0]["took_part"] == sorted(updates) and view["participation"][0]["attempt"] == 1
    assert np.allclose(from_safetensors(made.model(run))["model"], averaged(first, updates.values()), atol=1e-8)


# what the disk of the coordinator holds

STRETCH = 30
"""Values of an update that are looked for in a row: no other stretch of bytes correlates with them by chance."""


def wards(name: str, **changes: Any) -> Study:
    """A study in which each patient lies in a ward of their own: each value of an update is of one patient."""
    told = study(name, rounds=1, **changes).model_dump(mode="json", exclude_none=True)
    ward = {"id": "ward", "meaning": "the ward", "type": "category", "missing": "forbidden"}
    told["contract"]["features"].append({**ward, "categories": {f"w{i}": f"ward {i}" for i in range(80)}})
    return Study.model_validate({**told, "gate": "none", "contract": {**told["contract"], "id": "wards"}})


def mapped(hospital: Hospital) -> None:
    codes = ", ".join(f"p{i}: w{i}" for i in range(80))
    text = hospital.mapping.read_text().replace("contract: sums", "contract: wards")
    hospital.mapping = hospital.mapping.with_name("wards.yaml")
    hospital.mapping.write_text(text.replace("features: {", f"features: {{ward: {{column: id, codes: {{{codes}}}}}, "))


def stored(made: Federation) -> dict[str, bytes]:
    """Every file of the coordinator, its log, and what stands in its database value by value: a page may cut it."""
    found = {str(path): path.read_bytes() for path in made.coordinator.home.rglob("*") if path.is_file()}
    found["log"] = made.coordinator.process.said.encode()
    for table in ("steps", "contributions", "inbox", "declarations"):
        for index, row in enumerate(made.rows(f"SELECT envelope FROM {table}")):
            found[f"{table} {index}"] = base64.b64decode(json.loads(row[0])["payload"])
    for row in made.rows("SELECT digest, data FROM blobs WHERE data IS NOT NULL"):
        found[row[0]] = bytes(row[1])
    return found


def readings(data: bytes) -> Iterator[np.ndarray[Any, Any]]:
    """Bytes as floats and integers of 4 and 8 bytes, from every alignment."""
    for kind in ("<f4", "<f8", "<i4", "<i8"):
        width = int(kind[-1])
        for start in range(min(width, len(data))):
            with np.errstate(all="ignore"):
                values = np.frombuffer(data, kind, (len(data) - start) // width, start).astype(np.float64)
            yield np.clip(np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0), -1e100, 1e100)


def closest(data: bytes, sought: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """For each row of `sought`: its largest correlation with a stretch of the data, however they are read."""
    centred = sought - sought.mean(axis=1, keepdims=True)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    most, ones = np.zeros(len(sought)), np.ones(STRETCH)
    for values in readings(data):
        if values.size < STRETCH:
            continue
        total, squares = (np.convolve(one, ones, "valid") for one in (values, values**2))
        spread = np.sqrt(np.maximum(squares - total**2 / STRETCH, 0))
        spread[spread <= 1e-6 * np.sqrt(squares)] = np.inf  # one and the same value, as far as numbers go
        for at, one in enumerate(centred):
            most[at] = max(most[at], float((np.abs(np.correlate(values, one, "valid")) / spread).max()))
    return most


def looked_for(made: Federation, sought: np.ndarray[Any, Any], known: Mapping[str, bytes]) -> np.ndarray[Any, Any]:
    """The largest correlation of each update with anything that the coordinator stores, beside what is `known`."""
    most = np.zeros(len(sought))
    for name, data in stored(made).items():
        if name not in known:
            most = np.maximum(most, closest(data, sought))
    return most


@pytest.mark.long
def test_the_disk_of_the_coordinator_tells_no_update_and_no_figure_of_a_hospital(made: Federation) -> None:
    for hospital in made.hospitals.values():
        mapped(hospital)
    west = made.hospitals["west"]
    wanted = wards("disk", **{**SECURE, "quorum": 5})
    plan, _ = approved(made, wanted)
    gone = armed(west, "UNMASK.begun")
    run = made.start(plan)
    dead(west, gone)  # everybody has masked: updates are still at the hospitals
    updates = [h.home / "work" / run / "update-1.safetensors" for h in made.hospitals.values()]
    sought = np.stack([np.array(chain.read(path).arrays["update"][-STRETCH:]) for path in updates])
    counted = [np.array(chain.read(path).arrays["metrics/positives"]).tobytes() for path in updates]
    assert np.linalg.norm(sought, axis=1).min() > 1e-3
    west.process.start()
    made.until(run, "finished", 120.0)
    before = stored(made)
    assert looked_for(made, sought, {}).max() < 0.95
    assert not any(one in data for data in before.values() for one in counted), "nor of whom it has figures"
    # Nearly the same first model, hence nearly the same updates; at the same one, nobody shows what a sum has hidden.
    near = {name: array * (1 + 1e-9) for name, array in from_safetensors(beginning(wanted)[1]).items()}
    model = plan.study.model.model_copy(update={"initial": made.owner.send_blob(to_safetensors(near))})
    told = plan.study.model_copy(update={"name": "control", "privacy": Privacy(recipe="plain"), "model": model})
    made.owner.connection.post("/v1/studies", {"plan": Plan.of(told).payload.decode()})
    for hospital in made.hospitals.values():
        hospital.approve(Plan.of(told))
    control = made.start(Plan.of(told))
    made.until(control, "finished", 120.0)
    assert looked_for(made, sought, before).min() > 0.999, "the same search finds every update under `plain`"
    shown = [data for name, data in stored(made).items() if name not in before]
    assert all(any(one in data for data in shown) for one in counted)
