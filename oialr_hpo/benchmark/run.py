"""`python -m oialr_hpo.benchmark run`: a whole OIALR training of the mini ViT against the dense one, in wall time.

Both networks train side by side, a step each in turn on the same random images, so that a slow moment of the machine
hits both. The schedule is the paper's in shares of the run: change-over after a third, updates every 500 of 14,700
steps, a tenth of the layers more each time. The run is shorter than the paper's, and `--cutoff` larger, since singular
values have less time to spread. Updates are as many as in the paper, so that their SVDs, and the observations of
stability (an epoch has 49 steps), weigh more in this run than in the paper's: the last lines take that apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch

from oialr_hpo.benchmark.measure import add_machine_options, keep_freed_memory, print_table, seconds
from oialr_hpo.benchmark.step import adamw, classifying, mini_vit, training_step
from oialr_hpo.commands import Parser, command, positive
from oialr_hpo.oialr import OIALR
from oialr_hpo.oialr.stability import Tracker

PAPER_STEPS, PAPER_FREQUENCY, EPOCH = 14_700, 500, 49


def train(depth: int, width: int, steps: int, cuts: dict[str, Any], batch: int, device: str, bf16: bool) -> None:
    dense, network = mini_vit(depth, width).to(device), mini_vit(depth, width).to(device)
    optimizer = adamw(network, device)
    frequency = max(1, round(steps * PAPER_FREQUENCY / PAPER_STEPS))
    oialr = OIALR(network, optimizer, delay=steps // 3, frequency=frequency, include=["blocks.*"], **cuts)
    torch.manual_seed(0)
    loss_of = classifying(batch, device)
    dense_step = training_step(dense, adamw(dense, device), loss_of, device, bf16)
    step = training_step(network, optimizer, loss_of, device, bf16)
    observed = [seconds(lambda: Tracker(network, [layer.name for layer in oialr.report if not layer.reason]))]
    dense_step(), step()  # warms up

    rows = [("step", "mean rank", "total %", "trainable %", "dense s/step", "oialr s/step", "update s")]
    dense_times, times, updates = [], [], []
    for t in range(1, steps + 1):
        dense_times.append(seconds(dense_step))
        times.append(seconds(step))
        changing = seconds(oialr.step)
        if t >= steps // 3 and (t == steps // 3 or t % frequency == 0):
            updates.append(changing)
            recent = slice(-frequency, None)
            rows.append(
                (
                    str(t),
                    f"{fmean(oialr.ranks.values()):.0f}",
                    f"{oialr.total_percent:.1f}",
                    f"{oialr.trainable_percent:.2f}",
                    f"{fmean(dense_times[recent]):.3g}",
                    f"{fmean(times[recent]):.3g}",
                    f"{changing:.3g}",
                )
            )
    observed.append(seconds(lambda: Tracker(network, list(oialr.ranks))))

    print_table(rows)
    whole_dense, whole, svds = sum(dense_times), sum(times), sum(updates)
    at_length = (whole + svds * steps / PAPER_STEPS) / whole_dense
    tracked = fmean(observed) / (EPOCH * fmean(times))
    print(f"\ndense {whole_dense:.3g} s; oialr {whole + svds:.3g} s, of which {svds:.3g} s change-over and updates")
    print(f"trainable parameters at the end: {oialr.trainable_percent:.2f} % of the dense network's")
    print(f"oialr / dense: {(whole + svds) / whole_dense:.3f} as run, {whole / whole_dense:.3f} without updates,")
    print(f"    {at_length:.3f} with as many updates in {PAPER_STEPS} steps")
    print(f"stability: an observation of the dense network takes {observed[0]:.3g} s, at the end {observed[1]:.3g} s;")
    print(f"    one in {EPOCH} steps takes {tracked:.1%} of the time of oialr's steps")


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark run", __doc__, "--steps 45 --cutoff 0.7")
    parser.add_argument("--depth", type=positive, default=6, help="blocks of the ViT; the paper's has 6")
    parser.add_argument("--width", type=positive, default=768, help="a multiple of its 6 heads; the paper's has 768")
    parser.add_argument("--steps", type=positive, default=60)
    parser.add_argument("--cutoff", type=float, default=0.4, help="beta")
    parser.add_argument("--first-cutoff", type=float, default=0.0, help="the same for all layers at the change-over")
    parser.add_argument("--energy", type=float, default=1.0, help="share of the squared singular values that is kept")
    parser.add_argument("--step-fraction", type=float, default=0.1, help="alpha")
    parser.add_argument("--batch", type=positive, default=128)
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    add_machine_options(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print(f"mini ViT, {options.steps} steps, batch {options.batch}, {options.threads} threads, {options.device}")
    cuts = {name: getattr(options, name) for name in ("cutoff", "first_cutoff", "energy", "step_fraction")}
    train(options.depth, options.width, options.steps, cuts, options.batch, options.device, options.bf16)
