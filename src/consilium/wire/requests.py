"""Plain requests and answers of the coordinator's port, as frozen models: what is asked outside of envelopes."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from consilium.wire.messages import Blob, Hash, Key, Long, Message, Name, Number, Seed, Short


class Hello(Message):
    """Who answers here, and which protocols it speaks."""

    name: str
    version: str
    protocols: tuple[int, ...]
    public_key: Key
    now: AwareDatetime


class Join(Message):
    """A site asks to join with a one-time token and its public key."""

    protocol: int
    token: Annotated[str, StringConstraints(min_length=16, max_length=200)]
    site: Name
    public_key: Key
    about: Long = ""


class Joined(Message):
    """The site is known; a person admits it after comparing the fingerprint."""

    site: Name
    state: Literal["pending", "admitted"]
    coordinator_key: Key


class AccessToken(Message):
    """A short-lived bearer token."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int


class InboxItem(Message):
    """One envelope for the site, in the order of `seq`."""

    seq: Number
    envelope: dict[str, Any]


class Said(Message):
    """Envelopes of what all sites answered in one phase of a round, by site."""

    steps: dict[Name, dict[str, Any]]


class Opening(Message):
    """What opened the sum of a round, so that every site can compute it anew from the masked vectors."""

    model_config = ConfigDict(val_json_bytes="base64", ser_json_bytes="base64")

    attempt: int = Field(ge=1, lt=2**31)
    own: dict[Name, Seed] = Field(description="by survivor: the seed of its own mask")
    pairs: dict[Name, dict[Name, Seed]] = Field(description="by survivor, by site that fell silent: the seed of both")
    vectors: dict[Name, Blob] = Field(description="the survivors' masked vectors")
    data: dict[Hash, bytes] = Field({}, description="the vectors' bytes, if they are small: base64, by digest")


class Inbox(Message):
    """What has arrived after the sequence number that was asked for."""

    model_config = ConfigDict(val_json_bytes="base64", ser_json_bytes="base64")

    items: tuple[InboxItem, ...]
    said: dict[Name, dict[str, Any]] = Field(
        {}, description="answers of the phase before the newest task's, if they are small: envelopes by site"
    )
    blobs: dict[Hash, bytes] = Field({}, description="small blobs that the newest task names: base64, by digest")
    opening: Opening | None = Field(
        None, description="what opened the sum that led to the newest task's state, if its vectors are small"
    )
    newest: Number | None = Field(None, description="newest message here, where that is an older one than was asked")


class Links(Message):
    """Digests of the entries of an audit log that follow `after`: what leads from one head of it to a later one."""

    after: Number
    links: tuple[Hash, ...]


class Left(Message):
    """What a site said in the rounds of training of one run, by the coordinator's record."""

    study: Name
    plan: Hash
    run: Name
    answers: tuple[tuple[Number, Number, Literal["SUBMIT", "READY", "MASK"], Hash], ...] = Field(
        description="round, attempt, phase; and the digest of the envelope, or of the contribution in SUBMIT"
    )


class Record(Message):
    """What the coordinator keeps of the site that asks: its newest checkpoints, and what it sent under a budget."""

    checkpoints: tuple[dict[str, Any], ...] = Field(description="envelopes of its own checkpoints, oldest first")
    sent: tuple[Left, ...] = Field(description="runs of studies with `epsilon`")


class Heartbeat(Message):
    """The site lives. Independent of training."""

    version: Short
    activity: Short = "idle"
    run: Name | None = None
    round: Number | None = None
    instance: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] | None = Field(
        None, description="number of this start of the agent: two that are heard in turn run at once"
    )


class Beaten(Message):
    """A heartbeat was heard. `twin`: another agent of the same site runs, too."""

    twin: bool = False


class Problem(Message):
    """An error on the wire."""

    code: Short
    message: Long
    remedy: Long = ""
    reason: Short = ""
