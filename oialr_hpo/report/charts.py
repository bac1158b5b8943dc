"""The charts of a search, by Optuna's visualisation wherever it has them; drawn with plotly."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna import visualization
from plotly.subplots import make_subplots

from oialr_hpo.experiment import Experiment
from oialr_hpo.report import study
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.events import number
from oialr_hpo.runs.printing import clock
from oialr_hpo.runs.ranking import best, pareto_front
from oialr_hpo.runs.trial import Role, State, Trial
from oialr_hpo.runs.usage import Span
from oialr_hpo.status import untuned

BLUE, ORANGE, DARK, GREY, LIGHT, RED, AMBER = (
    "#1f5fa8", "#e07b1a", "#30343a", "#8a9099", "#c9d0d8", "#c0392b", "#d8a400",
)  # fmt: skip
COLORS = {
    State.COMPLETE: BLUE,
    State.PRUNED: AMBER,
    State.FAILED: RED,
    State.OUT_OF_MEMORY: "#7d3c98",
    State.INTERRUPTED: GREY,
    State.RUNNING: LIGHT,
}
WORDS = {State.PRUNED: "stopped early", State.OUT_OF_MEMORY: "out of memory"}
SLICES_PER_ROW = 4
TOP = 3  # trials whose ranks are shown


class NothingToDraw(Exception):
    """The search lacks what a chart shows; the message says what."""


@dataclass(frozen=True)
class Chart:
    """A chart with what a reader should know about it; without a figure, the caption says why there is none."""

    name: str
    title: str
    caption: str
    figure: go.Figure | None


@dataclass(frozen=True)
class Facts:
    """What the charts of one search share."""

    run: RunDirectory

    @cached_property
    def experiment(self) -> Experiment:
        return self.run.experiment

    @cached_property
    def trials(self) -> list[Trial]:
        return self.run.trials()

    @cached_property
    def spans(self) -> list[Span]:
        """When trials ran."""
        return [span for span in self.run.spans() if span.trial is not None]

    @cached_property
    def searched(self) -> list[Trial]:
        """All but the dense baseline, which is no point of the search space."""
        return [trial for trial in self.trials if trial.role is not Role.DENSE]

    @cached_property
    def complete(self) -> list[Trial]:
        return [trial for trial in self.searched if trial.state is State.COMPLETE]

    @cached_property
    def dense(self) -> Trial | None:
        return next((t for t in self.trials if t.role is Role.DENSE and t.state is State.COMPLETE), None)

    @cached_property
    def untuned(self) -> Trial | None:
        return untuned(self.complete, self.experiment)

    @cached_property
    def winners(self) -> list[Trial]:
        """The best trials, or with several goals some of the Pareto front."""
        if len(self.goals) == 1:
            return best(self.trials, TOP)
        front = pareto_front(self.trials)
        return [front[i] for i in sorted({0, len(front) // 2, len(front) - 1})] if front else []

    @cached_property
    def goals(self) -> study.Aims:
        return study.own_aims(self.experiment)

    @cached_property
    def study(self) -> optuna.Study:
        """Of everything but the dense baseline."""
        return study.derive(self.searched, self.experiment)

    @cached_property
    def keys(self) -> list[str]:
        return list(self.experiment.search)


def draw(facts: Facts) -> list[Chart]:
    """All charts of a search, in the order in which they are read."""
    charts: list[tuple[str, str, Callable[[Facts], tuple[go.Figure, str]]]] = [
        ("progress", "Score over time and over compute", progress),
        ("pareto", "Metric and trainable share", pareto),
        ("importance", "Which settings mattered", importance),
        ("parallel", "Settings of all trials", parallel),
        ("slices", "Score along each setting", slices),
        ("ranks", "Rank per layer of the best trials", ranks),
        ("schedule", "Learning rate of the best beside the untuned one", schedule),
        ("timeline", "Use of the workers", timeline),
        ("stopped", "What was stopped early", stopped),
        ("failures", "Failures by reason", failures),
    ]
    drawn = []
    for name, title, chart in charts:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Optuna's: experimental plots, goals that are minimised
                figure, caption = chart(facts)
            drawn.append(Chart(name, title, caption, styled(figure)))
        except NothingToDraw as nothing:
            drawn.append(Chart(name, title, str(nothing), None))
    return drawn


def styled(figure: go.Figure) -> go.Figure:
    """One look for all, Optuna's plots included."""
    figure.update_layout(
        template="plotly_white",
        title=None,
        width=None,
        font={"family": "system-ui, sans-serif", "size": 12, "color": DARK},
        margin=figure.layout.margin.to_plotly_json() or {"l": 70, "r": 20, "t": 40, "b": 55},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hoverlabel={"align": "left"},
    )
    if figure.layout.height is None:
        figure.update_layout(height=400)
    figure.update_xaxes(zeroline=False, automargin=True)
    figure.update_yaxes(zeroline=False, automargin=True)
    return figure


