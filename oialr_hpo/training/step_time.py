"""How long optimizer steps take, on the device that makes them; waiting for batches is left out."""

import time
from typing import Any

import torch


class StepTime:
    """A watch that runs from `go` to `stop`; on a GPU it is the GPU's own.

    Attributes:
        seconds, steps: so far, as `settle` has added them up.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._marks: list[Any] = []
        self.seconds, self.steps = 0.0, 0

    def go(self) -> None:
        self._marks.append(self._mark())

    stop = go  # marks come in pairs

    def settle(self, steps: int) -> None:
        """Add up what ran, and the steps that were made in it. A GPU is waited for."""
        begun, ended = self._marks[::2], self._marks[1::2]
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            self.seconds += sum(one.elapsed_time(other) for one, other in zip(begun, ended, strict=True)) / 1000
        else:
            self.seconds += sum(ended) - sum(begun)
        self.steps += steps
        self._marks.clear()

    def metrics(self) -> dict[str, float]:
        return {"step_milliseconds": 1000 * self.seconds / self.steps} if self.steps else {}

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds, self.steps = state["seconds"], state["steps"]

    def _mark(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
