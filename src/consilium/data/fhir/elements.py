"""Elements that may have one of several types, `value[x]`: in JSON each type has its own name, such as valueString.

Source: the definitions of FHIR R4 (4.0.1) and R5 (5.0.0), https://hl7.org/fhir (CC0): all of a name together.
"""

import difflib

OPEN = """
    Address Age Annotation Attachment Availability Base64Binary Boolean Canonical Code CodeableConcept
    CodeableReference Coding ContactDetail ContactPoint Contributor Count DataRequirement Date DateTime Decimal
    Distance Dosage Duration Expression ExtendedContactDetail HumanName Id Identifier Instant Integer Integer64
    Markdown Meta Money Oid ParameterDefinition Period PositiveInt Quantity Range Ratio RatioRange Reference
    RelatedArtifact SampledData Signature String Time Timing TriggerDefinition UnsignedInt Uri Url UsageContext Uuid
"""
NAMED = """
    abatement: Age DateTime Period Range String
    actor: Canonical Reference
    additive: CodeableConcept Reference
    address: ContactPoint ExtendedContactDetail String Url
    age: Age CodeableConcept Range String
    allowed: Boolean CodeableConcept Money String UnsignedInt
    amount: Quantity Range Ratio String
    answer: Boolean Coding Date DateTime Decimal Integer Quantity Reference String Time
    artifact: Canonical Reference Uri
    asNeeded: Boolean CodeableConcept
    author: Reference String
    born: Date Period String
    bounds: Duration Period Range
    characteristic: CodeableConcept Quantity
    chargeItem: CodeableConcept Reference
    citeAs: Markdown Reference
    code: CodeableConcept Reference
    collected: DateTime Period
    concentration: CodeableConcept Quantity Ratio RatioRange
    content: Attachment CodeableConcept Reference String
    cost: CodeableConcept Money
    coverage: Period Timing
    created: DateTime Period
    date: DateTime Period
    deceased: Age Boolean Date DateTime Range String
    definingSubstance: CodeableConcept Reference
    definition: Canonical CodeableConcept DataRequirement Expression Reference TriggerDefinition Uri
    detail: Boolean CodeableConcept Integer Quantity Range Ratio String
    diagnosis: CodeableConcept Reference
    dose: Quantity Range
    doseNumber: PositiveInt String
    due: Date Duration
    duration: Quantity Range String
    effective: DateTime Instant Period Timing
    endpoint: Reference Url
    entity: CodeableConcept Reference
    event: Canonical CodeableConcept Coding DateTime Id Reference Uri
    fastingStatus: CodeableConcept Duration
    generatedBy: Identifier Reference
    identified: DateTime Period
    indication: CodeableConcept Reference
    instance: CodeableConcept Reference
    instances: Quantity Range
    instantiates: Canonical Reference
    instruction: Markdown Reference
    item: CodeableConcept Reference
    legallyBinding: Attachment Reference
    location: Address CodeableConcept Reference
    manufacturer: Reference String
    maxValue: Date DateTime Decimal Instant Integer Integer64 PositiveInt Quantity Time UnsignedInt
    measureScore: CodeableConcept DateTime Duration Period Quantity Range
    medication: CodeableConcept Reference
    minValue: Date DateTime Decimal Instant Integer Integer64 PositiveInt Quantity Time UnsignedInt
    minimumVolume: Quantity String
    module: Canonical CodeableConcept Uri
    multipleBirth: Boolean Integer
    name: Reference Url
    network: Reference String Uri
    occurence: DateTime Period Timing
    occurred: DateTime Period
    occurrence: Age DateTime Period Range String Timing
    offset: Duration Range
    onset: Age DateTime Period Range String
    participantEffective: DateTime Duration Period Timing
    performed: Age DateTime Period Range String
    period: Date Duration Period String
    presentation: CodeableConcept Quantity Ratio RatioRange
    probability: Decimal Range
    procedure: CodeableConcept Reference
    product: CodeableConcept Reference
    quantity: Quantity Range Ratio
    rate: Quantity Range Ratio
    reported: Boolean Reference
    scheduled: Period String Timing
    sequence: CodeableConcept Reference String
    seriesDoses: PositiveInt String
    serviced: Date Period
    source: Attachment Canonical Markdown Reference String Uri Url
    sourceScope: Canonical Uri
    start: CodeableConcept Date
    statusReason: CodeableConcept Reference
    strength: CodeableConcept Quantity Ratio RatioRange
    structureProfile: Canonical Uri
    studyEffective: DateTime Duration Period Timing
    subject: Canonical CodeableConcept Reference
    substance: CodeableConcept Reference
    substanceDefinition: CodeableConcept Reference
    target: Canonical Identifier Reference Uri
    targetItem: Identifier PositiveInt String
    targetScope: Canonical Uri
    time: DateTime Period
    timing: Age Date DateTime Duration Period Range Reference Timing
    topic: CodeableConcept Reference
    used: Money String UnsignedInt
    versionAlgorithm: Coding String
    when: DateTime Period Range
"""


def _keys(name: str, types: str) -> tuple[str, ...]:
    return tuple(name + kind for kind in types.split())


CHOICES: dict[str, tuple[str, ...]] = {
    **{name: _keys(name, types) for name, types in (line.strip().split(":") for line in NAMED.strip().splitlines())},
    **{name: _keys(name, OPEN) for name in ("value", "defaultValue", "fixed", "pattern", "example")},
}
"""By the name in a path: the names in JSON."""
SIMPLE = frozenset((
    "base64Binary", "boolean", "canonical", "code", "date", "dateTime", "decimal", "id", "instant", "integer",
    "integer64", "markdown", "oid", "positiveInt", "string", "time", "unsignedInt", "uri", "url", "uuid", "xhtml",
))  # fmt: skip
"""Types whose values are one text, number or boolean."""
TYPES = frozenset((*SIMPLE, *(name for name in OPEN.split() if name[0].lower() + name[1:] not in SIMPLE)))
"""Those, and of the others such as elements of any type may be; types of resources are not among them."""
NEAR = 0.85
"""So alike is a slip to what was meant; no type of R4 or R5 is so near to another."""
DATES = frozenset((
    "approvalDate", "birthDate", "excludingDate", "lastOccurrenceDate", "lastReviewDate", "lockedDate", "nextScheduled",
    "periodDate",
))  # fmt: skip
"""Elements that are a date wherever they stand; all others that hold a day may be a dateTime."""


def misspelt(name: str) -> str | None:
    """What to write for a name that is no type; None where it may be one, as of a resource.

    >>> misspelt("Quantiy"), misspelt("Medication"), misspelt("string")
    ('did you mean Quantity?', None, None)
    """
    near = difflib.get_close_matches(name, TYPES, n=1, cutoff=NEAR)
    if name in TYPES or (name[:1].isupper() and not near):
        return None
    return f"did you mean {near[0]}?" if near else f"such types are {', '.join(sorted(SIMPLE))}"