def progress(facts: Facts) -> tuple[go.Figure, str]:
    """Every scored trial at its end, and the best so far, over the clock and over the workers' added time."""
    scored = [trial for trial in facts.searched if trial.scores and trial.state in (State.COMPLETE, State.PRUNED)]
    ends = {span.trial: span.ended for span in facts.spans}
    scored = sorted((trial for trial in scored if trial.number in ends), key=lambda trial: ends[trial.number])
    if not scored:
        raise NothingToDraw("No trial has a score yet.")
    began = min(span.began for span in facts.run.spans())
    moments = [ends[trial.number] for trial in scored]
    unit, seconds = _unit(max(moments) - began)
    spent = [sum(span.training(t) for span in facts.spans) for t in moments]
    unit_spent, seconds_spent = _unit(max(spent))
    axes = [
        ([(t - began) / seconds for t in moments], f"{unit} since the start"),
        ([s / seconds_spent for s in spent], f"{unit_spent} of training, added up over the workers"),
    ]
    goals = list(facts.goals)
    figure = make_subplots(len(goals), 2, shared_yaxes=True, horizontal_spacing=0.04, vertical_spacing=0.14)
    for row, goal in enumerate(goals):
        values = [trial.scores[row] for trial in scored]
        for column, (x, label) in enumerate(axes):
            place = {"row": row + 1, "col": column + 1}
            first = row == column == 0
            for state, symbol in ((State.COMPLETE, "circle"), (State.PRUNED, "x-thin-open")):
                chosen = [i for i, trial in enumerate(scored) if trial.state is state]
                if chosen:
                    figure.add_scatter(
                        x=[x[i] for i in chosen],
                        y=[values[i] for i in chosen],
                        mode="markers",
                        marker={"color": COLORS[state], "symbol": symbol, "size": 7, "line": {"width": 1.5}}
                        if state is State.PRUNED
                        else {"color": COLORS[state], "size": 7, "opacity": 0.75},
                        name=WORDS.get(state, state.value),
                        text=[_hover(scored[i]) for i in chosen],
                        hovertemplate="%{text}<extra></extra>",
                        showlegend=first,
                        **place,
                    )
            steps = [(t, trial.scores[row]) for t, trial in zip(x, scored, strict=True) if trial.candidate]
            if steps:
                better = min if facts.goals[goal].direction == "minimize" else max
                reached = [*accumulate((value for _, value in steps), better)]
                figure.add_scatter(
                    x=[*(t for t, _ in steps), max(x)],
                    y=[*reached, reached[-1]],
                    mode="lines",
                    line={"shape": "hv", "color": DARK, "width": 2},
                    name="best so far",
                    hoverinfo="skip",
                    showlegend=first,
                    **place,
                )
            for trial, name, color in ((facts.untuned, "untuned", ORANGE), (facts.dense, "dense", GREY)):
                if trial:
                    figure.add_scatter(
                        x=[0, max(x)],
                        y=[trial.scores[row]] * 2,
                        mode="lines",
                        line={"dash": "dash", "color": color, "width": 1.5},
                        name=name if len(goals) > 1 else f"{name}: {trial.scores[row]:.4g}",
                        hoverinfo="skip",
                        showlegend=first,
                        **place,
                    )
            if row == len(goals) - 1:
                figure.update_xaxes(title_text=label, rangemode="tozero", **place)
        _log_if_wide(figure, values, row=row + 1)
        figure.update_yaxes(title_text=goal, row=row + 1, col=1)
    figure.update_layout(height=90 + 310 * len(goals))
    caption = f"{_better(facts.goals)} Each mark is a trial where it ended."
    if any(trial.state is State.PRUNED for trial in scored):
        caption += " Crosses were stopped early, and show the score of their last epoch: they do not compete."
    return figure, caption


