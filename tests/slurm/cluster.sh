#!/usr/bin/env bash
# A real Slurm on this machine, two virtual nodes n1 and n2 with 4 CPUs and 2 pretended GPUs each: what run.sh tests with.
#   cluster.sh up DIR      # as root, after: apt-get install --no-install-recommends slurm-wlm munge; DIR: short and empty
#   export SLURM_CONF=DIR/slurm.conf; sbatch ...
#   cluster.sh down DIR    # stops what it started
set -euo pipefail

up() {
    mkdir -p "$dir"/{munge,state,spool/n1,spool/n2,tmp/n1,tmp/n2,log,run,dev}
    chmod 755 "$dir" "$dir/munge"
    for gpu in 0 1; do
        [ -c "$dir/dev/nvidia$gpu" ] || mknod "$dir/dev/nvidia$gpu" c 1 3 # twins of /dev/null
    done
    # Job numbers of its own: MPICH names its shared memory after the job, and what a killed one of an earlier cluster
    # left there may make the next of that number hang.
    cat >"$dir/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
TmpFS=$dir/tmp/%n
FirstJobId=$((1000 + RANDOM))
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
GresTypes=gpu
MailProg=/bin/true
PlugStackConfig=$dir/plugstack.conf
NodeName=n1 NodeHostname=n1 NodeAddr=127.0.1.1 Port=$((port + 1)) CPUs=4 CoresPerSocket=4 RealMemory=4000 Gres=gpu:2
NodeName=n2 NodeHostname=n2 NodeAddr=127.0.1.2 Port=$((port + 2)) CPUs=4 CoresPerSocket=4 RealMemory=4000 Gres=gpu:2
PartitionName=main Nodes=n[1-2] Default=YES
END
    cat >"$dir/gres.conf" <<END
AutoDetect=off
NodeName=n[1-2] Name=gpu File=$dir/dev/nvidia[0-1]
END
    : >"$dir/plugstack.conf"
    printf '127.0.0.1 localhost %s\n127.0.1.1 n1\n127.0.1.2 n2\n' "$(hostname -s)" >"$dir/hosts"

    (umask 077 && head -c 1024 /dev/urandom >"$dir/munge/key")
    munged --key-file="$dir/munge/key" --socket="$dir/munge/socket" --log-file="$dir/munge/log" \
        --pid-file="$dir/run/munged.pid" --seed-file="$dir/munge/seed"
    export SLURM_CONF=$dir/slurm.conf
    slurmctld -c -f "$SLURM_CONF"
    for node in n1 n2; do # with a host name of its own, so that MPI takes them for two machines
        # shellcheck disable=SC2016
        unshare --uts --mount --propagation private bash -c \
            'hostname "$1" && mount --bind "$2/hosts" /etc/hosts && exec slurmd -N "$1" -f "$2/slurm.conf"' _ "$node" "$dir"
    done
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --Node --states=idle --format=%N | sort -u | wc -l)" = 2 ] && return
        sleep 0.5
    done
    echo "error: the nodes did not come up; see $dir/log" >&2
    exit 1
}

down() {
    SLURM_CONF=$dir/slurm.conf timeout 10 scancel --user="$(id -un)" || true
    sleep 1
    for daemon in slurmd.n1 slurmd.n2 slurmctld munged; do
        pid=$(cat "$dir/run/$daemon.pid" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
}

dir=$(realpath -m "$2")
port=${PORT:-16917} # not Slurm's own 6817: a real one may be running
"$1"
