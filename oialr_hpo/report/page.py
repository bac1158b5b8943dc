"""The report as one HTML page that needs no network: plotly.js is inside, once."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from oialr_hpo.experiment.metrics import shown_metrics
from oialr_hpo.report.charts import Chart
from oialr_hpo.report.facts import Facts
from oialr_hpo.report.look import COLORS, WORDS
from oialr_hpo.runs.leaders import leaders
from oialr_hpo.runs.printing import clock, figure
from oialr_hpo.runs.trial import State, Trial

TOP = 5

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
:root { color: #30343a; background: #f4f6f8; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; padding: 28px 20px 60px; max-width: 1120px; }
h1 { margin: 0; font-size: 27px; }
h2 { margin: 0 0 2px; font-size: 18px; }
p { margin: 4px 0 8px; color: #5c636d; }
header p { font-size: 16px; }
section, .facts > div { background: white; border: 1px solid #e3e7ec; border-radius: 8px; }
section { padding: 16px 18px; margin-top: 16px; overflow-x: auto; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 16px; }
.facts > div { padding: 10px 14px; }
.facts b { display: block; font-size: 22px; font-weight: 600; }
.facts span, .states span { color: #5c636d; font-size: 13px; }
.states { display: flex; height: 10px; border-radius: 5px; overflow: hidden; margin: 18px 0 4px; background: #e3e7ec; }
.key::before { content: ""; display: inline-block; width: 9px; height: 9px; border-radius: 2px; margin: 0 5px 0 0;
  background: var(--color); }
.key { margin-right: 16px; font-size: 13px; color: #5c636d; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: #5c636d; border-bottom: 2px solid #e3e7ec; }
th, td { padding: 4px 14px 4px 0; white-space: nowrap; }
td { border-bottom: 1px solid #eef1f4; }
.number { text-align: right; }
tr.best td { background: #eef4fb; font-weight: 600; }
td.wide { white-space: normal; max-width: 420px; }
code, pre { font: 13px/1.5 ui-monospace, monospace; }
pre { white-space: pre-wrap; word-break: break-word; margin: 6px 0; color: #30343a; }
details summary { cursor: pointer; font-weight: 600; }
details table { margin-top: 10px; font-size: 12.5px; }
.side { display: flex; flex-wrap: wrap; gap: 14px 48px; }
nav { margin: 14px 0 0; font-size: 14px; }
nav a { margin-right: 14px; color: #1f5fa8; text-decoration: none; }
@media print { section { break-inside: avoid; } }
</style>
<script>$plotly</script>
</head>
<body>
<header>
<h1>$title</h1>
<p>$summary</p>
</header>
<div class="facts">$facts</div>
<div class="states">$bar</div>
<div>$key</div>
<nav>$links</nav>
$sections
</body>
</html>
""")


