#!/bin/bash
# Starts slurmctld and slurmd of Debian's packages slurm-wlm and munge on loopback, as root in a container of tests. Ends with: scontrol ping.
set -euo pipefail
work=${1:?a folder for its state}
mkdir -p "$work" /run/munge && chown munge: /run/munge
[ -s /etc/munge/munge.key ] || mungekey -c
pgrep -x munged > /dev/null || runuser -u munge -- munged
cat > "$work/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
mkdir -p "$work/state" "$work/spool"
export SLURM_CONF="$work/slurm.conf"
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF"
sleep 3
scontrol ping
sinfo