def _better(aims: study.Aims) -> str:
    """Which way is better, in a sentence."""
    words = {name: "lower" if aim.direction == "minimize" else "higher" for name, aim in aims.items()}
    if len(set(words.values())) == 1:
        return f"{next(iter(words.values())).capitalize()} is better."
    return f"Better is {', '.join(f'{word} {name}' for name, word in words.items())}."


def _log_if_wide(figure: go.Figure, values: Sequence[float], **place: Any) -> None:
    if min(values) > 0 and max(values) > 4 * min(values):
        figure.update_yaxes(type="log", tickvals=_log_ticks(min(values), max(values)), **place)


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, on a short axis also 2 and 5 times as much, from below `low` to above `high`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high < 50 * low else (1,)
    return [factor * 10.0**power for power in powers for factor in factors]


def _unit(seconds: float) -> tuple[str, float]:
    """A unit of time in which so many seconds are a handy number."""
    return next(
        ((name, size) for name, size in (("hours", 3600), ("minutes", 60)) if seconds > 2 * size), ("seconds", 1)
    )


def _hover(trial: Trial) -> str:
    lines = [f"<b>trial {trial.number}</b>: {' / '.join(f'{score:.4g}' for score in trial.scores)}"]
    if "trainable_percent" in trial.metrics:
        lines.append(f"trainable {trial.metrics['trainable_percent']:.3g} %")
    lines += [f"{key} = {_short(value)}" for key, value in trial.settings.items()]
    return "<br>".join(lines)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def pareto(facts: Facts) -> tuple[go.Figure, str]:
    """The first goal's metric against the trainable share."""
    share = "trainable_percent"
    metric, direction = next(
        (goal for goal in facts.experiment.score.goals if goal.metric != share), facts.experiment.score.goals[0]
    )
    measured = [trial for trial in facts.complete if all(number(trial.metrics.get(name)) for name in (metric, share))]
    if not measured:
        raise NothingToDraw(f"No complete trial has both {metric} and a trainable share.")
    aims = {
        "trainable parameters, % of the dense model's": study.Aim("minimize", lambda trial: trial.metrics[share]),
        metric: study.Aim(direction, lambda trial: trial.metrics[metric]),
    }
    both = study.derive(measured, facts.experiment, aims)
    figure = visualization.plot_pareto_front(both, target_names=list(aims))
    by_place = {(trial.metrics[share], trial.metrics[metric]): trial for trial in measured}
    front = {(trial.values[0], trial.values[1]) for trial in both.best_trials}
    for trace in figure.data:
        places = list(zip(trace.x, trace.y, strict=True))
        name, color = ("beaten by none", BLUE) if places and places[0] in front else ("other trials", LIGHT)
        trace.update(marker={"color": color, "size": 8, "colorscale": None, "showscale": False}, name=name)
        trace.update(text=[_hover(by_place[place]) for place in places], hovertemplate="%{text}<extra></extra>")
        trace.update(showlegend=bool(places))
    along = sorted(front)
    line = {"color": BLUE, "width": 1, "shape": "hv"}
    figure.add_scatter(
        x=[x for x, _ in along], y=[y for _, y in along], mode="lines", line=line, hoverinfo="skip", showlegend=False
    )
    winner = facts.winners[0] if facts.winners and len(facts.goals) == 1 else None
    marks = [
        (winner, f"best: trial {winner.number}" if winner else "", RED, "star"),
        (facts.untuned, "untuned", ORANGE, "diamond"),
        (facts.dense, "dense", DARK, "square"),
    ]
    for trial, name, color, symbol in marks:
        if trial is None:
            continue
        figure.add_scatter(
            x=[trial.metrics.get(share)],
            y=[trial.metrics.get(metric)],
            mode="markers",
            marker={"color": color, "symbol": symbol, "size": 13},
            name=name,
            text=[_hover(trial)],
            hovertemplate="%{text}<extra></extra>",
        )
    shares = [trial.metrics[share] for trial in measured] + ([100.0] if facts.dense else [])
    if 0 < 5 * min(shares) < max(shares):
        figure.update_xaxes(type="log", tickvals=_log_ticks(min(shares), max(shares)))
    where = "Down" if direction == "minimize" else "Up"
    caption = (
        f"Complete trials, {len(front)} of {len(measured)} beaten by no other in both. {where} and left is better."
    )
    if facts.experiment.score.trainable_weight:
        caption += " The score weighs the two; the star has the best score."
    return figure, caption


