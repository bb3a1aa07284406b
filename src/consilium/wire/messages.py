"""The messages of the protocol, as frozen models; unknown keys are refused.

Each (`Task`, `Closed`, `Answer`, ...) travels inside a DSSE envelope whose payload type is its `TYPE`. What is signed
and hashed is the payload's bytes as they travelled, never a re-serialisation. What is asked in plain: `requests`.
"""

import json
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from consilium.core.errors import EnvelopeInvalid, ProtocolMismatch
from consilium.core.ids import DIGEST, SLUG, canonical

PROTOCOL = 2
"""Version that this release speaks by choice. In 2, a sum over all who called READY is opened without CONFIRM."""
PROTOCOLS = (2,)
"""All versions that this release understands."""
SIGNED = (1, 2)
"""Versions of messages that are read: what was signed in an earlier one is kept, and may wait to be sent."""
HEADER = "Consilium-Protocol"
MAX_MESSAGE = 1 << 20
"""Largest JSON body, in bytes; bulk travels as blobs."""
SMALL = 256 << 10
"""A blob of at most so many bytes travels with the message that names it: it costs no request of its own."""
OPENED = 8 << 20
"""Vectors of so many bytes in all travel with what opened their sum: each by itself would cost every site a request."""
LINKS = 5000
"""Most entries of a log that one message leads past; more take several."""
TEXT = r"^[^\x00]*$"
"""Any text but NUL, which PostgreSQL cannot keep."""

Name = Annotated[str, StringConstraints(pattern=SLUG)]
Hash = Annotated[str, StringConstraints(pattern=DIGEST)]
Short = Annotated[str, StringConstraints(max_length=200, pattern=TEXT)]
Long = Annotated[str, StringConstraints(max_length=4000, pattern=TEXT)]
Number = Annotated[int, Field(ge=0, lt=2**31)]
"""A number that databases at both ends can keep."""
Seed = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""32 bytes."""
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]


SitePhase = Literal["SUBMIT", "KEYS", "PAIR", "PROVE", "READY", "MASK", "CONFIRM", "UNMASK"]
"""A phase that is asked of sites."""
Kind = Literal["PAIR", "PREPARE", "TRAIN", "EVALUATE"]
"""Of a round."""


class Message(BaseModel):
    """A message: frozen, strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def encode(self) -> bytes:
        """The bytes that travel and are signed."""
        return canonical(self.model_dump(mode="json"))


class Signed(Message):
    """A message that travels inside an envelope."""

    TYPE: ClassVar[str]
    protocol: int = PROTOCOL

    @classmethod
    def decode(cls, payload: bytes) -> "Any":
        """Read a payload.

        Raises: EnvelopeInvalid: not of this form.   ProtocolMismatch: of a version not understood here.
        """
        try:
            message = cls.model_validate_json(payload)
        except ValidationError as error:
            spoken = _spoken(payload)  # another protocol has other keys: the version is what explains them
            if spoken is not None and spoken not in SIGNED:
                raise ProtocolMismatch(*mismatch(spoken)) from error
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "payload"
            raise EnvelopeInvalid(f"{cls.__name__.lower()}: {where}: {first['msg']}") from error
        if message.protocol not in SIGNED:
            raise ProtocolMismatch(*mismatch(message.protocol))
        return message


