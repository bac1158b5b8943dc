"""The process of a search's loggers, seen from the search: it reads the trial files and ends with the search."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from oialr_hpo.engines.process import child_environment
from oialr_hpo.mistake import reason
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.printing import say

ENDING_SECONDS = 30.0
"""What the loggers have to tell the last news, and to send it away."""


@contextmanager
def listening(run: RunDirectory) -> Iterator[None]:
    """Let the loggers that an experiment names hear of its search; what becomes of them is a warning at most."""
    if not run.experiment.loggers:
        yield
        return
    log = run.path / "logs" / "loggers.log"
    try:
        log.parent.mkdir(exist_ok=True)
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "oialr_hpo.loggers._process", str(run.path.absolute())],
                env=child_environment(),
                stdin=subprocess.PIPE,
                stdout=output,
                start_new_session=True,  # signals to the search are not for them
            )
    except OSError as error:
        say(f"warning: no process for the loggers: {reason(error)}; --resume tells them", "stderr")
        yield
        return
    try:
        yield
    finally:
        assert process.stdin
        process.stdin.close()
        try:
            if process.wait(ENDING_SECONDS):
                say(f"warning: the process of the loggers died; {log} has what it printed", "stderr")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            say(f"warning: the loggers took longer than {ENDING_SECONDS:.0f} s to end; see {log}", "stderr")
