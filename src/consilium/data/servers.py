"""What a mapping says of a server: who asks, what is asked for, how long, and how old what is here may be."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from consilium.data.part import Part

ResourceType = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]{1,63}$")]
Host = Annotated[str, Field(pattern=r"^[a-z0-9.-]{1,253}$")]


class SmartPart(Part):
    """SMART Backend Services: a short-lived token for an assertion that the hospital's key signs (RFC 7523)."""

    client_id: str = Field(min_length=1, description="name by which the server knows this client")
    key: str = Field(description="file of the private key (PEM, or JWK), relative to the mapping; for its owner alone")
    kid: str | None = Field(None, description="name of the key, as it was registered; of a JWK its own")
    algorithm: Literal["RS384", "ES384"] = Field("ES384", description="by which it signs")
    scope: str = Field("system/*.read", description="what it asks for, such as system/*.rs")
    token_url: str | None = Field(
        None, description="where tokens are given; none given: as .well-known/smart-configuration of the server says"
    )


class AccessPart(Part):
    """Who asks, and which CA is trusted beside those of the system and of SSL_CERT_FILE."""

    ca: str | None = Field(None, description="PEM file of the hospital's CA, relative to the mapping")
    user: str | None = Field(None, description="name, with `password`")
    password: str | None = Field(None, description="as ${NAME}: it is taken from the environment", repr=False)
    bearer: str | None = Field(None, description="token, as ${NAME}: it is taken from the environment", repr=False)
    smart: SmartPart | None = Field(None, description="SMART Backend Services")

    @model_validator(mode="after")
    def _one_way(self) -> "AccessPart":
        if (self.user is None) != (self.password is None):
            raise ValueError("`user` and `password` go together")
        if sum(one is not None for one in (self.user, self.bearer, self.smart)) > 1:
            raise ValueError("give `user` and `password`, or `bearer`, or `smart`")
        return self


Flaw = Literal[
    "burned-in", "frames", "photometric", "pixels", "size", "spacing", "view", "orientation", "rescale", "patient"
]
"""What an image of the right modality may have that the contract does not allow."""


class ServerPart(Part):
    """How a server is asked."""

    fresh_h: float = Field(24.0, ge=0, le=8760, description="hours for which what was fetched is used as it is")
    time_limit_s: float = Field(3600.0, gt=0, le=7 * 86_400, description="seconds after which fetching is given up")
    hosts: tuple[Host, ...] = Field((), description="other hosts of the hospital to which the server may refer")
    access: AccessPart = Field(AccessPart(), description="who asks")


class FhirPart(ServerPart):
    """A FHIR server: resources of the types that the views are of, by Bulk Data export or by search."""

    read: Literal["bulk", "search"] = Field(description="bulk: `$export` (NDJSON); search: REST, page by page")
    level: Literal["patient", "system"] = Field("patient", description="bulk: of all patients, or of the whole system")
    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,64}$")] | None = Field(
        None, description="bulk: id of the Group whose patients are exported, in place of `level`"
    )
    filters: dict[ResourceType, str] = Field(
        {}, description="per type a search such as `code=http://loinc.org|2160-0`; bulk: `_typeFilter`"
    )
    incremental: bool = Field(
        False,
        description="bulk: later exports bring what changed (`_since`) and what was deleted; only where the server "
        "reports deletions, and without `group` and `filters`. search: later ones bring what changed (`_lastUpdated`), "
        "and all of it where the server's count tells that something was deleted, or it does not count; all of it "
        "beside an opt-out list, too",
    )
    page: int = Field(500, ge=1, le=10_000, description="search: resources that are asked for at once")

    @model_validator(mode="after")
    def _fits(self) -> "FhirPart":
        if self.read == "search" and self.group is not None:
            raise ValueError("`group` belongs to read bulk")
        if self.read == "search" and self.incremental and any("include" in words for words in self.filters.values()):
            raise ValueError("`incremental` goes without `_include`: of what is included nobody knows what changed")
        if self.read == "bulk" and self.incremental and (self.group is not None or self.filters):
            raise ValueError(
                "`incremental` goes without `group` and `filters`: what no longer fits them is not reported as deleted"
            )
        return self
