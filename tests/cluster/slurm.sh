#!/bin/bash
# Starts slurmctld and two slurmd of Debian's packages slurm-wlm and munge on loopback, as root in a container of tests:
#
#     tests/cluster/slurm.sh FOLDER        prints the SLURM_CONF that run.py needs
#     tests/cluster/slurm.sh FOLDER stop
#
# The two machines are both this one, by two ports; their eight GPUs and 64 cores are there for the scheduler alone.
set -euo pipefail
work=$(realpath -m "${1:?a folder for its state}")
stop() {
    for name in slurmctld slurmd-one slurmd-two; do
        [ -s "$work/$name.pid" ] && kill "$(cat "$work/$name.pid")" 2> /dev/null || true
        rm -f "$work/$name.pid"
    done
}
if [ "${2:-}" = stop ]; then
    stop
    exit
fi
mkdir -p "$work"/state "$work"/spool-one "$work"/spool-two /run/munge && chown munge: /run/munge
stop
[ -s /etc/munge/munge.key ] || mungekey -c
pgrep -x munged > /dev/null || runuser -u munge -- munged
# Their names are those of this machine: torchrun looks for the first of them.
for name in one two; do
    grep -q " $name\$" /etc/hosts || echo "127.0.0.1 $name" >> /etc/hosts
done
touch "$work"/gpu{0..7}
echo "Name=gpu File=$work/gpu[0-7]" > "$work/gres.conf"
cat > "$work/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool-%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd-%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
GresTypes=gpu
ReturnToService=2
NodeName=one NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=17101 CPUs=64 Gres=gpu:8 State=UNKNOWN
NodeName=two NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=17102 CPUs=64 Gres=gpu:8 State=UNKNOWN
PartitionName=test Nodes=one,two Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$work/slurm.conf"
slurmctld -f "$SLURM_CONF" -c
slurmd -f "$SLURM_CONF" -N one
slurmd -f "$SLURM_CONF" -N two
for _ in $(seq 30); do
    [ "$(sinfo -h -t idle -o %D 2> /dev/null)" = 2 ] && break
    sleep 1
done
scontrol ping
sinfo -N -o "%N %T %c %G"
echo "SLURM_CONF=$SLURM_CONF"
