"""What loaders, labels, outputs and accuracies may be: each is understood, or refused in one line."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from oialr_hpo.utilization import Accuracy, Utilization, analyse
from tests.utilization.conftest import Batches

TOLERANCE = 1.0


def few(batches: Batches) -> Batches:
    return [(images[:40], labels[:40]) for images, labels in batches[:2]]


@pytest.fixture(scope="module")
def given(batches: tuple[Batches, Batches]) -> tuple[Batches, Batches]:
    return few(batches[0]), few(batches[1])


@pytest.fixture(scope="module")
def expected(convolutional: nn.Module, given: tuple[Batches, Batches]) -> list[Any]:
    return summary(analyse(convolutional, given[0], Accuracy(given[1]), TOLERANCE))


def summary(found: Utilization) -> list[Any]:
    return [(layer.k_s, layer.k_t, layer.utilized_rank) for layer in found.layers]


class Remembering:
    """Looks like a loader, but hands out the same iterator each time."""

    def __init__(self, batches: Batches) -> None:
        self._batches = iter(batches)

    def __iter__(self) -> Iterator[Any]:
        return self._batches


def loader(batches: Batches, **options: Any) -> DataLoader:
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return DataLoader(TensorDataset(images, labels), batch_size=40, **options)


@pytest.mark.parametrize(
    "form",
    [
        iter,
        lambda batches: (batch for batch in batches),
        lambda batches: map(tuple, batches),
        lambda batches: zip(*zip(*batches, strict=True), strict=True),
        lambda batches: [list(batch) for batch in batches],
        lambda batches: [(*batch, "a name") for batch in batches],
        lambda batches: [*batches, (batches[0][0][:0], batches[0][1][:0])],
        lambda batches: [(batches[0][0][:0], batches[0][1][:0]), *batches],
        loader,
    ],
)  # fmt: skip
def test_any_form_of_the_same_batches_gives_the_same_ranks(
    form: Callable[[Batches], Any], convolutional: nn.Module, given: tuple[Batches, Batches], expected: list[Any]
) -> None:
    """Gram matrices of one layer at a time, so that the loader is read four times."""
    found = analyse(convolutional, form(given[0]), Accuracy(form(given[1])), TOLERANCE, gram_bytes=1)
    assert summary(found) == expected
    accuracy = Accuracy(form(given[1]))
    assert accuracy(convolutional) == accuracy(convolutional) == found.original_accuracy


def test_inputs_alone_are_batches_too_and_their_order_does_not_matter(
    convolutional: nn.Module, given: tuple[Batches, Batches], expected: list[Any]
) -> None:
    alone = (images for images, _ in reversed(given[0]))
    assert summary(analyse(convolutional, alone, Accuracy(given[1]), TOLERANCE)) == expected
    shuffled = loader(given[0], shuffle=True, generator=torch.Generator().manual_seed(0))
    assert summary(analyse(convolutional, shuffled, Accuracy(given[1]), TOLERANCE, gram_bytes=1)) == expected


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda batches: [], "the loader gives no inputs; is its data set empty?"),
        (lambda batches: iter(()), "the loader gives no inputs"),
        (lambda batches: [batches[0][0][:0]], "the loader gives no inputs"),
        (Remembering, "the loader gives no inputs when read again; give a list of batches"),
        (lambda batches: Accuracy(batches), "a Accuracy holds no batches; give a list of them, or a DataLoader"),
        (lambda batches: [{"pixels": batches[0][0]}], "begins with it, not a dict"),
        (lambda batches: [({"pixels": batches[0][0]}, batches[0][1])], r"not \(dict, Tensor\)"),
        (lambda batches: [batches[0][0].numpy()], "not a ndarray"),
        (lambda batches: [()], r"not \(\)"),
        (
            lambda batches: loader(batches).dataset,
            "one sample is no batch; give batches, such as those of a DataLoader",
        ),
        (lambda batches: [(batches[0][0][0], 3)], "one sample is no batch"),
    ],
)
def test_other_loaders_are_refused(
    form: Callable[[Batches], Any], message: str, convolutional: nn.Module, given: tuple[Batches, Batches]
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        analyse(convolutional, form(given[0]), Accuracy(given[1]), TOLERANCE, gram_bytes=1)
    assert "\n" not in str(caught.value)


def labels_as(change: Callable[[Tensor], Any]) -> Callable[[Batches], Any]:
    return lambda batches: [(images, change(labels)) for images, labels in batches]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (labels_as(lambda labels: labels[:, None]), r"one for each of 40 inputs, not int64 \(40, 1\)"),
        (labels_as(lambda labels: nn.functional.one_hot(labels, 10)), r"not int64 \(40, 10\)"),
        (labels_as(lambda labels: labels.float()), r"not float32 \(40,\)"),
        (labels_as(lambda labels: labels > 4), r"not bool \(40,\)"),
        (labels_as(lambda labels: labels[1:]), r"not int64 \(39,\)"),
        (labels_as(lambda labels: labels.tolist()), r"not \(Tensor, list\)"),
        (labels_as(lambda labels: labels + 1), "labels from . to 10 for a network of 10 classes"),
        (labels_as(lambda labels: labels - 1), "labels from -1 to . for a network of 10 classes"),
        (lambda batches: [images for images, _ in batches], "a tuple of inputs and labels, not a Tensor"),
        (lambda batches: loader(batches).dataset, "one sample is no batch"),
        (lambda batches: [], "the batches hold no image; is the data set empty, or what gives them used up?"),
        (lambda batches: 3, "a int holds no batches"),
    ],
)
@pytest.mark.parametrize("directly", [True, False])
def test_other_labels_are_refused(
    form: Callable[[Batches], Any],
    message: str,
    directly: bool,
    convolutional: nn.Module,
    given: tuple[Batches, Batches],
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        accuracy = Accuracy(form(given[1]))
        accuracy(convolutional) if directly else analyse(convolutional, given[0], accuracy, TOLERANCE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_labels_of_any_whole_type_are_understood(
    dtype: torch.dtype, convolutional: nn.Module, given: tuple[Batches, Batches], expected: list[Any]
) -> None:
    labelled = labels_as(lambda labels: labels.to(dtype))(given[1])
    assert summary(analyse(convolutional, given[0], Accuracy(labelled), TOLERANCE)) == expected


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.inner(x))


@pytest.mark.parametrize(
    "change", [lambda y: (y, y), lambda y: {"logits": y}, lambda y: y[..., None], lambda y: y[:, 0]]
)
def test_networks_of_other_outputs_are_refused(
    change: Callable[[Tensor], Any], convolutional: nn.Module, given: tuple[Batches, Batches]
) -> None:
    with pytest.raises(
        ValueError, match=r"Accuracy: the network gives .*, not \(40, classes\); give a function instead"
    ):
        analyse(Wrapped(convolutional, change), given[0], Accuracy(given[1]), TOLERANCE)


class Augmented(TensorDataset):
    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return image + 0.1 * torch.randn(()), label


def test_batches_that_differ_when_read_again_are_refused(
    convolutional: nn.Module, given: tuple[Batches, Batches]
) -> None:
    torch.manual_seed(0)
    images, labels = (torch.cat(parts) for parts in zip(*given[1], strict=True))
    same_class = TensorDataset(images - images.mean((1, 2, 3), keepdim=True), torch.zeros_like(labels))
    for data, shuffle in (
        (TensorDataset(images, labels), True),
        (same_class, True),
        (Augmented(images, labels), False),
    ):
        with pytest.raises(ValueError, match="read again, the batches differ; give them without shuffling and random"):
            accuracy = Accuracy(DataLoader(data, batch_size=40, shuffle=shuffle))
            analyse(convolutional, given[0], accuracy, TOLERANCE)


@pytest.mark.parametrize(
    "form",
    [
        lambda top1: torch.tensor(top1),
        lambda top1: torch.tensor([top1]),
        lambda top1: np.float32(top1),
        lambda top1: np.array(top1),
        lambda top1: top1,
    ],
)
def test_an_accuracy_may_be_any_number(
    form: Callable[[float], Any], convolutional: nn.Module, given: tuple[Batches, Batches], expected: list[Any]
) -> None:
    accuracy = Accuracy(given[1])
    assert summary(analyse(convolutional, given[0], lambda network: form(accuracy(network)), TOLERANCE)) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.97, "evaluate gave 0.97, which as percent is too little .* let it give 100 times as much"),
        (1.0, "evaluate gave 1, which"), (1, "evaluate gave 1, which"), (True, "evaluate gave 1, which"),
        (0.0, "evaluate gave 0, which"), (torch.tensor(0.5), "evaluate gave 0.5, which"),
        (float("nan"), "evaluate gave nan; it is to give the accuracy in percent, a number from 0 to 100"),
        (-0.3, "evaluate gave -0.3; "), (137.2, "evaluate gave 137.2; "), (float("inf"), "evaluate gave inf; "),
        (None, "evaluate gave None; "), ("97", "evaluate gave '97'; "),
        ((97.0, 99.0), r"evaluate gave \(97.0, 99.0\); "),
        ({"top1": 97.0}, "evaluate gave {'top1': 97.0}; "), (torch.ones(3, 200), "evaluate gave tensor"),
    ],
)  # fmt: skip
def test_what_is_no_percent_is_refused(
    value: Any, message: str, convolutional: nn.Module, given: tuple[Batches, Batches]
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        analyse(convolutional, given[0], lambda network: value, TOLERANCE)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_what_turns_into_no_number_later_is_refused_too(
    convolutional: nn.Module, given: tuple[Batches, Batches]
) -> None:
    answers = iter([97.0, 96.5, 0.4, float("nan")])
    with pytest.raises(ValueError, match="evaluate gave nan; "):
        analyse(convolutional, given[0], lambda network: next(answers), TOLERANCE)


def test_a_tolerance_that_is_no_number_is_refused(convolutional: nn.Module, given: tuple[Batches, Batches]) -> None:
    for tolerance in (float("nan"), -0.1):
        with pytest.raises(ValueError, match="must be 0 or more"):
            analyse(convolutional, given[0], Accuracy(given[1]), tolerance)


class Dead(nn.Module):
    """Beside the layers that work, one whose inputs are always zero."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.unused = inner, nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y + self.unused(torch.zeros_like(y))


def test_a_layer_that_only_zeros_reach_is_left_out_and_says_so(
    convolutional: nn.Module, given: tuple[Batches, Batches]
) -> None:
    network = Dead(convolutional).eval()
    found = analyse(network, given[0], Accuracy(given[1]), TOLERANCE)
    assert found.skipped == {"unused": "only zeros reach it"} and len(found.layers) == 4
    assert torch.equal(found.model.unused.weight, network.unused.weight)
    zeros = [torch.zeros(4, 10)]
    with pytest.raises(ValueError, match="only zeros reach the layers of Sequential; is the data right?"):
        analyse(nn.Sequential(nn.Linear(10, 10)), zeros, lambda network: 50.0)


def test_an_evaluation_that_switches_to_training_changes_no_rank(
    convolutional: nn.Module, given: tuple[Batches, Batches], expected: list[Any]
) -> None:
    accuracy = Accuracy(given[1])

    def evaluate(network: nn.Module) -> float:
        top1 = accuracy(network.eval())
        network.train()
        return top1

    assert summary(analyse(convolutional, given[0], evaluate, TOLERANCE)) == expected
