"""What a training process and the process that gives it jobs say to each other, over one socket.

Jobs and verdicts go down to the training process pickled: they are the search's own. What comes up may stem from code
of the user's. It is JSON, one message a line, `[kind, ...]`: nothing of it is unpickled, and whoever reads it never
waits for the rest of a line.
"""

import json
import os
import pickle
import socket
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any


class Gone(Exception):
    """The other end is closed."""


class ParentEnd:
    """The end of the process that gives jobs."""

    def __init__(self, connected: socket.socket):
        self.socket, self._received = connected, bytearray()

    def send(self, content: Any) -> None:
        """Say something; without anyone who hears it, nothing happens."""
        with suppress(OSError):
            self.socket.sendall(pickle.dumps(content))

    def receive(self, timeout: float) -> list[Any] | None:
        """The next message, or None after `timeout` seconds without a whole one.

        Raises:
            Gone: there is none and will be none.
            ValueError: what came is no message.
        """
        if b"\n" not in self._received:
            if not wait([self.socket], timeout):
                return None
            self._take_in()
        line, newline, rest = self._received.partition(b"\n")
        if not newline:
            return None
        self._received = rest
        try:
            message = json.loads(line)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(message, list) or not message or not isinstance(message[0], str):
            raise ValueError("not a message")
        return message

    def close(self) -> None:
        self.socket.close()

    def _take_in(self) -> None:
        """Read what is there, up to the end of a line."""
        while True:
            try:
                part = self.socket.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                part = b""
            if not part:
                raise Gone
            self._received += part
            if b"\n" in part:
                return


class ChildEnd:
    """The end of the training process.

    Args:
        descriptor: of the socket, which processes that a trial starts do not inherit.
    """

    def __init__(self, descriptor: int):
        os.set_inheritable(descriptor, False)
        self._socket, self._process = socket.socket(fileno=descriptor), os.getpid()
        self._file = self._socket.makefile("rb")

    def send(self, kind: str, *content: Any) -> None:
        """Say something that JSON knows.

        Raises:
            Gone: no one hears it.
        """
        if os.getpid() != self._process:  # a copy that a trial forked and did not end
            os._exit(1)
        try:
            self._socket.sendall(json.dumps([kind, *content]).encode() + b"\n")
        except OSError:
            raise Gone from None

    def receive(self) -> Any:
        """What the other end said next.

        Raises:
            Gone: it is closed.
        """
        try:
            return pickle.load(self._file)
        except (EOFError, OSError):
            raise Gone from None


def pair() -> tuple[ParentEnd, socket.socket]:
    """Both ends; the second one is to be inherited by the training process."""
    own, other = socket.socketpair()
    return ParentEnd(own), other
