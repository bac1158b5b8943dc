"""The report as one HTML page that needs no network: plotly.js is inside, once."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from plotly.offline import get_plotlyjs

from oialr_hpo.methods import name_of
from oialr_hpo.report import tables
from oialr_hpo.report.charts import Chart
from oialr_hpo.report.facts import Facts
from oialr_hpo.report.look import COLORS, WORDS
from oialr_hpo.runs.printing import clock
from oialr_hpo.runs.ranking import standings
from oialr_hpo.runs.trial import State


def render(facts: Facts, charts: Sequence[Chart], refresh: float | None = None) -> str:
    """The page of a search.

    Args:
        refresh: so many seconds after which a browser loads it anew; None: it does not.
    """
    experiment = facts.experiment
    states = Counter(trial.state for trial in facts.trials)
    network = experiment.model.get("name", "")
    about = " on ".join(filter(None, [network, experiment.subject]))
    leaders = tables.leaders(facts)
    sections = [
        _section("best", "The best, beside the untuned settings and the dense model", "", leaders) if leaders else "",
        *(_chart(chart) for chart in charts if chart.figure),
        _missing([chart for chart in charts if chart.figure is None]),
        _section("trials", "Every trial", "", tables.all_trials(facts)),
        _section("origin", "Where this comes from", "", tables.origin(facts.run.environment)),
    ]
    aims = " and ".join(f"{aim.direction[:-1]}ing {name}" for name, aim in facts.goals.items())
    shares = [(state, states[state]) for state in State if states[state]]
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=escape(facts.run.name),
        refresh="" if refresh is None else f'<meta http-equiv="refresh" content="{refresh:g}">',
        summary=escape(
            f"A search for {name_of(experiment.method).upper()} settings: {about}, "
            f"{experiment.training.epochs} epochs a trial, "
            f"{aims} on the validation split."
        ),
        plotly=get_plotlyjs(),
        facts="".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in _facts(facts)),
        bar="".join(f'<div style="flex: {count}; background: {COLORS[state]}"></div>' for state, count in shares),
        key="".join(
            f'<span class="key" style="--color: {COLORS[state]}">{count} {WORDS.get(state, state.value)}</span>'
            for state, count in shares
        )
        or '<span class="key" style="--color: #e3e7ec">no trial yet</span>',
        links="".join(f'<a href="#{chart.name}">{escape(chart.title)}</a>' for chart in charts if chart.figure),
        sections="\n".join(sections),
    )


def _facts(facts: Facts) -> list[tuple[str, str]]:
    usage = facts.run.usage()
    finished = sum(trial.finished for trial in facts.trials)
    shown = [
        ("of the budget's trials ended", f"{finished} of {facts.experiment.trials}"),
        (f"on {facts.run.environment['workers']} workers", clock(usage.elapsed)),
        ("of training, added up", clock(usage.training)),
    ]
    if usage.utilization is not None:
        shown.append(("of the workers' time spent training", f"{usage.utilization:.1%}"))
    if facts.winners:
        winner = standings(facts.trials)[0]
        if len(facts.goals) == 1:
            of = "" if winner.deviation is None else f", mean of {len(winner.counted)}"
            shown.insert(0, (f"best score{of}, trial {winner.trial.number}", f"{winner.scores[0]:.4g}"))
        if facts.untuned and facts.untuned.score is not None and len(facts.goals) == 1:
            shown.insert(1, ("the untuned settings' score", f"{facts.untuned.score:.4g}"))
    return shown


def _section(name: str, title: str, caption: str, content: str) -> str:
    shown = f"<p>{escape(caption)}</p>" if caption else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{shown}{content}</section>'


def _chart(chart: Chart) -> str:
    assert chart.figure is not None
    config = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
    content = chart.figure.to_html(
        full_html=False, include_plotlyjs=False, include_mathjax=False, div_id=f"chart-{chart.name}", config=config
    )
    return _section(chart.name, chart.title, chart.caption, f'<div class="chart">{content}</div>')


def _missing(charts: Sequence[Chart]) -> str:
    """Why there is no more to see, in a line for each."""
    if not charts:
        return ""
    lines = "".join(f'<p id="{c.name}"><b>{escape(c.title)}.</b> {escape(c.caption)}</p>' for c in charts)
    return f'<section id="missing"><h2>Not drawn</h2>{lines}</section>'
