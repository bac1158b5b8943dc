"""The files of a report."""

from pathlib import Path

from oialr_hpo.files import write_whole
from oialr_hpo.report import charts, page, pictures, trial_figures
from oialr_hpo.report.facts import Facts
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError


def write(run: RunDirectory, out: Path | None = None) -> list[Path]:
    """Write `report.html`, and its charts as PNG files into `figures/`.

    Raises:
        RunDirectoryError: `out` cannot be written.
    """
    out = out or run.path
    facts = Facts(run)
    drawn = charts.draw(facts)
    folder = out / "figures"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(out / "report.html", page.render(facts, drawn))
        paths = [out / "report.html"]
        for chart in drawn:
            if chart.figure is not None and chart.name != "ranks":
                paths.append(folder / f"{chart.name}.png")
                pictures.draw(chart.figure, chart.title).savefig(paths[-1], dpi=150)
    except OSError as error:
        raise RunDirectoryError(f"{out} cannot be written: {error.strerror}; choose another --out") from None
    for trial in facts.winners:
        try:
            paths += trial_figures.write(run, trial.number, folder)
        except trial_figures.NothingRecorded:
            continue
    return paths
