"""Reports of real searches, in one process and with objectives without a network unless a test says otherwise."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import optuna
import pytest
from sqlalchemy.engine import URL

from oialr_hpo import search
from oialr_hpo.report import charts, page, pictures, study, study_file, watching
from oialr_hpo.report.__main__ import main
from oialr_hpo.report.facts import Facts
from oialr_hpo.report.look import styled
from oialr_hpo.report.write import write
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.files import RunDirectoryError
from oialr_hpo.runs.ranking import standings
from oialr_hpo.runs.trial import Role, State
from oialr_hpo.status import status

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
READER = """
<script>
addEventListener("load", async () => {
  const chart = document.getElementById("chart-progress"), table = document.querySelector("details");
  if (!sessionStorage.read) {
    sessionStorage.read = "once";
    await Plotly.relayout(chart, {"xaxis.range[0]": 0.25, "xaxis.range[1]": 0.5});
    await Plotly.restyle(chart, {visible: ["legendonly"]}, [1]);
    table.open = true;
    scrollTo(0, 700);
    location.reload();
  } else
    document.body.dataset.kept = [...chart.layout.xaxis.range, chart.data[1].visible, table.open, scrollY].join(" ");
});
</script>
"""
"""Zooms, hides, opens and scrolls, loads the page anew, and says what became of it."""
ALL = ["progress", "pareto", "importance", "parallel", "slices", "ranks", "schedule", "timeline", "stopped", "failures"]
KINDS = {
    "full": ("tests.objectives:eventful", ["trials=24", "score.trainable_weight=0.1"], set()),
    "choices": ("tests.objectives:eventful", ["trials=12", "search.oialr.keep_first={choices: [false, true]}"], set()),
    "two goals": ("tests.objectives:eventful", ["trials=16", "score={minimize: [error, trainable_percent]}"], set()),
    "constrained": ("tests.objectives:eventful", ["trials=10", "constraints={trainable_percent: {max: 20}}"], set()),
    "without early stopping": (
        "tests.objectives:bowl",
        ["trials=6", "early_stopping.enabled=false"],
        {"stopped", "failures", "ranks", "schedule"},
    ),
    "one trial": (
        "tests.objectives:bowl",
        ["trials=1", "dense_baseline=false"],
        set(ALL) - {"progress", "pareto", "slices", "timeline"},
    ),
    "dense only": ("tests.objectives:bowl", ["trials=1"], set(ALL) - {"timeline"}),
    "failures only": ("tests.objectives:fails", ["trials=9"], set(ALL) - {"timeline", "failures"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return run("full", tmp_path_factory.mktemp("runs") / "full")


@pytest.fixture(scope="module")
def written(full: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write(full, tmp_path_factory.mktemp("report"))


def run(kind: str, out: Path) -> RunDirectory:
    objective, changes, _ = KINDS[kind]
    return search.run("vit_digits", changes=changes, out=out, objective=objective, jobs=2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_search_has_a_report(full: RunDirectory, tmp_path: Path, kind: str) -> None:
    """What cannot be drawn says why; the rest is on the page."""
    objective, _, absent = KINDS[kind]
    finished = full if kind == "full" else run(kind, tmp_path / "run")
    facts = Facts(finished)
    drawn = charts.draw(facts)
    assert [chart.name for chart in drawn] == ALL
    assert all(chart.caption.endswith(".") for chart in drawn)
    if objective == "tests.objectives:eventful":
        absent = {name for name in ("stopped",) if not any(t.state is State.PRUNED for t in finished.trials())}
        absent |= {"importance"} if sum(t.state is State.COMPLETE for t in finished.trials()) < 5 else set()
    assert {chart.name for chart in drawn if chart.figure is None} == absent
    rendered = page.render(facts, drawn)
    for name in ALL:
        assert (f'id="chart-{name}"' in rendered) == (name not in absent)


def test_the_best_score_of_the_page_is_the_mean_that_won(full: RunDirectory, written: list[Path]) -> None:
    winner = standings(full.trials())[0]
    of = "" if winner.deviation is None else f", mean of {len(winner.counted)}"
    shown = f"<b>{winner.scores[0]:.4g}</b><span>best score{of}, trial {winner.trial.number}</span>"
    assert shown in written[0].read_text()


def test_page_chart_and_status_tell_one_story(tmp_path: Path) -> None:
    """The chart's line is what `status` said whenever a trial ended: once there are finalists, the best of their means,
    whatever single scores are."""
    changes = ["trials=12", "dense_baseline=false", "early_stopping.enabled=false"]
    finished = search.run("vit_digits", changes=changes, out=tmp_path / "run", objective="tests.objectives:lucky")
    trials, winner = finished.trials(), standings(finished.trials())[0]
    told = [standings(trials[:count])[0].scores[0] for count in range(1, len(trials) + 1)]  # one worker
    lines = [trace for trace in charts.progress.draw(Facts(finished))[0].data if trace.name == "best so far"]
    assert [[*line.y] for line in lines] == [[*told, told[-1]]] * 2
    assert len(winner.fresh) > 1 and min(told) < told[-1] == winner.scores[0] == status(finished)["best"]["score"]
    shown = f"<b>{told[-1]:.4g}</b><span>best score, mean of {len(winner.fresh)}, trial {winner.trial.number}</span>"
    assert shown in page.render(Facts(finished), [])


def test_the_page_needs_no_network_and_holds_no_markup_of_others(written: list[Path]) -> None:
    content = written[0].read_text()
    assert content.count("plotly.js v") == 1
    without_plotly = re.sub(r"<script>/\*\*.*?</script>", "", content, count=1, flags=re.DOTALL)
    assert len(without_plotly) < len(content) / 2
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", without_plotly)
    assert "&lt;b&gt;boom" in without_plotly and "<b>boom" not in without_plotly


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")
def test_a_browser_opens_the_page_and_loads_it_anew_where_its_reader_was(
    full: RunDirectory, written: list[Path], tmp_path: Path
) -> None:
    """Without an error, with every chart, and with zoom, hidden curves, open tables and place as they were."""
    page = tmp_path / "report.html"
    page.write_text(written[0].read_text().replace("</body>", READER + "</body>"))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom"]
    shown = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=240, check=True)
    assert "CONSOLE" not in shown.stderr
    drawn = [chart for chart in charts.draw(Facts(full)) if chart.figure is not None]
    assert shown.stdout.count('class="main-svg"') >= len(drawn)
    assert re.findall('data-kept="([^"]*)"', shown.stdout) == ["0.25 0.5 legendonly true 700"]


def test_pictures_put_each_bar_in_its_own_row(full: RunDirectory, tmp_path: Path) -> None:
    facts = Facts(full)
    figure, _ = charts.timeline.draw(facts)
    axes = pictures.draw(styled(figure), "timeline").axes[0]
    rows = {
        label.get_text().split(":")[0]: place
        for label, place in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
    }
    states = {bars.get_label(): bars for bars in axes.containers}
    for state, name in ((State.COMPLETE, "complete"), (State.PRUNED, "stopped early")):
        expected = sorted(f"rank {trial.worker}" for trial in full.trials() if trial.state is state)
        drawn = sorted(
            next(label for label, place in rows.items() if abs(bar.get_y() + bar.get_height() / 2 - place) < 0.01)
            for bar in states[name].patches
        )
        assert drawn == expected  # fmt: skip


def test_pictures_have_the_intervals_of_importances(full: RunDirectory) -> None:
    drawn = next(chart for chart in charts.draw(Facts(full)) if chart.name == "importance")
    bars = drawn.figure.data[0]  # type: ignore[union-attr]
    (lines,) = pictures.draw(drawn.figure, "importance").axes[0].containers[1:]  # type: ignore[arg-type]
    ends = [segment[:, 0] for segment in lines[2][0].get_segments()]
    reach = zip(bars.x, bars.error_x.arrayminus, bars.error_x.array, strict=True)
    assert np.allclose(ends, [(x - low, x + high) for x, low, high in reach])


def test_every_chart_is_a_picture_too(written: list[Path]) -> None:
    names = {re.sub(r"trial-\d+-", "", path.stem) for path in written[1:]}
    assert names == set(ALL)
    for path in written[1:]:
        assert np.asarray(matplotlib.image.imread(path))[..., :3].std() > 0.02


def test_a_search_whose_trials_all_break_a_constraint_is_drawn(tmp_path: Path) -> None:
    changes = ["trials=4", "score={minimize: [error, trainable_percent]}", "constraints={error: {max: -1}}"]
    found = search.run("vit_digits", changes=changes, out=tmp_path, objective="tests.objectives:eventful", jobs=2)
    assert any(file.name == "pareto.png" for file in write(found, tmp_path))


def test_a_report_of_a_running_search_shows_what_there_is(full: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(full.path, tmp_path / "running")
    for file in (tmp_path / "running" / "trials").iterdir():
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[: len(lines) // 2])[:-3])  # each worker in the middle of a trial
    cut = RunDirectory.open(tmp_path / "running")
    assert any(trial.state is State.RUNNING for trial in cut.trials())
    facts = Facts(cut)
    assert "running" in page.render(facts, charts.draw(facts))
    assert len(study.derive(cut.trials(), cut.experiment).trials) == max(t.number for t in cut.trials()) + 1


def test_a_search_is_seen_before_its_first_trial_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is written anew while a process runs the search, with the curves of what runs, and then as a whole."""
    out, release = tmp_path / "run", tmp_path / "release"
    monkeypatch.setenv("RELEASE", str(release))
    code = (
        "from oialr_hpo import search; from pathlib import Path; import sys;"
        "search.run('vit_digits', changes=['trials=3', 'early_stopping.enabled=false'], out=Path(sys.argv[1]), jobs=2,"
        " objective='tests.objectives:held')"
    )
    searching = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.DEVNULL)
    while not (used := RunDirectory(out)).used or not all(
        used.trials()[n:] and used.trials()[n].epochs for n in (0, 1)
    ):
        assert searching.poll() is None
        time.sleep(0.05)
    pages = []
    inner = watching.write_page

    def write_page(*arguments: Any, **named: Any) -> Any:
        found = inner(*arguments, **named)
        pages.append((found[0][0].read_text(), [chart.name for chart in found[2] if chart.figure]))
        release.touch()
        return found

    monkeypatch.setattr(watching, "write_page", write_page)
    monkeypatch.setattr(watching.watch, "__defaults__", (0.1,))
    main([str(out), "--watch"])
    assert searching.wait() == 0
    first, shown = pages[0]
    assert shown == ["running", "timeline"] or shown == ["running"]
    assert '<meta http-equiv="refresh"' in first and 'id="chart-running"' in first and "on rank 1 at epoch" in first
    assert not re.search(r"<section[^>]*><h2>[^<]*</h2><p>[^<]*</p></section>", first)  # an empty box
    last = (out / "report.html").read_text()
    assert '<meta http-equiv="refresh"' not in last and 'id="chart-running"' not in last


