"""The sections of an experiment file that every experiment has."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from oialr_hpo.extension import Room
from oialr_hpo.optimization import check_optimizer_name
from oialr_hpo.section import Section, Share

OF_ALL_OPTIMIZERS = {
    "lr": "schedule.lr",
    "weight_decay": "training.weight_decay",
    "momentum": "training.momentum",
    "params": "the network",
}

COMPILE_SECONDS = 60.0
"""What compiling may add to a rehearsal."""


class Training(Section):
    """The training loop."""

    epochs: int = Field(ge=1, description="of a run")
    batch_size: int = Field(ge=1, description="samples of a batch, which --ranks-per-trial shares out")
    accumulation_steps: int = Field(1, ge=1, description="so many batches make one optimizer step together")
    optimizer: str = Field(
        "adamw", description="adamw, adam or sgd of torch, one of timm's factory, or package.module:Class"
    )
    optimizer_arguments: dict[str, Any] = Field({}, description="its own, such as {betas: [0.9, 0.98]}")
    weight_decay: float = Field(0.01, ge=0, description="of the optimizer")
    decay_bias_and_norm: bool = Field(True, description="false: only matrices, and not those that a network exempts")
    layer_decay: float = Field(1.0, gt=0, le=1, description="learning rate of a layer, as a share of the next one's")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD, and of other optimizers that have one")
    clip_grad_norm: float = Field(0.0, description="largest gradient norm; 0 or less: off")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="measure an average of the weights, w = d w + (1 - d) new")
    precision: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="auto: bfloat16 on a GPU; on a CPU `check` says if it pays"
    )
    compile: bool = Field(False, description="steps by torch.compile; seconds of compiling at first and at cuts")
    patience: int | None = Field(None, ge=1, description="epochs without a better score before the run ends")
    track: int = Field(0, ge=0, description="compare all weights with so many epochs before (paper: 5); 0: off")

    @field_validator("optimizer")
    @classmethod
    def _exists(cls, name: str) -> str:
        return check_optimizer_name(name)

    @field_validator("optimizer_arguments")
    @classmethod
    def _are_no_settings(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        for name, setting in OF_ALL_OPTIMIZERS.items():
            if name in arguments:
                raise ValueError(f"{name} is set as {setting}")
        return arguments


SAMPLERS = Room("oialr_hpo.samplers", "sampler")
"""Of which here only the names are known: it lies above."""


LOGGERS = Room("oialr_hpo.loggers", "logger")
"""As above."""


class Sampler(Section):
    """Who proposes the next settings, and how. What is null is chosen to suit the number of workers and goals."""

    name: Annotated[str, SAMPLERS] | None = Field(
        default=None, description="null: evolution over MPI, else tpe; nsga2 for several goals"
    )
    population: int | None = Field(
        default=None, ge=2, le=100_000, description="parents to breed from; of NSGA-II and CMA-ES: a generation"
    )
    crossover: float = Field(default=0.5, ge=0, le=1, description="probability that a child has two parents")
    mutation: float = Field(default=1.0, gt=0, description="expected mutated genes of the most cautious children")
    random: float = Field(default=0.1, ge=0, le=1, description="share of the children that are drawn uniformly")


class Islands(Section):
    """How the MPI ranks are grouped; every island breeds from the trials of its own ranks and from immigrants."""

    count: int | None = Field(default=None, ge=1, description="null: one per 16 ranks")
    migration: float = Field(
        default=0.9, ge=0, le=1, description="per island and finished generation, the chance to send some"
    )


class EarlyStopping(Section):
    """Asynchronous successive halving, aware of a method's change-over; see oialr_hpo.engines.early_stopping."""

    enabled: bool = Field(default=True, description="false: every trial is trained to its end")
    factor: float = Field(default=2.0, gt=1, description="at every rung one trial in so many goes on")
    rungs: list[Share] = Field(default=[0.67], min_length=1, description="shares of the run at which trials are judged")
    recovery: float = Field(
        default=0.1, ge=0, le=1, description="share of the run after the change-over without judgement"
    )
    minimum: int = Field(default=4, ge=1, description="trials to compare with; with fewer, a trial goes on")


NOISE_REPEATS = 3
"""So many trainings of finalists tell the noise of a score."""


class Finalists(Section):
    """The best few settings are trained again with fresh seeds, since a score is luck in part; see
    oialr_hpo.engines.finalists."""

    count: int | None = Field(
        default=None, ge=0, description="settings that the race begins with; null: half as many as trainings; 0: none"
    )
    share: Share = Field(default=0.25, description="of the search's trials, and of its time limit, that this takes")

    def budget(self, trials: int) -> int:
        """Trainings of finalists among so many trials; 0 where two settings could not be compared."""
        budget = int(self.share * trials)
        return 0 if self.count == 0 or budget < 2 else budget


MOST_THREADS = 4096
"""Of a training on a CPU."""


class Evidence(BaseModel):
    """What `train` reads of where exported settings come from."""

    model_config = ConfigDict(extra="allow", strict=True)

    score: float | None = None
    trial: int | None = None
    seed: int | None = None
    threads: int | None = Field(None, ge=1, le=MOST_THREADS)
    untuned: dict[str, Any] = {}


def seconds(duration: str) -> float:
    """Seconds of a duration such as 90s, 30m, 4h or 1d.

    Raises:
        ValueError: it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", duration)
    if not match or float(match[1]) <= 0:
        raise ValueError(f"{duration!r} is not a duration; write 90s, 30m, 4h or 1d")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
