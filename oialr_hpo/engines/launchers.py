"""What the environment says about who started this process, read before MPI is touched."""

import os

# Set by the launchers of MPICH, Open MPI and Slurm for every process they start, the innermost launcher's first.
RANK = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")
SIZE = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
SLURM_STEP, SLURM_RANK = "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"


def launched() -> bool:
    """Whether an MPI launcher or srun started this process."""
    return any(name in os.environ for name in (*RANK, SLURM_STEP))


def ranks() -> int | None:
    """How many processes the launcher started, as far as it says."""
    given = [os.environ[name] for name in (*SIZE, SLURM_STEP) if name in os.environ]
    return int(given[0]) if given else None


def rank() -> int:
    """Number of this process among them."""
    names = (*RANK, SLURM_RANK) if launched() else ()
    return int(next((os.environ[name] for name in names if name in os.environ), 0))
