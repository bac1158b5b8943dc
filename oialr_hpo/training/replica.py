"""Which part a process has in a trial; without torch, so that the processes which only propose can say it."""

from typing import NamedTuple


class Replica(NamedTuple):
    """One of the processes that train one trial together.

    Attributes:
        rank: among them; the first one measures and writes.
        size: their number.
        host, port: where the first one listens.
        listener: the first one's listening socket, a file descriptor.
        key: tells this trial from those before it at the same address.
    """

    rank: int
    size: int
    host: str
    port: int
    listener: int | None
    key: str
