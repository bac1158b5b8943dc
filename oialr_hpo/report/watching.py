"""The page of a search, written anew while it runs."""

import time
from pathlib import Path

from oialr_hpo.report.write import write, write_page
from oialr_hpo.runs.directory import RunDirectory

PACE = 10.0
"""So much longer the trials have the processor to themselves than a page takes."""


def watch(run: RunDirectory, out: Path, every: float = 5.0) -> list[Path]:
    """Write the page whenever there is news, until no process runs the search any more; then the whole report.

    Args:
        out: where the files lie.
        every: so many seconds at least lie between two pages; the browser loads them as often.

    Returns:
        the files of the report.

    Raises:
        RunDirectoryError: `out` cannot be written.
    """
    seen: list[tuple[str, int]] | None = None
    while run.alive:
        began, news = time.monotonic(), _news(run)
        if news != seen:
            write_page(run, out, refresh=every)
            seen = news
        pause = max(every, PACE * (time.monotonic() - began))
        while pause > 0 and run.alive:
            time.sleep(min(1.0, every, pause))
            pause -= min(1.0, every, pause)
    return write(run, out)


def _news(run: RunDirectory) -> list[tuple[str, int]]:
    """What is different once a trial file has grown."""
    return [(file.name, file.stat().st_size) for file in run.trial_files()]
