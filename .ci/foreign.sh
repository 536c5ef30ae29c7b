#!/usr/bin/env bash
# Programs of other people that tests talk to, in an environment of their own, for their pins are not ours: moto's S3 server and
# FastMCP's client. Tests that need them say so and are skipped where this was not run.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.cache/foreign
uv=.venv/bin/uv
[ -x "$venv/bin/moto_server" ] && [ -x "$venv/bin/fastmcp" ] && exit 0
"$uv" venv --quiet --allow-existing --python .venv/bin/python "$venv"
"$uv" pip install --quiet --python "$venv/bin/python" "moto[server]==5.2.5" fastmcp==4.2.3
