"""`python -m oialr_hpo.benchmark record NAME`: trainings of an experiment, whole curves, for `benchmark economy`.

The experiment's own starts come first. A third of the settings are drawn at random, the others are proposed, by TPE and
then by our evolution, as searches would propose them. Each is trained anew with every further seed. Nothing is stopped
early. The run directories are kept, and the same command goes on with them; when all have ended, `FILE` holds the
curves, see `oialr_hpo.benchmark.records`.
"""

from collections.abc import Sequence
from pathlib import Path

from oialr_hpo import experiment as experiments
from oialr_hpo.benchmark.records import Records, built_in
from oialr_hpo.commands import INTERRUPTED, Parser, command, path, positive
from oialr_hpo.engines.search import run
from oialr_hpo.engines.signals import StopRequest
from oialr_hpo.experiment import Experiment
from oialr_hpo.runs.directory import RunDirectory

REDUCED = {
    "vit_cifar": [
        *("data.train_images=2000", "data.validation_fraction=0.02", "training.epochs=10", "training.batch_size=50"),
        *("model.arguments.embed_dim=48", "model.arguments.depth=2", "model.arguments.num_heads=3"),
    ]
}
"""What makes an experiment small enough that hundreds of its trainings take less than an hour on two cores."""
SAMPLERS = ("random", "tpe", "evolution")


@command
def main(arguments: Sequence[str]) -> None:
    parser = Parser("benchmark record", __doc__, "vit_digits --settings 100 --jobs 2")
    parser.add_argument("name", metavar="NAME", help="vit_digits; vit_cifar, much reduced; or another experiment")
    parser.add_argument("--settings", type=positive, default=600, metavar="N")
    parser.add_argument("--seeds", type=positive, default=3, metavar="K", help="trainings of each")
    parser.add_argument("--jobs", type=positive, default=1, metavar="K", help="trainings at a time")
    parser.add_argument("--out", type=path, metavar="DIR", help="run directories (default: runs/record-NAME)")
    parser.add_argument("--file", type=path, metavar="FILE", help="default: the one that the package ships")
    parser.add_changes()
    parser.add_data_directories()
    options = parser.parse_args(arguments)
    out = options.out or Path("runs") / f"record-{options.name}"
    whole = ["early_stopping.enabled=false", "dense_baseline=false", "finalists.count=0"]
    recorded = experiments.load(options.name, [*REDUCED.get(options.name, []), *options.set, *whole])
    stop = StopRequest()

    def train(experiment: Experiment, directory: Path) -> RunDirectory:
        resume = (directory / "experiment.yaml").exists()
        trained = run(
            experiment, out=directory, engine="optuna", jobs=options.jobs, resume=resume, data_dir=options.data_dir,
            stop=stop,
        )  # fmt: skip
        if stop.received or sum(trial.finished for trial in trained.trials()) < experiment.trials:
            print(f"interrupted; the same command goes on in {out}")
            raise SystemExit(INTERRUPTED)
        return trained

    runs = [RunDirectory(out / "seed-0")]
    for part, sampler in enumerate(SAMPLERS, 1):
        budget = {"trials": options.settings * part // len(SAMPLERS), "sampler.name": sampler}
        if not (runs[0].used and len(runs[0].trials()) > budget["trials"]):
            train(recorded.with_settings(budget), runs[0].path)
    settings = [trial.settings for trial in runs[0].trials()]
    for seed in range(1, options.seeds):
        again = {"trials": len(settings), "seed": seed * 10**6, "sampler.name": "random"}
        again_all = recorded.with_settings(again).model_copy(update={"start_from": settings})
        runs.append(train(again_all, out / f"seed-{seed}"))
    file = options.file or built_in(options.name)
    Records.of(runs).save(file)
    print(f"{len(settings)} settings by {options.seeds} seeds: {file}")