def render(facts: Facts, charts: Sequence[Chart]) -> str:
    """The page of a search."""
    experiment = facts.experiment
    states = Counter(trial.state for trial in facts.trials)
    network = experiment.model.get("name", "")
    about = " on ".join(filter(None, [network, str(experiment.data.get("dataset", experiment.task))]))
    sections = [
        _section("best", "The best, beside the untuned settings and the dense model", "", _leaders(facts)),
        *(_chart(chart) for chart in charts),
        _section("trials", "Every trial", "", _all_trials(facts)),
        _section("origin", "Where this comes from", "", _origin(facts.run.environment)),
    ]
    aims = " and ".join(f"{aim.direction[:-1]}ing {name}" for name, aim in facts.goals.items())
    shares = [(state, states[state]) for state in State if states[state]]
    return PAGE.substitute(
        title=escape(facts.run.name),
        summary=escape(
            f"A search for {experiment.method.upper()} settings: {about}, {experiment.training.epochs} epochs a trial, "
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
        winner = facts.winners[0]
        if len(facts.goals) == 1:
            shown.insert(0, (f"best score, trial {winner.number}", f"{winner.score:.4g}"))
        if facts.untuned and facts.untuned.score is not None and len(facts.goals) == 1:
            shown.insert(1, ("the untuned settings' score", f"{facts.untuned.score:.4g}"))
    return shown


def _section(name: str, title: str, caption: str, content: str) -> str:
    shown = f"<p>{escape(caption)}</p>" if caption else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{shown}{content}</section>'


def _chart(chart: Chart) -> str:
    if chart.figure is None:
        return _section(chart.name, chart.title, chart.caption, "")
    config = {"responsive": True, "displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
    content = chart.figure.to_html(
        full_html=False, include_plotlyjs=False, include_mathjax=False, div_id=f"chart-{chart.name}", config=config
    )
    return _section(chart.name, chart.title, chart.caption, content)


def _leaders(facts: Facts) -> str:
    compared = leaders(facts.trials, facts.experiment, TOP)
    if not compared:
        return "<p>No trial has a score yet.</p>"
    metrics = shown_metrics(compared[0][1].metrics, "trials")
    scores = ["score"] if len(facts.goals) == 1 else [f"score: {name}" for name in facts.goals]
    rows = [
        [name, trial.number, *trial.scores, *(trial.metrics.get(metric) for metric in metrics), clock(trial.seconds)]
        for name, trial in compared
    ]
    content = _table(["", "trial", *scores, *metrics, "time"], rows, best=bool(facts.winners))
    if facts.winners:
        shown = facts.winners[:1] if len(facts.goals) == 1 else facts.winners
        header = ["setting", *(f"trial {trial.number}" for trial in shown), "untuned", "searched"]
        settings = [
            [key, *(trial.settings[key] for trial in shown), facts.experiment.value(key), _range(spec)]
            for key, spec in facts.experiment.search.items()
        ]
        content += "<br>" + _table(header, settings)
    return content


def _range(spec: dict[str, Any]) -> str:
    if "choices" in spec:
        return " | ".join(
            str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in spec["choices"]
        )
    low, high = spec.get("float") or spec["int"]
    return f"{low:g} to {high:g}{', log' if spec.get('log') else ''}"


def _all_trials(facts: Facts) -> str:
    if not facts.trials:
        return "<p>None yet.</p>"
    share = "trainable_percent"
    header = ["trial", "role", "state", "score", "trainable %", "time", "rank", *facts.keys, "reason"]
    rows = [_row(trial, trial.metrics.get(share), facts.keys) for trial in facts.trials]
    table = _table(header, rows)
    return f"<details><summary>{len(rows)} trials with their settings</summary>{table}</details>"


def _row(trial: Trial, share: float | None, keys: Sequence[str]) -> list[Any]:
    scores = " / ".join(f"{score:.4g}" for score in trial.scores)
    state = WORDS.get(trial.state, trial.state.value)
    settings = [trial.settings.get(key) for key in keys]
    row = [trial.number, trial.role.value, state, scores, share, clock(trial.seconds), trial.worker]
    return [*row, *settings, trial.reason]


def _origin(environment: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in environment.get("packages", {}).items())
    rows = [
        [name, environment[key]]
        for name, key in (("command", "command"), ("commit", "commit"), ("host", "host"), ("python", "python"))
        if environment.get(key)
    ]
    return _table(["", ""], [*rows, ["packages", packages]])


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]], best: bool = False) -> str:
    numeric = [all(isinstance(row[i], (int, float, type(None))) for row in rows) for i in range(len(header))]
    kinds = [" class=number" if number else "" for number in numeric]
    heads = "".join(f"<th{kind}>{escape(head)}</th>" for head, kind in zip(header, kinds, strict=True))
    lines = []
    for index, row in enumerate(rows):
        cells = "".join(_cell(value, number) for value, number in zip(row, numeric, strict=True))
        lines.append(f"<tr{' class=best' if best and index == 0 else ''}>{cells}</tr>")
    return f"<table><tr>{heads}</tr>{''.join(lines)}</table>"


def _cell(value: Any, number: bool) -> str:
    text = "" if value is None else figure(value)
    kind = "number" if number else "wide" if len(text) > 60 else ""
    return f"<td{f' class={kind}' if kind else ''}>{escape(text)}</td>"
