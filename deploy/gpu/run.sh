#!/usr/bin/env bash
# On the GPU host: joins the parts beside this script, installs, and runs Draftsmith with the arguments given.
#
#   run.sh                                    installs and says what the host has (draftsmith doctor)
#   run.sh run --config draftsmith.toml ...   any draftsmith command; those of the loop get the packed model as `--target`,
#                                             unless -t, -c or a draftsmith.toml here names a target
#   run.sh --shell COMMAND ...                any command, with the installed packages on its path
#
# HOME_DIR is where everything goes (default: the folder `installed` beside this script). Installing again is not needed and not
# done: it is complete or it is not there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); home=$(realpath -m "${HOME_DIR:-$here/installed}"); python=${PYTHON:-python3}

install() {
  local work; work=$(mktemp -d "$here/.unpack.XXXXXX"); trap 'rm -rf "$work"' RETURN
  ls "$here"/part-* > /dev/null 2>&1 || { echo "there is no part-00 beside run.sh: copy every part here" >&2; exit 1; }
  cat "$here"/part-* | tar -C "$work" -xf - || { echo "the parts do not join: one is missing or cut off" >&2; exit 1; }
  (cd "$work" && sha256sum --quiet -c SHA256SUMS) || { echo "a file differs from what was packed: copy the parts again" >&2; exit 1; }
  mkdir -p "$work/home/site"
  # Bytecode is written at install: fourteen servers that start together would otherwise all compile the same files.
  "$python" -m pip install --quiet --no-index --no-deps --compile --no-cache-dir --target "$work/home/site" "$work"/wheels/*.whl
  mkdir "$work/home/draftsmith" && tar -C "$work/home/draftsmith" -xf "$work/draftsmith.tar"
  [ ! -f "$work/model.tar" ] || tar -C "$work/home" -xf "$work/model.tar"
  mkdir -p "$(dirname "$home")"; mv "$work/home" "$home"
}

if [ ! -d "$home" ]; then install; fi
export PYTHONPATH="$home/draftsmith/src:$home/site${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
export VLLM_CACHE_ROOT=${VLLM_CACHE_ROOT:-$home/cache} PYTHONUNBUFFERED=1
"$python" -c 'import flashinfer' 2> /dev/null || export VLLM_USE_FLASHINFER_SAMPLER=0
# SGLang compiles kernels at start. Its compiler has to be the real toolkit, not a link to it, and the linker wants libcudart.so, of
# which torch carries only the versioned name.
if [ -d "$home/site/sglang" ]; then
  nvcc=$(command -v nvcc || ls /usr/local/cuda*/bin/nvcc 2> /dev/null | head -1 || true)
  for toolkit in /usr/local/cuda-13* /usr/local/cuda "$(dirname "$(dirname "$(realpath "${nvcc:-/none}")")")"; do
    [ -n "${CUDA_HOME:-}" ] || [ ! -x "$toolkit/bin/nvcc" ] || export CUDA_HOME=$toolkit
  done
  runtime=$("$python" -c 'import importlib.util as u, pathlib
for base in (u.find_spec("nvidia").submodule_search_locations if u.find_spec("nvidia") else []):
    print(*pathlib.Path(base).glob("*/lib/libcudart.so.1*"), sep="\n")' | sed '/^$/d' | head -1)
  mkdir -p "$home/cudalib"; [ -z "$runtime" ] || ln -sfn "$runtime" "$home/cudalib/libcudart.so"
  export LIBRARY_PATH="$home/cudalib${CUDA_HOME:+:$CUDA_HOME/lib64}${LIBRARY_PATH:+:$LIBRARY_PATH}"
  export TVM_FFI_CACHE_DIR=${TVM_FFI_CACHE_DIR:-$home/tvm-ffi} PATH="$home/site/bin:$PATH"
fi
[ ! -d "$home/model" ] || export DRAFTSMITH_TARGET=${DRAFTSMITH_TARGET:-$home/model}
if [ "${1:-}" = --shell ]; then shift; exec "$@"; fi
[ $# -gt 0 ] || set -- doctor
# Only where nobody names a target: on the command line, in a configuration that is named, or in the one that lies here.
target=()
[ -z "${DRAFTSMITH_TARGET:-}" ] || target=(--target "$DRAFTSMITH_TARGET")
for word in "$@"; do case $word in -t*|--target|--target=*|-c*|--config|--config=*) target=() ;; esac; done
! grep -qs '^[[:space:]]*target[[:space:]]*=' draftsmith.toml || target=()
case $1 in
  doctor|plan|run|corpus|capture|train|promote|scaffold) exec "$python" -m draftsmith "$@" "${target[@]}" ;;
  *) exec "$python" -m draftsmith "$@" ;;
esac
