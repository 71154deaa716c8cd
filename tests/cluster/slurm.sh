#!/bin/sh
# A SLURM of one node on this machine, without systemd and cgroups: slurm.sh check | start FOLDER | stop FOLDER
set -eu
check() {
    for program in munged slurmctld slurmd sbatch srun; do
        if ! command -v "$program" >/dev/null && ! [ -x "/usr/sbin/$program" ]; then
            echo "error: $program is not installed, so that nothing is tested with SLURM: apt-get install slurm-wlm munge" >&2
            exit 2
        fi
    done
    if [ "$(id -u)" != 0 ]; then
        echo "error: munged and slurmd are started as root, this is user $(id -un): sudo make test-cluster" >&2
        exit 2
    fi
}
start() {
    folder=$1 host=$(hostname -s)
    mkdir -p "$folder/munge" "$folder/spool" "$folder/state"
    dd if=/dev/urandom of="$folder/munge/key" bs=128 count=1 2>/dev/null
    chmod 0400 "$folder/munge/key"
    chmod 0755 "$folder" "$folder/munge"
    chown -R munge "$folder/munge"
    su -s /bin/sh munge -c "/usr/sbin/munged --force --key-file=$folder/munge/key --socket=$folder/munge/socket \
        --pid-file=$folder/munge/pid --log-file=$folder/munge/log --seed-file=$folder/munge/seed"
    cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
AuthInfo=socket=$folder/munge/socket
SlurmUser=root
SlurmdUser=root
SlurmctldPort=17817
SlurmdPort=17818
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
JobRequeue=1
ReturnToService=2
SchedulerParameters=sched_interval=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    SLURM_CONF=$folder/slurm.conf
    export SLURM_CONF
    /usr/sbin/slurmctld -f "$SLURM_CONF"
    /usr/sbin/slurmd -f "$SLURM_CONF"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        if sinfo -h -o %T 2>/dev/null | grep -q idle; then return; fi
        sleep 1
    done
    echo "error: SLURM did not start, see $folder/slurmctld.log and slurmd.log" >&2
    exit 1
}
stop() {
    for name in slurmd slurmctld munge/pid; do
        file=$1/$name
        [ "$name" = munge/pid ] || file=$file.pid
        [ ! -f "$file" ] || kill "$(cat "$file")" || true
    done
}
check
[ "$1" = check ] || "$1" "$2"
