#!/usr/bin/env bash
# The launch scripts and the example on a real Slurm with two virtual nodes, about seven minutes on two CPU cores. As root, on Debian after
#   apt-get install --no-install-recommends slurm-wlm munge
#   bash tests/slurm/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
for program in munged slurmctld slurmd sbatch unshare; do
    command -v "$program" >/dev/null || { echo "error: no $program; apt-get install slurm-wlm munge" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "error: the virtual nodes need root" >&2; exit 1; }
python -c 'import mpi4py, oialr_hpo, pytest, torch' 2>/dev/null || source launch/environment.sh

cluster=$(mktemp -d /tmp/slXXXX) # short: munge's socket lies in it
trap 'bash tests/slurm/cluster.sh down "$cluster"; rm -rf "$cluster"' EXIT
bash tests/slurm/cluster.sh up "$cluster"
export SLURM_CONF=$cluster/slurm.conf
python -m pytest -p no:cacheprovider tests/slurm/jobs.py "$@"
