"""Whether hospitals' data serve a simulation."""

from collections.abc import Iterator, Sized
from contextlib import contextmanager

from consilium.core.errors import ConsiliumError


@contextmanager
def of(site: str, among: Sized) -> Iterator[None]:
    """Errors say of which hospital they are, where there are several."""
    try:
        yield
    except ConsiliumError as error:
        if len(among) > 1:
            error.message = "\n".join(f"{site}: {line}" for line in error.message.splitlines())
            error.args = (error.message,)
        raise
