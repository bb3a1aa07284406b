"""The laws of a run: rounds follow one another, nothing is counted twice, and a replay gives the same run."""

from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core import round as machine
from consilium.core import run as runs
from consilium.core.errors import ConsiliumError
from consilium.core.ids import COORDINATOR, SiteId, digest
from consilium.core.round import Kind, Phase

SITES = tuple(SiteId(name) for name in "abcd")
BYTES = [digest(b"x"), digest(b"y")]

events: st.SearchStrategy[runs.RunEvent] = st.one_of(
    st.builds(
        runs.Opened,
        st.integers(1, 4),
        st.sampled_from(Kind),
        st.lists(st.sampled_from(SITES), min_size=1, unique=True).map(tuple),
        st.just(1),
    ),
    st.builds(machine.Answered, st.sampled_from([*SITES, COORDINATOR]), st.sampled_from(Phase), st.sampled_from(BYTES)),
    st.builds(machine.DeadlinePassed, st.sampled_from(Phase)),
    st.builds(machine.Cancelled, st.just("lost its quorum")),
    st.builds(machine.Withdrew, st.sampled_from(SITES), st.just("revoked")),
    st.builds(runs.Lacking, st.integers(0, 1)),
    st.builds(runs.Stopped, st.just("enough"), st.booleans()),
)


@settings(max_examples=2000, deadline=None)
@given(st.lists(events, max_size=40))
def test_laws_of_the_run(sequence: list[runs.RunEvent]) -> None:
    run, accepted = runs.Run(rounds=2, quorum=2), []
    for event in sequence:
        try:
            after, _ = runs.step(run, event)
        except ConsiliumError:
            continue
        accepted.append(event)
        assert after.number in (run.number, run.number + 1), "no round is skipped"
        assert run.took_part.items() <= after.took_part.items(), "what was done stays done"
        if run.status in runs.OVER:
            assert after == run, "a run that is over stays as it is"
        run = after
    replayed = runs.Run(rounds=2, quorum=2)
    for event in accepted:
        replayed, _ = runs.step(replayed, event)
    assert replayed == run, "state is a fold of the events"


def test_a_whole_run() -> None:
    run = runs.Run(rounds=2, quorum=2)
    for number, kind in ((1, Kind.TRAIN), (2, Kind.TRAIN), (3, Kind.EVALUATE)):
        assert run.following == (number, kind)
        run, _ = runs.step(run, runs.Opened(number, kind, SITES, 1))
        for site in SITES:
            run, _ = runs.step(run, machine.Answered(site, Phase.SUBMIT, BYTES[0]))
        run, effects = runs.step(run, machine.Answered(COORDINATOR, Phase.APPLY, BYTES[number % 2]))
        assert effects == [machine.Close(BYTES[number % 2])]
    assert run.status is runs.Status.FINISHED and run.following is None
    assert run.state == BYTES[0], "the evaluation does not move the state"
