"""The tables of a report, in HTML."""

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from oialr_hpo.experiment.metrics import shown_metrics
from oialr_hpo.experiment.space import Space
from oialr_hpo.report.facts import Facts
from oialr_hpo.report.look import WORDS
from oialr_hpo.runs import leaders as leading
from oialr_hpo.runs.printing import clock, figure
from oialr_hpo.runs.trial import Trial

TOP = 5


class Linked(NamedTuple):
    """A trial's number, and where its log is; None: nowhere."""

    number: int
    href: str | None


def leaders(facts: Facts) -> str:
    """The best trials beside the untuned settings and the dense model, and the settings of the winners; empty
    before a trial has a score."""
    compared = leading.leaders(facts.trials, facts.experiment, TOP)
    if not compared:
        return ""
    metrics = shown_metrics(compared[0][1].metrics, "trials")
    scores = ["score"] if len(facts.goals) == 1 else [f"score: {name}" for name in facts.goals]
    rows = [
        [
            name,
            Linked(trial.number, facts.log(trial)),
            *trial.scores,
            *(trial.metrics.get(metric) for metric in metrics),
            clock(trial.seconds),
        ]
        for name, trial in compared
    ]
    content = _table(["", "trial", *scores, *metrics, "time"], rows, best=bool(facts.winners))
    if facts.winners:
        shown = facts.winners[:1] if len(facts.goals) == 1 else facts.winners
        space = facts.experiment.space
        header = ["setting", *(f"trial {trial.number}" for trial in shown), "untuned", "searched"]
        settings = [
            [key, *(trial.settings.get(key) for trial in shown), facts.experiment.value(key), _range(space, key)]
            for key in facts.keys
        ]
        content += "<br>" + _table(header, settings)
    return content


def all_trials(facts: Facts) -> str:
    """Every trial with its settings, folded."""
    if not facts.trials:
        return "<p>None yet.</p>"
    share = "trainable_percent"
    header = ["trial", "role", "state", "score", "trainable %", "time", "rank", *facts.keys, "reason"]
    rows = [_row(trial, trial.metrics.get(share), facts.keys, facts.log(trial)) for trial in facts.trials]
    table = _table(header, rows)
    return f"<details><summary>{len(rows)} trials with their settings</summary>{table}</details>"


def origin(environment: dict[str, Any]) -> str:
    """The command, and the versions of what it ran with."""
    packages = ", ".join(f"{name} {number}" for name, number in environment.get("packages", {}).items())
    rows = [
        [name, environment[key]]
        for name, key in (("command", "command"), ("commit", "commit"), ("host", "host"), ("python", "python"))
        if environment.get(key)
    ]
    return _table(["", ""], [*rows, ["packages", packages]])


def _range(space: Space, key: str) -> str:
    """What a setting may be, and where, in a few words."""
    spec = space.spec()[key]
    if "choices" in spec:
        words = " | ".join(
            str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in spec["choices"]
        )
    else:
        low, high = spec.get("float") or spec["int"]
        words = f"{low:g} to {high:g}{', log' if spec.get('log') else ''}"
        words += f" by {spec['step']:g}" if "step" in spec else ""
        words += f" times {spec['times']}" if "times" in spec else ""
    words += f", believed near {spec['prior']}" if "prior" in spec else ""
    return f"{words}, {space.condition(key)}" if "when" in spec else words


def _row(trial: Trial, share: float | None, keys: Sequence[str], log: str | None) -> list[Any]:
    scores = " / ".join(f"{score:.4g}" for score in trial.scores)
    state = WORDS.get(trial.state, trial.state.value)
    settings = [trial.settings.get(key) for key in keys]
    row = [Linked(trial.number, log), trial.role.value, state, scores, share, clock(trial.seconds), trial.worker]
    return [*row, *settings, trial.reason]


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]], best: bool = False) -> str:
    numeric = [all(isinstance(row[i], (int, float, Linked, type(None))) for row in rows) for i in range(len(header))]
    kinds = [" class=number" if number else "" for number in numeric]
    heads = "".join(f"<th{kind}>{escape(head)}</th>" for head, kind in zip(header, kinds, strict=True))
    lines = []
    for index, row in enumerate(rows):
        cells = "".join(_cell(value, number) for value, number in zip(row, numeric, strict=True))
        lines.append(f"<tr{' class=best' if best and index == 0 else ''}>{cells}</tr>")
    return f"<table><tr>{heads}</tr>{''.join(lines)}</table>"


def _cell(value: Any, number: bool) -> str:
    if isinstance(value, Linked):
        link = f'<a href="{value.href}" title="what its worker printed">{value.number}</a>'
        return f"<td class=number>{link if value.href else value.number}</td>"
    text = "" if value is None else figure(value)
    kind = "number" if number else "wide" if len(text) > 60 else ""
    return f"<td{f' class={kind}' if kind else ''}>{escape(text)}</td>"
