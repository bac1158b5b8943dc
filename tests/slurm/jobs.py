"""The shipped sbatch files, submitted unchanged to the Slurm that run.sh starts; not part of the default suite."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from oialr_hpo.export import export
from oialr_hpo.runs.directory import RunDirectory
from oialr_hpo.runs.trial import State

ROOT = Path(__file__).parents[2]
SMALL = "--set training.epochs=2 --set model.arguments.depth=1 --set data.train_images=320"
SLOW = "--trials 2 --set training.epochs=60 --set model.arguments.depth=1 --set task=tests.slurm.slow:SlowDigits"
SLOW += " --set data.train_images=320 --set early_stopping.enabled=false --set dense_baseline=false"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


class Job:
    """A submitted script, in a directory, with the arguments that it reads itself."""

    def __init__(
        self, directory: Path, script: str, *options: str, cwd: Path = ROOT, arguments: str = "", **variables: str
    ):
        environment = directory / "env.sh"
        environment.write_text(
            "export MPIR_CVAR_CH4_NETMOD=ofi\n"  # UCX may find a bandwidth of 0 on an overloaded machine
            f'export PATH="{Path(sys.executable).parent}:$PATH"\n'
            f'STAGE_DIR="{directory}/local disk"\nLAUNCH=${{LAUNCH-srun --mpi=pmi2}}\nINTERPRETER=python\n'
        )
        self.log = directory / "job.log"
        done = subprocess.run(
            ["sbatch", "--parsable", f"--output={self.log}", *options, ROOT / "launch" / script, *arguments.split()],
            cwd=cwd,
            env=os.environ | {"OIALR_ENV": str(environment), "EXPERIMENT": "vit_digits"} | variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        self.number = done.stdout.strip()

    def show(self, name: str, task: str = "") -> str:
        told = subprocess.run(["scontrol", "show", "job", "-o", self.number + task], capture_output=True, text=True)
        found = re.search(rf"\b{name}=(\S+)", told.stdout)
        assert found, told.stderr
        return found[1]

    def wait(self, task: str = "", seconds: float = 600) -> str:
        """The state in which it ended."""
        wait_for(lambda: self.show("JobState", task) in ENDED, seconds, self.said)
        return self.show("JobState", task)

    def wait_for(self, text: str) -> None:
        wait_for(lambda: text in self.said(), 300, self.said)

    def signal(self, task: str = "") -> None:
        """Send what `--signal=B:USR1@120` sends two minutes before the time limit."""
        subprocess.run(["scancel", "--signal=USR1", "--batch", self.number + task], check=True)

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


def wait_for(condition: Callable[[], bool], seconds: float, explain: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.2)


TWO_BY_TWO = ("--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=1", "--gres=gpu:2", "--time=10")
ONE_BY_TWO = ("--ntasks=2", "--cpus-per-task=1", "--gres=gpu:2")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, Job]:
    directory = tmp_path_factory.mktemp("search")
    run = directory / "run"
    job = Job(directory, "slurm_multi_node.sbatch", *TWO_BY_TWO, RUN=str(run), OPTIONS=f"--trials 8 {SMALL}")
    assert job.wait() == "COMPLETED", job.said()
    return RunDirectory.open(run), job


def test_a_search_on_two_nodes(searched: tuple[RunDirectory, Job]) -> None:
    run, job = searched
    trials = run.trials()
    assert [trial.number for trial in trials] == list(range(8)) and all(trial.finished for trial in trials)
    assert len(list((run.path / "trials").glob("rank-*.jsonl"))) == 4
    assert "[8/8]" in job.said()
    assert job.show("Restarts") == "0" and "back to the queue" not in job.said()


def test_the_device_map(searched: tuple[RunDirectory, Job]) -> None:
    said = searched[1].said()
    assert "a message went round 4 ranks" in said
    rows = [line.split() for line in said.splitlines() if re.match(r" +\d  n[12] ", line)]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        *(("0", "n1", "0"), ("1", "n1", "1")),
        *(("2", "n2", "0"), ("3", "n2", "1")),
    ]
    assert [(row[4], row[5], row[6]) for row in rows] == [("1", "0,1", "cpu")] * 4
    for node in ("n1", "n2"):
        assert f"warning: {node}: GPUs 0,1 are given, but torch" in said
    assert "seen by rank 0" in said and "data: digits is ready" in said and "the search can run here" in said


@pytest.mark.parametrize("launch", ["mpirun -n 4", ""])
def test_other_launchers(tmp_path: Path, launch: str) -> None:
    """MPICH's own mpirun on two nodes, and no MPI on one."""
    script, options = ("multi", TWO_BY_TWO) if launch else ("single", ONE_BY_TWO)
    variables = {"RUN": str(tmp_path / "run"), "OPTIONS": f"--trials 4 {SMALL}", "LAUNCH": launch}
    job = Job(tmp_path, f"slurm_{script}_node.sbatch", *options, **variables)
    assert job.wait() == "COMPLETED", job.said()
    run = RunDirectory.open(tmp_path / "run")
    assert len(run.trials()) == 4
    assert run.environment["workers"] == (4 if launch else 2)


def test_the_wrong_mpi_is_refused(tmp_path: Path) -> None:
    job = Job(tmp_path, "slurm_multi_node.sbatch", *TWO_BY_TWO, RUN=str(tmp_path / "run"), LAUNCH="srun --mpi=none")
    assert job.wait() == "FAILED"
    assert job.said().count("error: the launcher started 4 processes, but to MPICH") == 1
    assert not (tmp_path / "run").exists()


