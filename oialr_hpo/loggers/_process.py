"""The process in which the loggers live: `python -m oialr_hpo.loggers._process RUN`; it ends when its input does.

Its output is a file, which also gets what loggers print; its errors go where the search's do, and are warnings alone.
"""

import fcntl
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

from oialr_hpo.loggers import load
from oialr_hpo.loggers._following import Following
from oialr_hpo.runs.directory import RunDirectory

POLL_SECONDS = 1.0
"""Between looks at the trial files."""


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the search decides when it is over
    heard = open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 (open to the end)
    os.dup2(1, 2)
    with suppress(OSError):  # wait for that of a search which was killed just before
        fcntl.flock(1, fcntl.LOCK_EX)

    def warn(line: str) -> None:
        with suppress(OSError):
            print(f"warning: {line}", file=heard, flush=True)

    run = RunDirectory(Path(sys.argv[1]))
    following = Following(run, load(run.experiment.loggers), warn)
    while not select.select([0], [], [], POLL_SECONDS)[0]:
        following.poll()
    following.end()


if __name__ == "__main__":
    main()