def importance(facts: Facts) -> tuple[go.Figure, str]:
    """PED-ANOVA on the complete trials."""
    if len(facts.complete) < 4:
        raise NothingToDraw(f"Needs four complete trials; there are {len(facts.complete)}.")
    try:
        as_minimized = study.derive(facts.searched, facts.experiment, study.minimized(facts.experiment))
        figure = visualization.plot_param_importances(as_minimized, params=facts.keys)  # low targets count as good
    except (ValueError, RuntimeError) as error:
        raise NothingToDraw(f"Cannot be told from these trials: {error}") from None
    if not any(len(trace.y or ()) for trace in figure.data):
        raise NothingToDraw("All complete trials score alike.")
    for trace, color in zip(figure.data, (BLUE, ORANGE, GREY, AMBER), strict=False):
        trace.update(marker={"color": color})
    figure.update_layout(height=120 + 26 * len(facts.keys) * len(facts.goals), showlegend=len(facts.goals) > 1)
    figure.update_xaxes(title_text="importance", rangemode="tozero")
    figure.update_yaxes(title_text=None)
    caption = "By how much the best tenth of the trials differ from all in this setting (PED-ANOVA), adding up to 1."
    if len(facts.complete) < 10 * len(facts.keys):
        caption += f" {len(facts.complete)} complete trials for {len(facts.keys)} settings are no more than a hint."
    return figure, caption


def parallel(facts: Facts) -> tuple[go.Figure, str]:
    if len(facts.complete) < 2:
        raise NothingToDraw(f"Needs two complete trials; there are {len(facts.complete)}.")
    goals = list(facts.goals)
    if len(goals) == 1:
        figure = visualization.plot_parallel_coordinate(facts.study, params=facts.keys, target_name=goals[0])
        caption = f"A line per complete trial, from its {goals[0]} through its settings; darker is better."
    else:
        figure = visualization.plot_parallel_coordinate(facts.study, params=facts.keys)
        caption = (
            "A line per complete trial, from its scores through its settings; darker is nearer to the Pareto front."
        )
    winner = facts.winners[0].number if facts.winners and len(goals) == 1 else None
    for trial, trace in zip(facts.complete, figure.data, strict=False):
        trace.update(line={"width": 1.6}, opacity=0.8)
        if trial.number == winner:
            trace.update(line={"color": RED, "width": 3.5}, opacity=1.0, name=f"best: trial {winner}", showlegend=True)
    keys = [key.replace(".", ".<br>") for key in sorted(facts.keys)]  # Optuna sorts them, and shortens their names
    scores = [goal.replace(" + ", "<br>+ ") for goal in goals]
    figure.update_xaxes(ticktext=[*scores, *keys], tickfont={"size": 11})
    figure.update_traces(marker={"colorbar": {"title": None, "thickness": 12}}, selector={"mode": "markers"})
    figure.update_layout(height=430, margin={"l": 60, "r": 20, "t": 40, "b": 60})
    return figure, caption