def test_a_trial_leads_to_what_its_worker_printed(full: RunDirectory, written: list[Path]) -> None:
    content = written[0].read_text()
    for href, number in re.findall(r'<a href="([^"]*)" title="[^"]*">(\d+)</a>', content):
        assert (written[0].parent / href).resolve() == full.output(full.trials()[int(number)].worker).resolve()
    assert len(set(re.findall(r'<a href="[^"]*" title="[^"]*">(\d+)</a>', content))) == len(full.trials())


def test_the_study_has_the_trials_of_the_search(full: RunDirectory) -> None:
    derived = study.derive(full.trials(), full.experiment)
    for trial, frozen in zip(full.trials(), derived.trials, strict=True):
        assert frozen.number == trial.number and frozen.params == trial.settings
        assert frozen.state is study.STATES[trial.state]
        assert frozen.values == (trial.scores or None)
        assert len(frozen.intermediate_values) == len(trial.epochs)
    assert set(derived.trials[1].distributions) == set(full.experiment.search)
    assert {frozen.user_attrs["role"] for frozen in derived.trials} == {role.value for role in Role}


@pytest.mark.parametrize("name", ["study.db", "study.log"])
def test_optuna_reads_the_written_study_and_it_can_be_written_again(
    full: RunDirectory, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a b%20c" / name
    for _ in range(2):
        main([str(full.path), "--optuna", str(path)])
    assert f"optuna-dashboard '{path}'" in capsys.readouterr().out
    url = str(URL.create("sqlite", database=str(path))) if name.endswith("db") else optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(path))
    )  # fmt: skip
    (summary,) = optuna.get_all_study_summaries(url)
    assert summary.study_name == "full" and summary.n_trials == len(full.trials())
    loaded = optuna.load_study(study_name="full", storage=url)
    assert [trial.values for trial in loaded.trials] == [trial.scores or None for trial in full.trials()]


def test_a_study_of_others_is_not_replaced(full: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    optuna.create_study(study_name="full", storage=f"sqlite:///{path}")
    with pytest.raises(RunDirectoryError, match="already has another study full"):
        study_file.write(full, path)
    for file, message in (("study.txt", "neither .db"), ("torn.db", "not a database"), ("torn.log", "something else")):
        (tmp_path / file).write_text("garbage" * 1000)
        with pytest.raises(RunDirectoryError, match=message) as caught:
            study_file.write(full, tmp_path / file)
        assert "\n" not in str(caught.value)


def test_no_search_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path)])
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} holds no search")