def _spoken(payload: bytes) -> int | None:
    try:
        spoken = json.loads(payload)["protocol"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    return spoken if type(spoken) is int else None


def mismatch(theirs: int | str) -> tuple[str, str]:
    """The one sentence for two releases that cannot talk, and its remedy; the same at either end, for it travels."""
    ours = ", ".join(str(version) for version in PROTOCOLS)
    told = f"one side speaks protocol {ours} and the other side speaks {theirs}"
    if isinstance(theirs, str):
        return told, "check that both are releases of Consilium"
    return told, f"update the side that speaks {theirs if theirs < min(PROTOCOLS) else ours}"


class Blob(Message):
    """Bytes by name and size."""

    digest: Hash
    size: int = Field(ge=0, lt=2**62)


# from the coordinator to a site, through its inbox


class Delivered(Signed):
    """A message in an inbox. Its place is signed with it, so that nobody in between can replay, swap or drop one."""

    to: Name | None = None
    number: Number = Field(0, description="its number in the inbox of `to`; each is one more than the one before")
    before: Hash | None = Field(None, description="digest of the payload of the message before it in this inbox")


class Offer(Delivered):
    """A study is offered to the site; its plan is a blob named by `plan`."""

    TYPE: ClassVar[str] = "application/vnd.consilium.offer+json"
    study: Name
    plan: Blob
    title: Long
    model: int = Field(0, ge=0, lt=2**62, description="bytes of the initial model")
    code: int = Field(0, ge=0, lt=2**62, description="bytes of the study's wheel")


class Closing(Message):
    """How a round closed, beside the state and the sums that followed."""

    attempt: int = Field(1, ge=1, lt=2**31)
    kind: Kind
    took_part: tuple[Name, ...]


class Task(Delivered):
    """One phase of one round is asked of the site; with the first may come how the round before it closed."""

    TYPE: ClassVar[str] = "application/vnd.consilium.task+json"
    study: Name
    run: Name
    plan: Hash
    round: int = Field(ge=0, lt=2**31, description="0 where keys are agreed (kind PAIR)")
    attempt: int = Field(1, ge=1, lt=2**31, description="how often this round was opened")
    kind: Kind
    phase: SitePhase
    roster: tuple[Name, ...] = Field(description="who is asked in this phase")
    cohort: tuple[Name, ...] = Field((), description="who holds keys with one another in this run")
    state: Blob = Field(description="state at which to train: the site computes it itself and compares")
    initial: Blob = Field(description="the initial model of the plan")
    aggregate: Blob | None = Field(description="sums of the round that led to `state`; None at the first round")
    deadline: AwareDatetime
    closing: Closing | None = Field(None, description="how the round before closed, if no message of its own says so")

    @model_validator(mode="after")
    def _follows(self) -> "Task":
        if self.closing is not None and self.round == 0:
            raise ValueError("no round comes before round 0")
        return self

    def closed(self) -> "Closed | None":
        """The closing of the round before, as a message of its own would tell it."""
        if self.closing is None:
            return None
        return Closed(
            study=self.study, run=self.run, round=self.round - 1, aggregate=self.aggregate, state=self.state,
            **vars(self.closing),
        )  # fmt: skip

    @classmethod
    def decode(cls, payload: bytes) -> "Any":
        """Read a payload; one that was read lately is not read again. Raises: as `Signed.decode`."""
        return _task(payload)


@lru_cache(8)  # a site reads it where it comes, where it is done and where the answer leaves; it is frozen
def _task(payload: bytes) -> Any:
    return super(Task, Task).decode(payload)


class Closed(Delivered):
    """A round closed: who took part, and which state follows. A round of kind PAIR has no aggregate."""

    TYPE: ClassVar[str] = "application/vnd.consilium.closed+json"
    study: Name
    run: Name
    round: Number
    attempt: int = Field(1, ge=1, lt=2**31)
    kind: Kind
    took_part: tuple[Name, ...]
    aggregate: Blob | None
    state: Blob

    @property
    def closing(self) -> Closing:
        """What the task of the next round may tell in its place."""
        return Closing(attempt=self.attempt, kind=self.kind, took_part=self.took_part)


class Ended(Delivered):
    """A run ended."""

    TYPE: ClassVar[str] = "application/vnd.consilium.ended+json"
    study: Name
    run: Name
    status: Literal["finished", "stopped", "failed"]
    reason: Long
    state: Blob | None


class Checkpoint(Delivered):
    """Head of an audit log at a moment; each end keeps the other's, and compares it with the ones that follow."""

    TYPE: ClassVar[str] = "application/vnd.consilium.checkpoint+json"
    log: Name
    seq: Number
    head: Hash
    at: AwareDatetime
    since: Number = Field(0, description="entry after which `links` begin: a site's checkpoint before this one")
    links: tuple[Hash, ...] = Field((), max_length=LINKS, description="digests of a site's entries from there to `seq`")


class Reopened(Delivered):
    """The coordinator was restored from an older copy, says a person there: the inbox goes on after a loss.

    It alone does not name the message before it. Tasks of before are over; what still stands is sent again.
    """

    TYPE: ClassVar[str] = "application/vnd.consilium.reopened+json"
    by: Short
    at: AwareDatetime
    seq: Number = Field(description="newest entry of the coordinator's audit log now")
    head: Hash
    kept: Number = Field(description="newest entry of the site's log of which the coordinator keeps a head; 0: none")
    runs: tuple[Name, ...] = Field(description="runs that are going on")


# from a site to the coordinator


class Alarm(Signed):
    """What a site keeps of the coordinator contradicts what it is shown. `why` is a stable code."""

    TYPE: ClassVar[str] = "application/vnd.consilium.alarm+json"
    why: Annotated[str, StringConstraints(pattern=SLUG)]
    text: Long
    number: Number = Field(0, description="newest message of its inbox that the site has taken")
    last: Hash | None = Field(None, description="digest of that message's payload")
    at: AwareDatetime


class Answer(Signed):
    """The site's answer to a task: the contribution is a blob that the coordinator has received."""

    TYPE: ClassVar[str] = "application/vnd.consilium.answer+json"
    study: Name
    run: Name
    plan: Hash
    round: Number
    kind: Literal["PREPARE", "TRAIN", "EVALUATE"]
    phase: Literal["SUBMIT"]
    state: Hash
    contribution: Blob
    recipe: Literal["plain"]


class Step(Signed):
    """The site's answer in a phase of agreeing on keys or of a secure sum.

    Other sites read it, too: `body` is the protocol's message (privacy/pairing.py, privacy/secagg.py); `vector` is the
    masked vector, a blob that the coordinator has received.
    """

    TYPE: ClassVar[str] = "application/vnd.consilium.step+json"
    study: Name
    run: Name
    plan: Hash
    round: Number
    attempt: int = Field(ge=1, lt=2**31)
    kind: Literal["PAIR", "PREPARE", "TRAIN", "EVALUATE"]
    phase: SitePhase
    body: dict[str, Any]
    vector: Blob | None = None


class Refusal(Signed):
    """The site will not do it. `reason` is a stable code for the study's owner; `text` holds no patient data."""

    TYPE: ClassVar[str] = "application/vnd.consilium.refusal+json"
    study: Name
    plan: Hash
    run: Name | None = None
    round: Number | None = None
    attempt: Number | None = Field(
        None, description="of the task: a refusal that comes late does not hold for the next"
    )
    reason: Annotated[str, StringConstraints(pattern=SLUG)]
    text: Long


class Decision(Signed):
    """Approval, refusal or withdrawal of a study by a person at the site; binds the plan's hash."""

    TYPE: ClassVar[str] = "application/vnd.consilium.approval+json"
    site: Name
    study: Name
    plan: Hash
    decision: Literal["approve", "decline", "revoke"]
    person: Short
    accepts: tuple[Name, ...] = Field((), description="weaker modes accepted, such as the recipe `plain`")
    expires: AwareDatetime | None = None
    at: AwareDatetime
    reason: Long = ""


class Coverage(Message):
    """How many patients have a value of one feature: percent, in steps of five; None: it is hidden."""

    id: Short
    percent: int | None = Field(ge=0, le=100)


class Found(Message):
    """One finding of a check: a stable code, the feature, and whether it blocks. No word of the hospital's is in it."""

    kind: Name
    where: Short
    blocks: bool


class Flow(Message):
    """What became of the patients of a hospital's table, in tens, rounded down; None: it is hidden, or not known."""

    read: Number | None
    opted_out: Number | None
    excluded: Number | None
    immature: Number | None
    without_label: Number | None
    incomplete: Number | None
    held_out: Number | None


class Attestation(Signed):
    """What a check of the hospital's data against a contract found, under the site's key. Numbers are coarse.

    `source` is the kind of source, such as fhir. `patients` are those for training, in tens, rounded down; None: they
    are withheld, and so are `coverage`, which is empty then, and `flow`. `flow` are the others, where the hospital's
    policy says so.
    """

    TYPE: ClassVar[str] = "application/vnd.consilium.attestation+json"
    site: Name
    study: Name
    plan: Hash
    contract: Hash
    source: Name
    passed: bool
    patients: Number | None
    coverage: tuple[Coverage, ...] = Field(max_length=10_001)
    findings: tuple[Found, ...] = Field(max_length=100_000)
    flow: Flow | None = None
    at: AwareDatetime


Tens = Annotated[int, Field(ge=10, lt=2**31, multiple_of=10)]
Hundredths = Annotated[int, Field(ge=0, le=100)]


class Rounded(Message):
    """What a model is worth, in hundredths; no mean over patients, which some would have to leave out."""

    auroc: Hundredths


class Figures(Signed):
    """What a run's final model is worth at this hospital alone, on its held-out patients; or why that is not told.

    Said once for each run. Only `told` has numbers: patients of each class in tens, rounded down, the common model,
    the hospital's own, where it trained one, and the personal one, where the strategy gives each hospital its own. A
    message with a number that is not rounded is none of this type.
    """

    TYPE: ClassVar[str] = "application/vnd.consilium.figures+json"
    site: Name
    study: Name
    run: Name
    plan: Hash
    state: Hash = Field(description="the final state of the run, as the site computed it")
    word: Literal["told", "withheld", "too few"]
    positives: Tens | None = None
    negatives: Tens | None = None
    common: Rounded | None = None
    own: Rounded | None = None
    personal: Rounded | None = None

    @model_validator(mode="after")
    def _as_said(self) -> "Figures":
        numbers = (self.positives, self.negatives, self.common)
        if self.word == "told" and None in numbers:
            raise ValueError("figures that are told have numbers of both classes, and the common model")
        if self.word != "told" and (*numbers, self.own, self.personal) != (None,) * 5:
            raise ValueError("figures that are not told have no numbers")
        return self


SITE_MESSAGES: dict[str, type[Signed]] = {
    m.TYPE: m for m in (Answer, Step, Refusal, Decision, Attestation, Figures, Checkpoint, Alarm)
}
INBOX_MESSAGES: dict[str, type[Signed]] = {m.TYPE: m for m in (Offer, Task, Closed, Ended, Checkpoint, Reopened)}