def slices(facts: Facts) -> tuple[go.Figure, str]:
    if not facts.complete:
        raise NothingToDraw("No searched trial is complete.")
    goal = list(facts.goals)[0]
    target = None if len(facts.goals) == 1 else lambda trial: trial.values[0]
    figure = visualization.plot_slice(facts.study, params=facts.keys, target=target, target_name=goal)
    keys = sorted(facts.keys)  # as Optuna does
    rows = math.ceil(len(keys) / SLICES_PER_ROW)
    width, height = 1 / SLICES_PER_ROW, 1 / rows
    for index in range(len(keys)):  # Optuna puts all of them into one row
        row, column = divmod(index, SLICES_PER_ROW)
        number = str(index + 1) if index else ""
        left, top = column * width, 1 - row * height
        right = left + width - (0.03 if column < SLICES_PER_ROW - 1 else 0)
        domain = [left, right], [max(0.0, top - height + (0.28 / rows if row < rows - 1 else 0)), top]
        figure.layout[f"xaxis{number}"].update(domain=domain[0], anchor=f"y{number}", title={"standoff": 4})
        figure.layout[f"yaxis{number}"].update(
            domain=domain[1],
            anchor=f"x{number}",
            matches=None if index == 0 else "y",
            showticklabels=column == 0,
            title={"text": ("score" if len(facts.goals) == 1 else goal) if column == 0 else None},
        )
        if figure.layout[f"xaxis{number}"].type == "log":
            tried = [float(trial.settings[keys[index]]) for trial in facts.complete]  # type: ignore[arg-type]
            figure.layout[f"xaxis{number}"].update(tickvals=_log_ticks(min(tried), max(tried)), exponentformat="e")
    values = [trial.scores[0] for trial in facts.complete]
    _log_if_wide(figure, values)
    figure.update_traces(marker={"colorbar": {"title": "trial", "thickness": 12}, "size": 7})
    figure.update_layout(height=60 + 230 * rows, margin={"l": 80, "r": 20, "t": 20, "b": 60})
    return figure, "Each complete trial in each panel; darker marks are later trials: where the search went."


def ranks(facts: Facts) -> tuple[go.Figure, str]:
    """A heat map per trial: a row per layer, a column per epoch."""
    shown = [trial for trial in facts.winners if any(record.get("ranks") for record in trial.epochs)]
    if not shown:
        raise NothingToDraw("None of the best trials went over to low rank.")
    layers = list(dict.fromkeys(layer for t in shown for record in t.epochs for layer in record.get("ranks") or ()))
    titles = [
        f"trial {trial.number}, trainable {trial.metrics.get('trainable_percent', math.nan):.3g} %" for trial in shown
    ]
    figure = make_subplots(1, len(shown), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.02)
    for column, trial in enumerate(shown, 1):
        highest = {layer: max((r.get("ranks") or {}).get(layer, 1) for r in trial.epochs) for layer in layers}
        full = trial.epochs[0].get("full_ranks") or highest
        rows = [[(record.get("ranks") or {}).get(layer) for record in trial.epochs] for layer in layers]
        share = [
            [None if rank is None else 100 * rank / full.get(layer, highest[layer]) for rank in row]
            for layer, row in zip(layers, rows, strict=True)
        ]
        figure.add_heatmap(
            z=share,
            x=[record["epoch"] for record in trial.epochs],
            y=layers,
            text=[["dense" if rank is None else f"rank {rank}" for rank in row] for row in rows],
            hovertemplate="%{y}, epoch %{x}: %{text}<extra></extra>",
            zmin=0,
            zmax=100,
            colorscale="YlGnBu",
            reversescale=True,
            showscale=column == len(shown),
            colorbar={"title": "% of full rank", "thickness": 12},
            row=1,
            col=column,
        )
        figure.update_xaxes(title_text="epoch", row=1, col=column)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_layout(height=160 + min(18 * max(len(layers), 8), 1100), plot_bgcolor="#eceff2")
    return figure, "Layers from input to output. The grey part is dense: before the change-over."