def test_data_is_staged_on_every_node(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in range(10):
            (tmp_path / "data" / split / str(label)).mkdir(parents=True)
            Image.new("RGB", (32, 32), (label, 0, 0)).save(tmp_path / "data" / split / str(label) / "image.png")
    places = {"--out": "run", "--data-dir": "data", "--stage-dir": "local"}
    options = [f"{option}={tmp_path / name}" for option, name in places.items()]
    done = subprocess.run(
        ["srun", *TWO_BY_TWO, "--mpi=pmi2", sys.executable, "-m", "oialr_hpo.check", "vit_cifar", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"data: cifar10 is ready in {tmp_path}/local/oialr_hpo-" in done.stdout


def test_at_the_time_limit_the_search_is_saved_requeued_and_goes_on(tmp_path: Path) -> None:
    limit = ("--time=3", "--signal=B:USR1@60")
    job = Job(tmp_path, "slurm_single_node.sbatch", *ONE_BY_TWO, *limit, RUN=str(tmp_path / "run"), OPTIONS=SLOW)
    job.wait_for("back to the queue")
    interrupted = RunDirectory.open(tmp_path / "run").trials()
    assert {trial.state for trial in interrupted} == {State.INTERRUPTED}, job.said()
    reached = min(len(trial.epochs) for trial in interrupted)
    assert job.wait(seconds=900) == "COMPLETED", job.said()
    assert int(job.show("Restarts")) == job.said().count("back to the queue") >= 1
    assert "restart 0" in job.said() and "restart 1" in job.said()
    trials = RunDirectory.open(tmp_path / "run").trials()
    assert [trial.state for trial in trials] == [State.COMPLETE] * 2
    assert [[record["epoch"] for record in trial.epochs] for trial in trials] == [list(range(1, 61))] * 2
    events = "".join(file.read_text() for file in (tmp_path / "run" / "trials").iterdir())
    assert reached > 0 and events.count('"event": "epoch"') == 120  # no epoch was trained twice


def test_requeues_are_bounded(tmp_path: Path) -> None:
    variables = {"RUN": str(tmp_path / "run"), "OPTIONS": SLOW, "MAX_RESTARTS": "1"}
    job = Job(tmp_path, "slurm_single_node.sbatch", *ONE_BY_TWO, **variables)
    for restart in ("restart 0", "restart 1"):
        job.wait_for(restart)
        time.sleep(3)
        job.signal()
    assert job.wait() == "FAILED"
    assert job.show("Restarts") == "1"
    assert "after 1 restarts; submit again to go on" in job.said()


def test_a_search_that_is_cancelled_is_saved_and_not_requeued(tmp_path: Path) -> None:
    job = Job(tmp_path, "slurm_single_node.sbatch", *ONE_BY_TWO, RUN=str(tmp_path / "run"), OPTIONS=SLOW)
    trials = tmp_path / "run" / "trials"
    wait_for(lambda: sum('"event": "epoch"' in file.read_text() for file in trials.glob("*")) == 2, 300, job.said)
    subprocess.run(["scancel", job.number], check=True)
    assert job.wait() == "CANCELLED"
    wait_for(lambda: len(list((tmp_path / "run").glob("checkpoints/*.pt"))) == 2, 30, job.said)
    time.sleep(3)
    assert job.show("JobState") == "CANCELLED" and "back to the queue" not in job.said()


def test_exported_settings_are_trained_again_in_an_array(searched: tuple[RunDirectory, Job], tmp_path: Path) -> None:
    files = export(searched[0], 2)
    assert len(files) == 2
    variables = {"FILES": f"{files[0].parent}/*.yaml", "SEEDS": "5 6", "OUT": str(tmp_path / "again")}
    job = Job(tmp_path, "slurm_retrain.sbatch", "--array=0-4", "--cpus-per-task=1", **variables)
    assert [job.wait(f"_{task}") for task in range(5)] == ["COMPLETED"] * 4 + ["FAILED"]
    assert "no pair 4: 4 pairs" in job.said() and "submit with --array=0-3" in job.said()
    for place in (1, 2):
        for seed in (5, 6):
            (trial,) = RunDirectory.open(tmp_path / "again" / f"run-{place}-file-seed{seed}").trials()
            assert trial.state is State.COMPLETE and trial.seed == seed and "top1" in trial.metrics


def test_an_array_of_searches_with_several_seeds(tmp_path: Path) -> None:
    """The example: one that is interrupted goes on, and one that has ended is left alone, when submitted again."""

    def submit() -> Job:
        options = ("--array=0-1", "--cpus-per-task=2", "--open-mode=append")
        script, arguments = "../examples/slurm_array.sbatch", SLOW.replace("epochs=60", "epochs=10")
        return Job(tmp_path, script, *options, cwd=tmp_path, arguments=arguments, PYTHONPATH=str(ROOT))

    job, trials = submit(), tmp_path / "runs" / "vit_digits-seed0" / "trials"
    wait_for(lambda: sum('"event": "epoch"' in file.read_text() for file in trials.glob("*")) == 2, 300, job.said)
    job.signal("_0")
    assert (job.wait("_0"), job.wait("_1")) == ("FAILED", "COMPLETED"), job.said()
    assert "interrupted; the same command with --resume goes on" in job.said()
    again = submit()
    assert [again.wait(f"_{task}") for task in (0, 1)] == ["COMPLETED"] * 2, job.said()
    assert "all 2 trials have ended" in job.said()
    for seed in (0, 1):
        run = RunDirectory.open(tmp_path / "runs" / f"vit_digits-seed{seed}")
        assert [(trial.state, trial.seed) for trial in run.trials()] == [(State.COMPLETE, seed + n) for n in (0, 1)]
        events = "".join(file.read_text() for file in (run.path / "trials").iterdir())
        assert events.count('"event": "epoch"') == 20  # no epoch was trained twice
