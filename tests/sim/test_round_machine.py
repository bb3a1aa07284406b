"""Runs under faults: messages come late, twice or in any order, effects are performed again, the process dies.

A story is a plain list of operations, drawn from a seed; one that ever failed is kept below as it stands. With
deadlines far beyond the run, every story ends in the state of an undisturbed run.
"""

import random
from dataclasses import asdict, dataclass, field

import pytest

from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core.errors import ConsiliumError
from consilium.core.ids import COORDINATOR, SiteId, canonical, digest
from consilium.core.round import Phase
from consilium.store.eventlog import decode

Sent = tuple[int, runs.RunEvent]
"""The round in which it was sent, and the event."""
SITES = tuple(SiteId(name) for name in "abcd")
ROUNDS, QUORUM = 3, 3
OPERATIONS = ("deliver 0", "deliver 1", "deliver 2", "repeat 0", "repeat 1", "perform", "again", "crash", "stale")
KEPT: list[list[str]] = [
    ["crash", "crash", "perform", "again", "again"],
    ["deliver 0", "repeat 0", "crash", "repeat 0", "deliver 1", "crash", "deliver 2", "again", "stale"],
]


@dataclass
class World:
    """A coordinator with its stored log, what is due, and what is under way from the sites."""

    log: list[tuple[str, str]] = field(default_factory=list)
    run: runs.Run = field(default_factory=lambda: runs.Run(ROUNDS, QUORUM))
    under_way: list[Sent] = field(default_factory=list)
    delivered: list[Sent] = field(default_factory=list)
    performed: list[Sent] = field(default_factory=list)

    def take(self, sent: Sent) -> None:
        """Commit an event, or refuse it; what follows from it comes under way."""
        number, event = sent
        if isinstance(event, machine.Answered) and number != self.run.number:
            return  # an answer names its round: ingest refuses one of another round before the machine sees it
        try:
            after, effects = runs.step(self.run, event)
        except ConsiliumError:
            return
        if after != self.run:
            self.log.append((type(event).__name__, canonical(asdict(event)).decode()))
        self.run = after
        for effect in effects:
            if isinstance(effect, machine.Ask) and effect.phase is Phase.SUBMIT:
                answers = [(self.run.number, self.answer(site)) for site in sorted(effect.roster)]
                self.under_way += [one for one in answers if one not in self.under_way]

    def answer(self, site: SiteId) -> machine.Answered:
        """What a site sends: its bytes follow from the state, the round and the site."""
        told = f"{self.run.state} {self.run.number} {site}"
        return machine.Answered(site, Phase.SUBMIT, digest(told.encode()))

    def due(self) -> Sent | None:
        """The effect that is due, computed from the stored run alone, as the driver does."""
        if self.run.following is not None:
            return self.run.number, runs.Opened(*self.run.following, SITES, self.run.attempt + 1)
        if self.run.round is not None and self.run.round.phase is Phase.APPLY:
            answers = sorted(self.run.round.answered(Phase.SUBMIT).items())
            return self.run.number, machine.Answered(COORDINATOR, Phase.APPLY, digest(repr(answers).encode()))
        return None

    def crash(self) -> None:
        """The process dies: what is not in the log is gone, and the run is folded anew."""
        self.run = runs.Run(ROUNDS, QUORUM)
        for kind, body in self.log:
            self.run, _ = runs.step(self.run, decode(kind, body))

    def do(self, operation: str) -> None:
        """One operation; one that has nothing to act on does nothing."""
        word, _, which = operation.partition(" ")
        match word:
            case "deliver" | "repeat" if int(which) < len(self.under_way):
                message = self.under_way[int(which)]
                if word == "deliver":
                    self.under_way.remove(message)
                self.delivered.append(message)
                self.take(message)
            case "perform" if (due := self.due()) is not None:
                self.performed.append(due)
                self.take(due)
            case "again" if self.performed:
                self.take(self.performed[-1])
            case "stale" if self.delivered:
                self.take(self.delivered[0])
            case "crash":
                before = self.run
                self.crash()
                assert self.run == before, "a replay gives the same run"


def play(story: list[str]) -> World:
    """A story, and then whatever is left in order until the run is over."""
    world = World()
    for operation in story:
        world.do(operation)
    for _ in range(100):
        world.do("deliver 0")
        world.do("perform")
    return world


def drawn(seed: int) -> list[str]:
    return random.Random(seed).choices(OPERATIONS, k=60)


def test_an_undisturbed_run_ends() -> None:
    world = play([])
    assert world.run.status is runs.Status.FINISHED and set(world.run.took_part) == {1, 2, 3, 4}


@pytest.mark.parametrize("story", [*KEPT, *(drawn(seed) for seed in range(300))], ids=lambda story: story[0])
def test_every_story_ends_in_the_state_of_an_undisturbed_run(story: list[str]) -> None:
    world, undisturbed = play(story), play([])
    assert world.run.status is runs.Status.FINISHED, story
    assert world.run.state == undisturbed.run.state and world.run.took_part == undisturbed.run.took_part, story
    kinds = [kind for kind, _ in world.log]
    assert kinds.count("Opened") == ROUNDS + 1 and kinds.count("Answered") == (ROUNDS + 1) * (len(SITES) + 1), (
        "no effect is performed twice, and no answer counted twice"
    )