def schedule(facts: Facts) -> tuple[go.Figure, str]:
    """As the paper's Figure 3."""
    if not facts.winners:
        raise NothingToDraw("No trial is complete and meets the constraints.")
    from oialr_hpo.training.schedule import rates, steps  # loads torch

    winner = facts.winners[0]
    per_epoch = winner.epochs[0].get("step") if winner.epochs else None
    if not per_epoch:
        raise NothingToDraw("The trials did not record their optimizer steps.")
    figure = go.Figure()
    tuned = facts.experiment.with_settings(winner.settings)
    name_of_tuned = f"{'best' if len(facts.goals) == 1 else 'of the Pareto front'}: trial {winner.number}"
    for experiment, name, color in ((facts.experiment, "untuned", ORANGE), (tuned, name_of_tuned, BLUE)):
        total = experiment.training.epochs * per_epoch
        try:
            values = rates(experiment.schedule, total, per_epoch)
        except ValueError:  # the file's own settings may not fit the run
            continue
        stride = max(1, total // 1500)
        shown = [*range(0, total, stride)]
        figure.add_scatter(
            x=[t / per_epoch for t in shown],
            y=[values[t] for t in shown],
            mode="lines",
            line={"color": color, "width": 2.5},
            name=name,
            hovertemplate="epoch %{x:.2f}: %{y:.3g}<extra></extra>",
        )
        change_over = steps(experiment.oialr.delay, total)
        if experiment.method == "oialr" and 0 < change_over < total:
            figure.add_scatter(
                x=[change_over / per_epoch],
                y=[values[change_over]],
                mode="markers",
                marker={"color": color, "size": 11, "symbol": "diamond"},
                name="goes over to low rank",
                showlegend=experiment is tuned,
                hovertemplate=f"{name}: low rank from step {change_over} on<extra></extra>",
            )
    figure.update_xaxes(title_text="epoch", rangemode="tozero")
    figure.update_yaxes(title_text="learning rate", rangemode="tozero", exponentformat="power")
    return figure, "As the paper's Figure 3. The diamond marks d, where the network goes over to low rank."


def timeline(facts: Facts) -> tuple[go.Figure, str]:
    """A row per worker, a bar per trial."""
    spans = facts.run.spans()
    if not facts.spans:
        raise NothingToDraw("No trial has ended yet.")
    began, ended = min(span.began for span in spans), max(span.ended for span in spans)
    unit, seconds = _unit(ended - began)
    by_number = {trial.number: trial for trial in facts.trials}
    workers = sorted({span.worker for span in spans})
    labels = {}
    for worker in workers:
        held = sum(s.seconds for s in spans if s.worker == worker and s.trial is None)
        busy = sum(s.training() for s in facts.spans if s.worker == worker)
        labels[worker] = f"rank {worker}: {busy / held:.0%}" if held else f"rank {worker}"
    figure = go.Figure()
    for state, color in COLORS.items():
        chosen = [span for span in facts.spans if by_number[span.trial].state is state]  # type: ignore[index]
        if chosen:
            figure.add_bar(
                orientation="h",
                y=[labels[span.worker] for span in chosen],
                base=[(span.began - began) / seconds for span in chosen],
                x=[span.seconds / seconds for span in chosen],
                marker={"color": color, "line": {"color": "white", "width": 1}},
                name=WORDS.get(state, state.value),
                text=[f"<b>trial {span.trial}</b>, {clock(span.seconds)}" for span in chosen],
                textposition="none",
                hovertemplate="%{text}<extra></extra>",
                showlegend=True,
            )
    figure.update_layout(barmode="overlay", bargap=0.25, height=120 + min(30 * len(workers), 1200))
    figure.update_xaxes(title_text=f"{unit} since the start", rangemode="tozero")
    figure.update_yaxes(categoryorder="array", categoryarray=[labels[worker] for worker in reversed(workers)])
    usage = facts.run.usage()
    return figure, (
        f"A bar per trial. Beside each rank the share of its time that it trained; over all "
        f"{len(workers)}: {usage.utilization or 0:.1%}."
    )


def stopped(facts: Facts) -> tuple[go.Figure, str]:
    """Scores over the epochs, of those that went on and those that did not."""
    pruned = [trial for trial in facts.searched if trial.state is State.PRUNED]
    if not facts.experiment.early_stopping.enabled:
        raise NothingToDraw("Early stopping was off: every trial ran to its end.")
    if not pruned:
        raise NothingToDraw("No trial was stopped early.")
    goal, aim = next(iter(facts.goals.items()))
    figure = visualization.plot_intermediate_values(study.derive(facts.searched, facts.experiment, {goal: aim}))
    cut = {f"Trial{trial.number}" for trial in pruned}
    named = set()
    for trace in figure.data:
        early = trace.name.split()[0] in cut
        name = "stopped early" if early else "ran on"
        trace.update(
            line={"color": AMBER if early else BLUE, "width": 1.6 if early else 1.0},
            mode="lines+markers",
            marker={"size": [0] * (len(trace.x) - 1) + [8 if early else 0], "color": AMBER, "symbol": "x"},
            opacity=1.0 if early else 0.55,
            hovertemplate=f"{trace.name}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
            name=name,
            legendgroup=name,
            showlegend=name not in named,
        )
        named.add(name)
    values = [y for trace in figure.data for y in trace.y]
    _log_if_wide(figure, values)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text=goal)
    run = sum(trial.epochs[-1]["epoch"] for trial in pruned if trial.epochs)
    whole = sum(facts.experiment.epochs(trial.settings) for trial in pruned)
    done = sum(trial.epochs[-1]["epoch"] for trial in facts.trials if trial.epochs)
    return figure, (
        f"{len(pruned)} of {len(facts.searched)} trials were stopped at the crosses: {whole - run} epochs saved, where "
        f"{done} were trained ({(whole - run) / (whole - run + done):.0%} of the whole)."
    )


