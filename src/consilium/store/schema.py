"""The tables of the coordinator. Invariants stand here as constraints wherever the database can hold them."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

people = Table(
    "people",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("role", String(20), nullable=False),
    Column("password", Text, nullable=False),  # scrypt$salt$hash
    Column("since", DateTime(timezone=True), nullable=False),
)
sites = Table(
    "sites",
    metadata,
    Column("site", String(63), primary_key=True),
    Column("state", String(20), nullable=False),  # pending -> admitted -> removed
    Column("public_key", String(43), nullable=False, unique=True),
    Column("about", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False),
    Column("last_seen", Float, nullable=False),  # seconds since the epoch
    Column("activity", String(200), nullable=False),
)
join_tokens = Table(
    "join_tokens",
    metadata,
    Column("secret", String(64), primary_key=True),  # SHA-256 of the token
    Column("site", String(63), nullable=False),
    Column("expires", Float, nullable=False),
    Column("used", Float),
)
access_tokens = Table(
    "access_tokens",
    metadata,
    Column("secret", String(64), primary_key=True),  # SHA-256 of the token
    Column("subject", String(70), nullable=False),  # site:NAME or person:NAME
    Column("role", String(20), nullable=False),
    Column("expires", Float, nullable=False),
)
assertions = Table(
    "assertions",  # a private_key_jwt serves once
    metadata,
    Column("jti", String(64), primary_key=True),
    Column("expires", Float, nullable=False),
)
studies = Table(
    "studies",
    metadata,
    Column("study", String(63), primary_key=True),
    Column("plan", String(71), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("owner", String(63), nullable=False),
    Column("since", DateTime(timezone=True), nullable=False),
)
decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("sites.site"), nullable=False),
    Column("study", ForeignKey("studies.study"), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("digest", String(71), nullable=False, unique=True),  # of the envelope: the same decision twice is one
)
attestations = Table(
    "attestations",  # what sites found when they checked their data against a study's contract
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("sites.site"), nullable=False),
    Column("study", ForeignKey("studies.study"), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("digest", String(71), nullable=False, unique=True),  # of the envelope: the same one twice is one
    Index("attestations_study", "study", "site", "id"),
)
refusals = Table(
    "refusals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("sites.site"), nullable=False),
    Column("study", ForeignKey("studies.study"), nullable=False),
    Column("run", String(70)),
    Column("round", Integer),
    Column("reason", String(63), nullable=False),
    Column("among", Text),  # of sums over which sites, where it is about these: another set is another question
    Column("text", Text, nullable=False),
    Column("decision", Integer),  # id of the site's newest decision then: a later one puts the refusal behind
    Column("at", DateTime(timezone=True), nullable=False),
)
runs = Table(
    "runs",
    metadata,
    Column("run", String(70), primary_key=True),
    Column("study", ForeignKey("studies.study"), nullable=False),
    Column("version", Integer, nullable=False),  # = number of events; every write checks it
    Column("status", String(20), nullable=False),
)
events = Table(
    "events",
    metadata,
    Column("run", ForeignKey("runs.run"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("kind", String(30), nullable=False),
    Column("body", Text, nullable=False),
)
effects = Table(
    "effects",
    metadata,
    Column("key", String(160), primary_key=True),  # one effect is recorded once
    Column("run", ForeignKey("runs.run"), nullable=False),
    Column("kind", String(20), nullable=False),  # begin, apply, deadline
    Column("body", Text, nullable=False),
    Column("due", Float, nullable=False),
    Column("leased_by", String(64)),
    Column("leased_until", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("done", Float),
    Index("effects_open", "done", "due"),
)
results = Table(
    "results",
    metadata,
    Column("run", ForeignKey("runs.run"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("aggregate", String(71)),
    Column("state", String(71), nullable=False),
    Column("figures", Text, nullable=False),
    Column("performed_by", String(64), nullable=False),
)
inbox = Table(
    "inbox",
    metadata,
    Column("site", ForeignKey("sites.site"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("digest", String(71), nullable=False),  # of the payload: the next message names it
    Column("envelope", LargeBinary, nullable=False),
)
blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(71), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("data", LargeBinary),  # of a small blob, its bytes; a large one is a file
    Column("sender", String(70), nullable=False),  # whose quota it counts for; empty: made here
    Column("touched", Float, nullable=False),  # when it was last sent or asked for: see coordinator/retention.py
    Index("blobs_sender", "sender"),
)
grants = Table(
    "grants",  # who may read a blob: site:NAME and person:NAME (who sent it), study:NAME (all of the study)
    metadata,
    Column("digest", String(71), primary_key=True),
    Column("subject", String(70), primary_key=True),
)
contributions = Table(
    "contributions",
    metadata,
    Column("run", ForeignKey("runs.run"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("site", ForeignKey("sites.site"), primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Index("contributions_digest", "digest"),
)
steps = Table(
    "steps",  # what sites said in phases of agreeing on keys and of secure sums, relayed to the others
    metadata,
    Column("run", ForeignKey("runs.run"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("phase", String(10), primary_key=True),
    Column("site", ForeignKey("sites.site"), primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
)
openings = Table(
    "openings",  # what opened the sum of a round: every site checks the sum with it
    metadata,
    Column("run", ForeignKey("runs.run"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("body", Text, nullable=False),
)
told = Table(
    "told",  # at which models the sums of a round are; and over whom, from when on such a sum may be open
    metadata,
    Column("run", ForeignKey("runs.run"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("model", String(71), primary_key=True),
    Column("sites", Text),
    Index("told_model", "model"),
)
declarations = Table(
    "declarations",  # what a hospital told of itself alone, of a finished run: once
    metadata,
    Column("run", ForeignKey("runs.run"), primary_key=True),
    Column("site", ForeignKey("sites.site"), primary_key=True),
    Column("plan", String(71), nullable=False),
    Column("word", String(20), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("digest", String(71), nullable=False),
    Index("released_site", "site", "plan"),
)
audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("entry", LargeBinary, nullable=False),
)
checkpoints = Table(
    "checkpoints",  # of the sites' logs: all that they ever signed, two for one number where they signed two
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("sites.site"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("head", String(71), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("stands", Integer, nullable=False),  # 1: later ones must extend it
    UniqueConstraint("site", "seq", "head"),
)
agents = Table(
    "agents",  # starts of a site's agent: one that comes back after a newer one was heard runs beside it
    metadata,
    Column("site", ForeignKey("sites.site"), primary_key=True),
    Column("instance", String(16), primary_key=True),
    Column("since", Float, nullable=False),  # when it became the newest that was heard; in seconds since the epoch
    Column("returned", Float, nullable=False),  # when it last came back after another one
    Column("before", Float, nullable=False),  # and the time before that
)
alarms = Table(
    "alarms",  # what contradicts what was kept: of a site's log, or of ours, as the site says
    metadata,
    Column("id", Integer, primary_key=True),
    Column("site", ForeignKey("sites.site"), nullable=False),
    Column("of", String(63), nullable=False),  # whose record is contradicted: the site's name, or coordinator
    Column("why", String(63), nullable=False),
    Column("text", Text, nullable=False),
    Column("number", Integer, nullable=False),  # of the newest message that the site has taken, and its digest
    Column("last", String(71)),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("settled", String(63)),  # by whom
)
