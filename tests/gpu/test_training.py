"""Trainings and searches on a GPU: resumed, shared by workers, out of memory."""

from pathlib import Path

import pytest
import torch

from oialr_hpo import search
from oialr_hpo.experiment import load
from oialr_hpo.methods import Loop
from oialr_hpo.runs.trial import State
from oialr_hpo.tasks.image_classification.augmentation import TrainAugmentation
from oialr_hpo.training import devices
from oialr_hpo.training.data_parallel import Replicas
from oialr_hpo.training.loop import attach
from oialr_hpo.training.objective import build_task, evaluate
from oialr_hpo.training.optimizer import make_optimizer
from oialr_hpo.training.step import Stepper
from tests.gpu.test_method import no_waiting
from tests.tiny_task import tiny

SMALL = ["training.epochs=3", "data.train_images=320"]


def test_workers_take_the_gpus_in_turn(gpu: torch.device) -> None:
    assert devices.choose(0) == gpu == devices.choose(torch.cuda.device_count())
    assert devices.name(gpu) == torch.cuda.get_device_name(0)
    reported = devices.report([0, torch.cuda.device_count()])
    first, second = reported["workers"]
    assert reported["built"].startswith(("CUDA", "ROCm")) and reported["gpus"] == torch.cuda.device_count()
    assert first["identity"] == second["identity"] and first["memory"] > 0 and "error" not in first


def test_precision_auto_means_bfloat16(gpu: torch.device) -> None:
    with devices.autocast(gpu, "auto"):
        assert (torch.ones(2, 2, device=gpu) @ torch.ones(2, 2, device=gpu)).dtype is torch.bfloat16


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_an_interrupted_training_goes_on_with_the_same_numbers(
    precision: str, gpu: torch.device, tmp_path: Path
) -> None:
    """To the bit is promised on a CPU only; dropout is drawn on, so that the GPU's generator has to be restored too."""
    experiment = tiny(**{"training.precision": precision, "training.ema_decay": 0.7, "model.dropout": 0.3})
    unbroken = list(evaluate(experiment, seed=3))
    checkpoint = tmp_path / "checkpoint.pt"
    first = evaluate(experiment, seed=3, checkpoint=checkpoint)
    records = [next(first), next(first)]
    with pytest.raises(StopIteration):
        first.send("interrupt")
    torch.manual_seed(99)  # as another trial would
    records += evaluate(experiment, seed=3, checkpoint=checkpoint)
    assert [record["ranks"] for record in records] == [record["ranks"] for record in unbroken]
    for key in ("train_loss", "mse"):
        assert [record[key] for record in records] == pytest.approx([record[key] for record in unbroken], rel=1e-3)
    assert unbroken[0]["device"] == devices.name(gpu)


def test_a_checkpoint_of_a_gpu_goes_on_elsewhere(
    gpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, where no other GPU is."""
    checkpoint = tmp_path / "checkpoint.pt"
    first = evaluate(tiny(), seed=3, checkpoint=checkpoint)
    next(first)
    with pytest.raises(StopIteration):
        first.send("interrupt")
    monkeypatch.setattr(devices, "choose", lambda index: torch.device("cpu"))
    records = list(evaluate(tiny(), seed=3, checkpoint=checkpoint))
    assert [record["epoch"] for record in records] == [2, 3, 4] and records[-1]["device"] == "cpu"


@pytest.mark.parametrize("compiled", ["false", "true"])
def test_a_training_step_with_its_batch_never_waits_for_the_gpu(compiled: str, gpu: torch.device) -> None:
    changes = ["oialr.delay=2", "oialr.frequency=1000", "training.epochs=100", f"training.compile={compiled}"]
    experiment = load("vit_digits", changes).fixed()
    task = build_task(experiment, seed=0, device=gpu, data_dir=None)
    model = task.build_model().to(gpu)
    optimizer = make_optimizer(model, experiment.training, 1e-3)
    method = attach(experiment, Loop(model, optimizer, task.loss, 2000, 20, [], iter))
    stepper = Stepper(model, method, experiment.training, gpu, Replicas())
    batches = iter(task.train_batches(1))

    def train(count: int) -> None:
        for _ in range(count):
            stepper.step(batches, 1)

    train(4)
    assert method.layers()
    with no_waiting():
        train(4)


def test_the_augmentation_never_waits_for_the_gpu_and_gives_the_cpus_images(gpu: torch.device) -> None:
    images = torch.randint(256, (64, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augmentation = TrainAugmentation([0.5] * 3, [0.25] * 3, random_erasing=0.0)
    on_cpu = augmentation(images, torch.Generator().manual_seed(1))
    resident, erasing = images.to(gpu), TrainAugmentation([0.5] * 3, [0.25] * 3)
    erasing(resident, torch.Generator().manual_seed(1))
    with no_waiting():
        on_gpu = augmentation(resident, torch.Generator().manual_seed(1))
        erasing(resident, torch.Generator().manual_seed(1))
    off_by_more_than_one = ((on_gpu.cpu() - on_cpu).abs() > 1.01 / (255 * 0.25)).float().mean()
    assert off_by_more_than_one < 0.01  # rounding may turn over, and Equalize and Posterize make it larger


def test_two_workers_share_a_gpu(gpu: torch.device, tmp_path: Path) -> None:
    run = search.run("vit_digits", changes=[*SMALL, "trials=5"], out=tmp_path / "run", jobs=2)
    trials = run.trials()
    assert [trial.state for trial in trials] == [State.COMPLETE] * 5
    assert {trial.metrics["device"] for trial in trials} == {devices.name(gpu)}
    assert {trial.worker for trial in trials} == {0, 1}
    assert min(trial.metrics["top1"] for trial in trials) > 15


def test_out_of_memory_ends_a_trial_and_not_its_worker(gpu: torch.device, tmp_path: Path) -> None:
    run = search.run(
        "vit_digits", changes=["trials=6"], out=tmp_path / "run", jobs=1, objective="tests.gpu.objectives:greedy"
    )
    states = [trial.state for trial in run.trials()]
    assert states.count(State.OUT_OF_MEMORY) == 2 and states.count(State.COMPLETE) == 4
