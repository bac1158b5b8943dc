"""Who holds a run directory: a lock that a search keeps as long as its process lives.

Where locks do not reach other machines, the holder's heartbeat tells: it touches the file. A holder that ends in order
leaves the file empty, one that was killed leaves its machine's name there.
"""

import fcntl
import os
import socket
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO

BEAT, SILENCE = 60.0, 600.0
"""Seconds between two heartbeats, and after which a holder on another machine counts as dead."""
PATIENCE = 1.0  # seconds: whoever looks at the lock holds it for a moment


class Taken(Exception):
    """Another process holds the directory."""


class Lease:
    """The lock of a run directory."""

    def __init__(self, directory: Path):
        self.path = directory / "lock"
        self._file: IO[bytes] | None = None
        self._released = threading.Event()

    def claim(self) -> None:
        """Hold it until `release`, or until this process ends.

        Raises:
            Taken: another process does.
            OSError: the file cannot be written.
        """
        file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (open as long as the search runs)
        until = time.monotonic() + PATIENCE
        while not _lock(file, fcntl.LOCK_EX):
            if time.monotonic() > until:
                file.close()
                raise Taken
            time.sleep(PATIENCE / 20)
        self._file = file
        file.truncate(0)
        file.write(f"{socket.gethostname()}\n".encode())
        threading.Thread(target=_beat, args=(weakref.ref(self), self._released), daemon=True).start()

    def release(self) -> None:
        """Let others in."""
        if self._file is not None:
            self._released.set()
            self._released = threading.Event()
            with suppress(OSError):
                self._file.truncate(0)
            self._file.close()
            self._file = None

    @property
    def held(self) -> bool:
        """Whether a process holds it now, as far as this machine can tell."""
        try:
            with open(self.path, "rb") as file:
                if not _lock(file, fcntl.LOCK_SH):
                    return True
                host = file.read(1000).decode(errors="replace").strip()
                silent = abs(time.time() - os.fstat(file.fileno()).st_mtime)
        except OSError:
            return False
        return host not in ("", socket.gethostname()) and silent < SILENCE

    @property
    def abandoned(self) -> bool:
        """Whether the last holder ended without releasing it."""
        return not self.held and self.path.exists() and self.path.stat().st_size > 0

    def touch(self) -> None:
        """One heartbeat."""
        if self._file is not None:
            with suppress(OSError):
                os.utime(self._file.fileno())


def _beat(lease: "weakref.ref[Lease]", released: threading.Event) -> None:
    """Touch the file of a lease, as long as there is one."""
    while not released.wait(BEAT):
        if (held := lease()) is None:
            return
        held.touch()
        del held


def _lock(file: IO[bytes], kind: int) -> bool:
    """Whether the lock could be had; a file system without locks keeps nobody out."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
