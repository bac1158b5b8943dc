"""The learning rate over the training."""

import plotly.graph_objects as go

from oialr_hpo.methods import load_method
from oialr_hpo.optimization import rates
from oialr_hpo.report.facts import Facts, NothingToDraw
from oialr_hpo.report.look import BLUE, ORANGE

TITLE = "Learning rate of the best beside the untuned one"
SMALLER = {"ranks": "low rank", "widths": "fewer channels", "densities": "sparse weights"}


def draw(facts: Facts) -> tuple[go.Figure, str]:
    """As the paper's Figure 3: of the best trial and of the untuned settings, with their change-over."""
    if not facts.winners:
        raise NothingToDraw("No trial is complete and meets the constraints.")
    winner = facts.winners[0]
    per_epoch = winner.epochs[0].get("step") if winner.epochs else None
    if not per_epoch:
        raise NothingToDraw("The trials did not record their optimizer steps.")
    smaller = SMALLER[load_method(facts.experiment.method).of_layers]
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
        change_over = experiment.method_settings.change_over(total)
        if change_over and change_over < total:
            figure.add_scatter(
                x=[change_over / per_epoch],
                y=[values[change_over]],
                mode="markers",
                marker={"color": color, "size": 11, "symbol": "diamond"},
                name=f"goes over to {smaller}",
                showlegend=experiment is tuned,
                hovertemplate=f"{name}: {smaller} from step {change_over} on<extra></extra>",
            )
    figure.update_xaxes(title_text="epoch", rangemode="tozero")
    figure.update_yaxes(title_text="learning rate", rangemode="tozero", exponentformat="power")
    marked = "d, where" if smaller == "low rank" else "where"
    return figure, f"As the paper's Figure 3. The diamond marks {marked} the network goes over to {smaller}."
