# shellcheck shell=bash
# Copy to launch/env.sh and edit once per cluster; sourced by the Slurm scripts and workstation.sh.

# module load python/3.11 openmpi cuda
# shellcheck source=/dev/null
source "$HOME/oialr_hpo/.venv/bin/activate"

# Where data sets lie; without it they are downloaded, once, into ~/.cache/oialr_hpo.
# export OIALR_DATA=/shared/datasets

# A directory on every node's local disk: the data is copied there once per node. Empty: read where it lies.
STAGE_DIR=${STAGE_DIR-${TMPDIR:-/tmp}}

# How a command is started on all ranks. It must fit the MPI library that mpi4py finds; `oialr_hpo.check` tells.
#   srun --mpi=pmix          Open MPI
#   srun --mpi=pmi2          MPICH, and others of its kind
#   mpirun -n $SLURM_NTASKS  either, with its own launcher
#   (empty)                  no MPI: one node, Optuna's engine with a worker per task
LAUNCH=${LAUNCH-srun --mpi=pmix}

# In a container (container.def); the host's srun with --mpi=pmi2 starts the MPICH inside:
# INTERPRETER="apptainer exec --nv oialr_hpo.sif python"
INTERPRETER=${INTERPRETER:-python}
