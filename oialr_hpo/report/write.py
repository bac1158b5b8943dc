"""The files of a report."""

from pathlib import Path

from oialr_hpo.files import write_whole
from oialr_hpo.report import charts, page, pictures, trial_figures
from oialr_hpo.report.course import Course
from oialr_hpo.report.facts import Facts
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError


def write_page(
    run: RunDirectory, out: Path, refresh: float | None = None
) -> tuple[list[Path], Facts, list[charts.Chart]]:
    """Write `report.html`, which a browser loads anew after `refresh` seconds, and give what it shows.

    Raises:
        RunDirectoryError: `out` cannot be written.
    """
    facts = Facts(run, out)
    drawn = charts.draw(facts)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "report.html", page.render(facts, drawn, refresh))
    except OSError as error:
        raise RunDirectoryError(f"{out} cannot be written: {error.strerror}; choose another --out") from None
    return [out / "report.html"], facts, drawn


def write(run: RunDirectory, out: Path | None = None) -> list[Path]:
    """Write `report.html`, and its charts as PNG files into `figures/`.

    Raises:
        RunDirectoryError: `out` cannot be written.
    """
    out = out or run.path
    folder = out / "figures"
    paths, facts, drawn = write_page(run, out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for chart in drawn:
            if chart.figure is not None and chart.name != "ranks":
                paths.append(folder / f"{chart.name}.png")
                pictures.draw(chart.figure, chart.title).savefig(paths[-1], dpi=150)
    except OSError as error:
        raise RunDirectoryError(f"{out} cannot be written: {error.strerror}; choose another --out") from None
    for trial in facts.winners:
        try:
            paths += trial_figures.write(Course(run, trial), folder)
        except trial_figures.NothingRecorded:
            continue
    return paths
