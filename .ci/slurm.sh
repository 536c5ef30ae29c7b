#!/bin/bash
# One-node Slurm for tests, on loopback, as root in a container without systemd or cgroups.
#
#   .ci/slurm.sh start DIR    install what is missing, start munged, slurmctld and slurmd with everything under DIR
#   .ci/slurm.sh stop DIR     end the daemons by the pids noted in DIR, and the jobs they run
#   .ci/slurm.sh stop-controller DIR, start-controller DIR    the scheduler goes away, and comes back with its state
#
# Afterwards: export SLURM_CONF=DIR/slurm.conf
set -euo pipefail
action=${1:?start or stop} dir=$(realpath -m "${2:?folder}")
here=$(hostname -s)

install_slurm() {
  command -v slurmctld slurmd munged sbatch >/dev/null && return
  apt-get -o DPkg::Lock::Timeout=300 update -qq
  # A package must not start its daemon: the ones of this test are started below.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
    slurmctld slurmd slurm-client munge >/dev/null
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

configure() {
  mkdir -p "$dir"/{state,spool,log,munge}
  chmod 755 "$dir" "$dir/munge"
  dd if=/dev/urandom of="$dir/munge/key" bs=128 count=1 status=none && chmod 600 "$dir/munge/key"
  cat > "$dir/slurm.conf" <<CONF
ClusterName=draftsmith
SlurmctldHost=$here(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
AccountingStoreFlags=job_comment
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,default_queue_depth=10000
SchedulerTimeSlice=5
MaxArraySize=20001
MaxJobCount=20000
JobRequeue=1
KillWait=2
MinJobAge=30
CompleteWait=0
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=30
NodeName=$here NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$here Default=YES MaxTime=1-00:00:00 State=UP OverSubscribe=FORCE:4
PartitionName=closed Nodes=$here State=DOWN
CONF
}

until_ready() { # what, then the command that must succeed
  local what=$1; shift
  for _ in $(seq 200); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
  echo "$what did not become ready" >&2; tail -n 20 "$dir"/log/*.log >&2 || true
  exit 1
}

node_is_idle() { [ "$(sinfo -h -p main -o %T)" = idle ]; }
answers() { scontrol ping | grep -q 'is UP'; }

runs() { grep -qs "^$1 ($2) [^Z]" "/proc/$1/stat"; } # this pid, under this name, and no zombie
end_pid() { # file with a pid, name the process must have: a pid may have passed to someone else
  local pid; pid=$(cat "$1" 2>/dev/null) || return 0
  runs "$pid" "$2" || return 0
  kill -TERM "$pid" 2>/dev/null || return 0
  for _ in $(seq 100); do runs "$pid" "$2" || return 0; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null || true
}

export SLURM_CONF=$dir/slurm.conf
start_controller() { slurmctld; until_ready slurmctld answers; }

case $action in
  start)
    install_slurm
    configure
    trap 'code=$?; [ $code = 0 ] || "$0" stop "$dir"; exit $code' EXIT
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munged.pid" \
      --log-file="$dir/log/munged.log" --seed-file="$dir/munge/seed" 2>/dev/null
    until_ready munged test -S "$dir/munge/socket"
    start_controller
    slurmd
    until_ready "the node" node_is_idle
    ;;
  stop)
    if answers; then scancel --quiet --user=root || true; for _ in $(seq 50); do [ -z "$(squeue -h)" ] && break; sleep 0.1; done; fi
    end_pid "$dir/slurmd.pid" slurmd
    end_pid "$dir/slurmctld.pid" slurmctld
    end_pid "$dir/munged.pid" munged
    ;;
  stop-controller) end_pid "$dir/slurmctld.pid" slurmctld ;;
  start-controller) start_controller ;;
  *) echo "unknown action $action" >&2; exit 2 ;;
esac