def failures(facts: Facts) -> tuple[go.Figure, str]:
    lost = [trial for trial in facts.trials if trial.state in (State.FAILED, State.OUT_OF_MEMORY)]
    if not lost:
        raise NothingToDraw(f"None: all {sum(trial.finished for trial in facts.trials)} finished trials have a score.")
    reasons = Counter((trial.state, trial.reason or trial.state.value) for trial in lost).most_common(20)
    figure = go.Figure()
    for state in (State.FAILED, State.OUT_OF_MEMORY):
        counted = [(reason, count) for (kind, reason), count in reasons if kind is state]
        if counted:
            figure.add_bar(
                orientation="h",
                x=[count for _, count in counted],
                y=[_clipped(reason) for reason, _ in counted],
                marker={"color": COLORS[state]},
                name=WORDS.get(state, state.value),
                hovertemplate="%{x} x %{y}<extra></extra>",
                showlegend=True,
            )
    figure.update_layout(height=120 + 34 * len(reasons), bargap=0.35)
    figure.update_xaxes(title_text="trials", rangemode="tozero", tickformat="d", dtick=_whole(reasons[0][1]))
    figure.update_yaxes(autorange="reversed")
    share, logs = len(lost) / max(1, sum(trial.finished for trial in facts.trials)), facts.run.path / "logs"
    return figure, f"{len(lost)} trials, {share:.0%} of those that ended; what they printed lies in {logs}."


def _clipped(text: str, length: int = 70) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _whole(highest: int) -> int:
    """A distance between whole ticks that makes about eight of them."""
    return max(1, 10 ** math.floor(math.log10(highest)) if highest > 8 else 1)
