"""The error tree. Each class has a stable code, and each message says what, where and what to do next.

::

    ConsiliumError
    ├── Invalid               what was given cannot be accepted as it is
    │   ├── StudyInvalid      a study file
    │   ├── MappingInvalid    a hospital's mapping
    │   ├── ViewInvalid       a view definition
    │   ├── PolicyInvalid     a hospital's policy
    │   ├── EnvelopeInvalid   a signed message
    │   ├── AuditBroken       an audit log that was altered
    │   └── DigestMismatch    bytes that are not what their name says
    ├── Refused               allowed to no one, or not to you; `reason` is a stable code
    ├── Unauthenticated       who asks is not known
    │   └── Removed           a hospital that was removed from the federation
    ├── NotFound
    ├── Conflict              it does not fit the present state
    │   ├── OutOfPhase        the phase is over, or has not begun
    │   ├── UnknownSite       the site was not asked
    │   └── Equivocation      other bytes than before
    ├── TooLarge
    │   └── OverQuota         more than this sender may keep here
    ├── ProtocolMismatch      two releases that do not understand each other
    ├── Unavailable           network or process out of reach; trying again is right
    ├── DataUnusable          a data source cannot serve the study
    └── TrainingFailed        the child process could not train

An error never carries patient data and never asks anyone to delete any.
"""

from typing import ClassVar

EXTRA = "pip install -c constraints.txt '.[{}]' in Consilium's folder"
"""The remedy where an extra of this name is missing."""


class ConsiliumError(Exception):
    """What went wrong (`message`), and what to do next (`remedy`)."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class Invalid(ConsiliumError):
    """What was given cannot be accepted as it is."""

    code = "invalid"


class StudyInvalid(Invalid):
    """A study file breaks a rule of its format."""

    code = "study-invalid"


class MappingInvalid(Invalid):
    """A hospital's mapping breaks a rule of its format or does not fit the contract."""

    code = "mapping-invalid"


class ViewInvalid(Invalid):
    """A view definition (SQL on FHIR v2) breaks a rule of its format, or asks for what lies outside of the subset."""

    code = "view-invalid"


class PolicyInvalid(Invalid):
    """A hospital's policy file breaks a rule of its format."""

    code = "policy-invalid"


class EnvelopeInvalid(Invalid):
    """A signed message is malformed, or its signature is not by a known key."""

    code = "envelope-invalid"


class AuditBroken(Invalid):
    """An audit log was edited, shortened or reordered."""

    code = "audit-broken"


class DigestMismatch(Invalid):
    """Bytes are not what their name says."""

    code = "digest-mismatch"


class Refused(ConsiliumError):
    """A rule forbids it; `reason` is a stable code that reaches the study's owner."""

    code = "refused"

    def __init__(self, message: str, remedy: str = "", *, reason: str = "refused") -> None:
        super().__init__(message, remedy)
        self.reason = reason


class Unauthenticated(ConsiliumError):
    """Who asks is not known."""

    code = "unauthenticated"


class Removed(Unauthenticated):
    """The coordinator's administrator has removed this hospital: asking again soon is of no use."""

    code = "removed"


class NotFound(ConsiliumError):
    """There is no such thing, or it is not yours to see."""

    code = "not-found"


class Conflict(ConsiliumError):
    """The request does not fit the present state."""

    code = "conflict"


class OutOfPhase(Conflict):
    """The phase is over, or has not begun."""

    code = "out-of-phase"


class UnknownSite(Conflict):
    """The site was not asked in this round."""

    code = "unknown-site"


class Equivocation(Conflict):
    """A site answered before, with other bytes."""

    code = "equivocation"


class TooLarge(ConsiliumError):
    """More bytes than the limit allows."""

    code = "too-large"


class OverQuota(TooLarge):
    """More bytes than this sender may keep here."""

    code = "quota"


class ProtocolMismatch(ConsiliumError):
    """Two releases do not understand each other."""

    code = "protocol-mismatch"


class Unavailable(ConsiliumError):
    """The network or a process is out of reach; trying again is right."""

    code = "unavailable"


class DataUnusable(ConsiliumError):
    """A data source cannot serve the study.

    `which`: names of what it is about, as of files. They may tell of patients: they are in no message, and are shown on
    the hospital's own terminal alone.
    """

    code = "data-unusable"

    def __init__(self, message: str, remedy: str = "", *, which: tuple[str, ...] = ()) -> None:
        super().__init__(message, remedy)
        self.which = which


class TrainingFailed(ConsiliumError):
    """The child process could not train."""

    code = "training-failed"


def every() -> dict[str, type[ConsiliumError]]:
    """All error classes by their code, for the wire and the documentation."""
    found: dict[str, type[ConsiliumError]] = {}
    todo: list[type[ConsiliumError]] = [ConsiliumError]
    while todo:
        cls = todo.pop()
        if "code" in vars(cls):  # a finer class without a code of its own stays what its parent is on the wire
            found[cls.code] = cls
        todo.extend(cls.__subclasses__())
    return found
