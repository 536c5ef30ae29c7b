#!/usr/bin/env bash
# Runs pytest, with a one-node Slurm beside it where one can be had. Usage: .ci/test.sh PYTHON [pytest options]
# The last line on standard output is pytest's own.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1; shift
choice=()
if [ -n "${SLURM_CONF:-}" ]; then
  echo "slurm tests use the Slurm of SLURM_CONF"
elif [ "$(id -u)" != 0 ]; then
  echo "slurm tests are deselected: only root can start the one-node Slurm that they use"
  choice=(-m "not slurm")
elif ! command -v slurmctld >/dev/null && ! command -v apt-get >/dev/null; then
  echo "slurm tests are deselected: Slurm is not installed and there is no apt-get to install it with"
  choice=(-m "not slurm")
else
  folder=$(mktemp -d)
  trap 'code=$?; .ci/slurm.sh stop "$folder" >/dev/null 2>&1 || true; rm -rf "$folder"; exit $code' EXIT
  if .ci/slurm.sh start "$folder"; then
    export SLURM_CONF=$folder/slurm.conf
  elif command -v slurmctld >/dev/null; then
    exit 1 # it is installed and does not start: that is a fault
  else
    echo "slurm tests are deselected: Slurm could not be installed, see above"
    choice=(-m "not slurm")
  fi
fi
# A managed service is tested behind a real HAProxy; without one those tests say why they are skipped.
if ! command -v haproxy >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  { apt-get -o DPkg::Lock::Timeout=300 update -qq &&
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends haproxy; } \
    >/dev/null || echo "haproxy could not be installed: tests of a managed service are skipped"
fi
.ci/foreign.sh || echo "moto and FastMCP could not be installed: tests that talk to them are skipped"
# Metrics are read by a real Prometheus, the page by a real browser; without them those tests say why they are skipped.
if ! { command -v prometheus && command -v promtool && command -v chromium; } >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "prometheus and chromium are not installed, and only root with apt-get could: tests with them are skipped"
  elif ! .ci/watching.sh; then
    echo "prometheus or chromium could not be installed, see above: tests with them are skipped"
  fi
fi
"$python" -m pytest "${choice[@]}" "$@"
