"""The Python API, of the same shape as the command line, for notebooks and scripts.

::

    from consilium.api import Federation
    federation = Federation.login("https://coordinator.example.org:8443", "nora", password, ca="ca.pem")
    run = federation.submit("study.yaml").start()
    result = run.watch().result()
    print(result.figures["all"]["auroc"])
    result.save("model.safetensors")
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consilium import studyfile
from consilium.core.errors import Conflict, DigestMismatch, NotFound, Unavailable
from consilium.core.ids import Digest, digest
from consilium.core.run import OVER
from consilium.core.study import Plan, Study
from consilium.durable import naming
from consilium.governance.approvals import weaker
from consilium.progress import bar
from consilium.wire.connection import UNTRUSTED, Connection, Patience
from consilium.wire.transfer import download, file_digest, upload

if TYPE_CHECKING:  # most commands compute nothing: what computes is imported where it does
    from consilium.algorithms import regression
    from consilium.core.tensors import Array, Tensors
    from consilium.reportfile import Page

Json = dict[str, Any]
WAIT_S = 25.0
"""How long one long-poll waits for something new, in seconds."""
PATIENCE_S = 120.0
"""How long who watches a run waits for a coordinator that has gone, in seconds."""
UPLOAD_TRIES = 30
"""Requests of one upload that may fail, each of which goes on where the one before was cut."""


def freeze(
    study: Study, wheel: Path | None = None, model: Path | None = None, seed: "Callable[..., Tensors] | None" = None
) -> tuple[Plan, bytes]:
    """The plan of a study, and the initial model (safetensors bytes) that the plan names by its digest.

    The architecture of `wheel` runs here, in this process, to make the initial model, or where `seed` lets it, which is
    as `training.initial.from_seed`; `model` is the one from which a study starts that says `start: given`. For a study
    with an epsilon, the noise that gives it is found here, once: it is in the plan that hospitals approve.

    Raises: StudyInvalid: a model or a strategy cannot do what the study asks of it.   Invalid: no sum has room for it.
    """
    from consilium import feasible
    from consilium.core.tensors import from_safetensors
    from consilium.privacy.mechanism import pinned
    from consilium.training.initial import initial_model

    # A plan is canonical JSON, whose keys are sorted: what follows from the order of keys is made from the plan.
    sorted_ = Plan.load(Plan.of(pinned(study)).payload).study
    weights = initial_model(sorted_, wheel, model, seed)
    made = from_safetensors(weights)
    feasible.starts(sorted_, made)
    feasible.sums(sorted_, made)
    named = sorted_.model.model_copy(update={"initial": digest(weights)})
    return Plan.of(sorted_.model_copy(update={"model": named})), weights


class Federation:
    """A coordinator, as one person sees it."""

    def __init__(self, url: str, *, token: str, ca: str | Path | None = None) -> None:
        self.url = url
        self.token = token
        self.connection = Connection(url, Path(ca) if ca else None, lambda: self.token)

    @classmethod
    def login(cls, url: str, name: str, password: str, *, ca: str | Path | None = None) -> "Federation":
        """Log in with a local account.

        Raises: Unauthenticated: unknown name or wrong password.   Unavailable: out of reach.
        """
        anonymous = Connection(url, Path(ca) if ca else None)
        try:
            answer = anonymous.post("/v1/login", {"name": name, "password": password})
        except Unavailable as error:
            if error.remedy != UNTRUSTED or ca is not None:
                raise
            told = f"if its CA is a private one, give its file as `ca`; {UNTRUSTED}"
            raise Unavailable(error.message, told) from error
        return cls(url, token=str(answer["access_token"]), ca=ca)

    def get(self, path: str, **query: Any) -> Json:
        """GET a JSON document under `path`; errors come back as errors of `consilium.core.errors`."""
        return dict(self.connection.get(path, query, wait=float(query.get("wait", 0.0))))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """POST JSON to `path`."""
        return dict(self.connection.post(path, dict(body or {})))

    def submit(
        self, study: Study | str | Path, *, wheel: Path | None = None, model: Path | None = None
    ) -> "RemoteStudy":
        """Freeze a study into a plan, send its initial model (and its wheel, if it has one), then the plan.

        `model`: a safetensors file, for a study that starts from a given one; `Result.save` writes such files.

        Raises: StudyInvalid: the file breaks a rule.   Conflict: the name is taken by another plan.
        """
        self.studies()  # whoever may not do this should hear it before anything is sent
        wanted = study if isinstance(study, Study) else studyfile.read(Path(study))
        plan, weights = freeze(studyfile.current(wanted, datetime.now(UTC).date()), wheel, model)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "initial.safetensors"
            path.write_bytes(weights)
            upload(self.connection, path, digest(weights), Patience(UPLOAD_TRIES))
        if wheel is not None:
            upload(self.connection, wheel, file_digest(wheel), Patience(UPLOAD_TRIES))
        answer = self.post("/v1/studies", {"plan": plan.payload.decode()})
        return RemoteStudy(self, str(answer["study"]), plan, tuple(answer.get("missing") or ()))

    def studies(self) -> list[Json]:
        """All studies that this account may see."""
        return list(self.connection.get("/v1/studies"))

    def study(self, name: str) -> "RemoteStudy":
        """A study that was submitted before.

        Raises: NotFound.
        """
        self.get(f"/v1/studies/{name}")
        return RemoteStudy(self, name)

    def run(self, name: str) -> "RemoteRun":
        """A run by its own name, or the newest run of the study of that name.

        Raises: NotFound: neither is known.   Conflict: the study has not been started.
        """
        try:
            return RemoteRun(self, str(self.get(f"/v1/runs/{name}")["run"]))
        except NotFound:
            return self.study(name).newest()

    def sites(self) -> list[Json]:
        """All sites, with their state and when they were last seen."""
        return list(self.connection.get("/v1/sites"))


@dataclass(frozen=True)
class RemoteStudy:
    """A study at the coordinator; `missing`, as it was submitted: whom it invites and who has not joined, and why."""

    federation: Federation
    name: str
    plan: Plan | None = None
    missing: tuple[Json, ...] = ()

    def show(self) -> Json:
        """Its plan's digest, owner, status, each site's decision, and its runs."""
        return self.federation.get(f"/v1/studies/{self.name}")

    def approved(self) -> Plan:
        """The plan as the hospitals got it, checked against the digest that the study names.

        Raises: DigestMismatch: the coordinator gave other bytes.
        """
        plan = Plan.load(self.federation.connection.request("GET", f"/v1/studies/{self.name}/plan").data)
        if plan.digest != self.show()["plan"]:
            raise DigestMismatch(
                f"the plan of {self.name} is not the one it is named by", "tell the coordinator's admin"
            )
        return plan

    def start(self) -> "RemoteRun":
        """Start a run. Below the study's quorum of approvals it is paused, says why, and goes on when they come.

        While a run is on it is that one, and its `started` is false: asking again starts no second.
        """
        answer = self.federation.post(f"/v1/studies/{self.name}/runs")
        return RemoteRun(self.federation, str(answer["run"]), bool(answer["started"]))

    def newest(self) -> "RemoteRun":
        """Its newest run.

        Raises: Conflict: it has none.
        """
        runs = self.show().get("runs") or []
        if not runs:
            raise Conflict(f"study {self.name} has not been started", f"run `consilium study start {self.name}`")
        newest = max((str(run["run"]) for run in runs), key=lambda run: int(run.rpartition("-")[2]))
        return RemoteRun(self.federation, newest)


@dataclass(frozen=True)
class RemoteRun:
    """One run of a study at the coordinator; `started` where `RemoteStudy.start` has begun it."""

    federation: Federation
    name: str
    started: bool = False

    def show(self, since: int = 0) -> Json:
        """Status, round, participation per round, and what each site does.

        Args:    since: number of an event; rounds that were over before it are left out. 0: none.
        """
        return self.federation.get(f"/v1/runs/{self.name}", since=since)

    def stop(self, reason: str) -> Json:
        """End the run; what it has reached stays. Its `status`, and whether it was `stopped` now, or over before."""
        return self.federation.post(f"/v1/runs/{self.name}/stop", {"reason": reason})

    def views(self, wait_s: float = WAIT_S) -> Iterator[Json]:
        """Each new view of the run until it is over: `show()`, with the `events` since the view before.

        Wakes as soon as something happens, and at the latest after `wait_s` seconds (sites' activity changes too).
        A coordinator that is restarted meanwhile is waited for.

        Raises: Unavailable: at the first view, or when the coordinator stays away for longer than `PATIENCE_S`.
        """
        after, lost = 0, 0.0  # lost: when the coordinator was
        view: Json = {}
        while True:
            try:
                wait = wait_s if view else 0
                answer = self.federation.get(f"/v1/runs/{self.name}/events", after=after, wait=wait)
                view = _followed(view, self.show(since=after))
            except Unavailable:  # a run outlives its coordinator's restart, and so does who watches it
                lost = lost or time.monotonic()
                if not view or time.monotonic() - lost > PATIENCE_S:
                    raise
                time.sleep(1.0)
                continue
            lost = 0.0
            events = list(answer["events"])
            after = max([after, *(int(event["seq"]) for event in events)])
            yield {**view, "events": events}
            if view["status"] in OVER:
                return

    def watch(self, each: Callable[[Json], None] | None = None) -> "RemoteRun":
        """Wait for the end of the run and call `each` with every view on the way.

        Without `each` a bar shows the rounds, to a person in a terminal or a notebook.
        """
        with bar(self.name, None if each is None else False) as tell:
            for view in self.views():
                tell(*_far(view))
                if each is not None:
                    each(view)
        return self

    def result(self) -> "Result":
        """What the run gave: figures pooled and per hospital, and the model.

        Raises: NotFound: the run has no model yet.
        """
        return Result(self.federation, self.federation.get(f"/v1/runs/{self.name}/result"))


def _far(view: Json) -> tuple[int, int, str]:
    """Rounds that are over, of how many, and in what state the run is; the last round judges the final model."""
    rounds = view.get("participation") or []
    over = {entry["round"] for entry in rounds if entry.get("closed") and not entry.get("cancelled")}
    return len(over), int(view["rounds"]) + 1, f"rounds, {view['status']} {view.get('reason') or ''}".rstrip()


def _followed(before: Json, new: Json) -> Json:
    """A view without the rounds that were over before, put together with the view before, which has them."""
    parts = {}
    for part in ("participation", "pairing"):
        rounds = {(entry["round"], entry["attempt"]): entry for entry in (*before.get(part, ()), *new[part])}
        parts[part] = [rounds[key] for key in sorted(rounds)]
    return {**new, **parts}


def _place(name: str) -> tuple[int, str]:
    """By the number at the end of a name: two before ten."""
    return len(name), name


@dataclass(frozen=True)
class Result:
    """What a run gave. `document` is the coordinator's answer: the run's view, its figures, and where the model is."""

    federation: Federation
    document: Json

    @property
    def figures(self) -> Json:
        """``{"all": {metric: figure}, "sites": {site: {metric: figure}}}`` on held-out patients.

        `sites` is empty under the recipe `secure_sum`: nobody but a hospital itself knows its figures.
        Of the final model; of a run that ended early or goes on, of the model that `document["judged"]` names.
        """
        return dict(self.document.get("figures") or {})

    @property
    def sites(self) -> Json:
        """Per hospital: rounds taken part in, bytes sent, last seen."""
        return dict(self.document.get("sites") or {})

    def fetch(self, folder: Path) -> tuple[Path, Path]:
        """Download the final state and the initial model into `folder`; both are checked against their digests."""
        paths = []
        for part in ("state", "initial"):
            path = folder / f"{part}.safetensors"
            stop = Patience()
            download(self.federation.connection, Digest(self.document[part]["digest"]), path, stop, stop.moved)
            paths.append(path)
        return paths[0], paths[1]

    def model(self) -> "Tensors":
        """The final model as named arrays, shaped as the trainer made them."""
        return self.models()["model"]

    def models(self) -> "dict[str, Tensors]":
        """The final models of a strategy that learns several: `model` is the first, then `model-2` and so on."""
        return self._home()[0]

    def _home(self) -> "tuple[dict[str, Tensors], Mapping[str, Array]]":
        """The final models, and the arrays of the final state."""
        from consilium.core import state as chain
        from consilium.core.tensors import from_safetensors, unflatten

        with tempfile.TemporaryDirectory() as folder:
            state, initial = self.fetch(Path(folder))
            like, arrays = from_safetensors(initial.read_bytes()), chain.read(state).arrays
            named = ["model", *(name for name in sorted(arrays, key=_place) if name.startswith("model-"))]
            return {name: unflatten(arrays[name], like) for name in named}, arrays

    def regression(self) -> "regression.Fit | None":
        """The table of coefficients, if the strategy is newton; see `docs/how-to/fit-an-exact-regression.md`."""
        from consilium.algorithms import regression
        from consilium.core import state as chain

        study = RemoteStudy(self.federation, str(self.document["study"])).approved().study
        if not study.exact:
            return None
        with tempfile.TemporaryDirectory() as folder:
            state, _ = self.fetch(Path(folder))
            return regression.fitted(study, chain.read(state).arrays)

    def facts(self) -> Json:
        """The document, with each hospital's decision, newest check and refusals, and the modes that they accepted."""
        study = RemoteStudy(self.federation, str(self.document["study"]))
        shown, fit = study.show(), self.regression()
        refused = [one for one in shown.get("refusals") or () if one.get("run") in (None, "", self.document["run"])]
        return {
            **self.document, **({"regression": fit.to_json()} if fit is not None else {}),
            "decisions": shown["sites"], "refusals": refused, "weaker": list(weaker(study.approved())),
            "checks": shown.get("checks") or {},
        }  # fmt: skip

    def report(self, baseline: Json | None = None, audit: Sequence[Json] = ()) -> "Page":
        """The report of the run: `html()`, `write()`, `open()`, `to_json()`, and `frames()` for pandas.

        Args:    baseline: what `consilium baseline --json` wrote for the same study: adds each hospital's own model.
                 audit: what `consilium audit verify --json` wrote, of each log.
        """
        from consilium.reportfile import Page

        plan = RemoteStudy(self.federation, str(self.document["study"])).approved()
        return Page.of({**self.facts(), "audit": list(audit)}, datetime.now(UTC), plan.study, baseline)

    def metadata(self) -> dict[str, str]:
        """Where the model comes from: plan, contract, run, the state's digest; and how raw rows become its inputs."""
        return self._written()[1]

    def _written(self) -> "tuple[Tensors, dict[str, str]]":
        """What a file of the model holds: its arrays, and its origin."""
        from consilium.exported import origin

        plan = RemoteStudy(self.federation, str(self.document["study"])).approved()
        models, arrays = self._home()
        run, state = str(self.document["run"]), str(self.document["state"]["digest"])
        return models["model"], origin(plan, run, state, models["model"], arrays)

    def save(self, path: str | Path, form: str | None = None) -> Digest:
        """Write the model with its origin as metadata; returns the digest of the file.

        Args:    form: safetensors, which `consilium.exported.Exported` reads and applies to raw rows; or onnx, which
                 takes raw rows by itself; None: onnx for a name that ends in .onnx, else safetensors.
        Raises:  Refused: the extra `onnx` is not installed.   Invalid: this kind of model has no form in ONNX here.
        """
        from consilium.core.tensors import to_safetensors
        from consilium.exported import Exported, form_of

        data = to_safetensors(*self._written())
        if (form or form_of(Path(path))) == "onnx":
            from consilium.onnxfile import to_onnx

            data = to_onnx(Exported.load(data))
        with naming(Path(path)):
            Path(path).write_bytes(data)
        return digest(data)
