"""Laws of a Store of blobs. `Make` opens the same, at first empty, store again and again: what is durable stays."""

from collections.abc import Callable

from consilium.core.errors import Conflict, ConsiliumError, DigestMismatch, NotFound, TooLarge
from consilium.core.ids import Digest, digest
from consilium.store.blobs import Store, Stored

Make = Callable[[], Store]
DATA = bytes(range(256)) * 40
NAME = digest(DATA)


def _refused(kind: type[ConsiliumError], act: Callable[[], object]) -> None:
    try:
        act()
    except kind:
        return
    raise AssertionError(f"this was not refused as {kind.code}")


def _send(store: Store, sender: str, name: Digest, data: bytes, start: int, end: int) -> Stored | None:
    with store.append(sender, name, start, len(data)) as write:
        write(data[start:end])
    return store.complete(sender, name)


def knows_what_it_does_not_have(make: Make) -> None:
    """A blob that nobody has sent is NotFound, and its upload stands at 0."""
    _refused(NotFound, lambda: make().path(NAME))
    assert make().offset("site:a", NAME) == 0


def keeps_what_it_makes(make: Make) -> None:
    """What is made is there, whole, under the digest that writing gave; also when the store is opened anew."""

    def write(file: object) -> tuple[Digest, int]:
        file.write(DATA)  # type: ignore[attr-defined]
        return NAME, len(DATA)

    assert make().make(write) == make().make(write) == Stored(NAME, len(DATA))
    assert make().path(NAME).read_bytes() == DATA


def keeps_nothing_of_what_failed(make: Make) -> None:
    """Where writing fails, there is no blob, and the error reaches the caller."""

    def write(file: object) -> tuple[Digest, int]:
        file.write(DATA[:100])  # type: ignore[attr-defined]
        raise NotFound("it failed half-way")

    _refused(NotFound, lambda: make().make(write))
    _refused(NotFound, lambda: make().path(NAME))


def takes_pieces_across_restarts(make: Make) -> None:
    """An upload goes on where it stood, also after a restart; the blob appears with its last byte and not before."""
    half = len(DATA) // 2
    assert _send(make(), "site:a", NAME, DATA, 0, half) is None
    assert make().offset("site:a", NAME) == half
    _refused(NotFound, lambda: make().path(NAME))
    assert _send(make(), "site:a", NAME, DATA, half, len(DATA)) == Stored(NAME, len(DATA))
    assert make().path(NAME).read_bytes() == DATA


def keeps_senders_apart(make: Make) -> None:
    """Nobody goes on with, or learns of, what another has begun to send."""
    store = make()
    _send(store, "site:a", NAME, DATA, 0, 100)
    assert (store.offset("site:a", NAME), store.offset("site:b", NAME)) == (100, 0)
    assert _send(store, "site:b", NAME, DATA, 0, len(DATA)) == Stored(NAME, len(DATA))


def refuses_a_wrong_offset(make: Make) -> None:
    """Bytes that do not follow from what is there are a Conflict; the upload stands where it stood."""
    store = make()
    _send(store, "site:a", NAME, DATA, 0, 100)
    for start in (0, 99, 101, len(DATA)):
        _refused(Conflict, lambda at=start: _send(store, "site:a", NAME, DATA, at, at + 1))  # type: ignore[misc]
    assert store.offset("site:a", NAME) == 100


def refuses_more_than_was_announced(make: Make) -> None:
    """More bytes than announced are TooLarge."""
    store = make()

    def send() -> None:
        with store.append("site:a", NAME, 0, 10) as write:
            write(DATA[:11])

    _refused(TooLarge, send)


def refuses_bytes_that_are_not_their_name(make: Make) -> None:
    """Bytes of another digest are a DigestMismatch; they are dropped, and the right ones can be sent."""
    store = make()
    wrong = DATA[:-1] + b"?"
    _refused(DigestMismatch, lambda: _send(store, "site:a", NAME, wrong, 0, len(wrong)))
    _refused(NotFound, lambda: store.path(NAME))
    assert store.offset("site:a", NAME) == 0
    assert _send(store, "site:a", NAME, DATA, 0, len(DATA)) == Stored(NAME, len(DATA))


def leaves_an_upload_to_the_newest_request(make: Make) -> None:
    """What an older one still has, which came to another process, is a Conflict: during the upload and after it."""
    half, processes = len(DATA) // 2, (make(), make())
    for older, newer in (processes, processes[::-1]):
        with older.append("site:a", NAME, 0, len(DATA)) as late:
            assert _send(newer, "site:a", NAME, DATA, 0, half) is None
            _refused(Conflict, lambda late=late: late(DATA))  # type: ignore[misc]
            assert newer.offset("site:a", NAME) == older.offset("site:a", NAME) == half
            assert _send(newer, "site:a", NAME, DATA, half, len(DATA)) == Stored(NAME, len(DATA))
            _refused(Conflict, lambda late=late: late(b"?"))  # type: ignore[misc]
        assert older.complete("site:a", NAME) is None or older.path(NAME).read_bytes() == DATA
        assert newer.path(NAME).read_bytes() == DATA


LAWS: tuple[Callable[[Make], None], ...] = (
    knows_what_it_does_not_have, keeps_what_it_makes, keeps_nothing_of_what_failed, takes_pieces_across_restarts,
    keeps_senders_apart, refuses_a_wrong_offset, refuses_more_than_was_announced,
    refuses_bytes_that_are_not_their_name, leaves_an_upload_to_the_newest_request,
)  # fmt: skip
