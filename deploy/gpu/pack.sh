#!/usr/bin/env bash
# Packs all that Draftsmith needs on a GPU host without a network, in parts of a size that a transfer allows.
#
#   deploy/gpu/pack.sh DEST [--python 3.12] [--platform manylinux_2_31_x86_64] [--part-mib 56] [--model FOLDER]
#                           [--without FILE] [--requirements FILE] [--dry-run]
#
# DEST gets part-00, part-01, ... and run.sh. On the host: put them in one folder and start run.sh there (see docs/gpu.md).
# The wheels are those of requirements.txt beside this script, with all they need. --without names a file of packages that the
# host has already (one name a line), torch and the CUDA libraries for example: 4 GB less to carry. --dry-run only says what
# would be done.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); root=$(cd "$here/../.." && pwd)
requirements=$here/requirements.txt
dest='' python=3.12 platform=manylinux_2_31_x86_64 part=56 model='' without='' dry=''
while [ $# -gt 0 ]; do
  case $1 in
    --python) python=$2; shift 2 ;;
    --platform) platform=$2; shift 2 ;;
    --part-mib) part=$2; shift 2 ;;
    --model) model=$2; shift 2 ;;
    --without) without=$2; shift 2 ;;
    --requirements) requirements=$2; shift 2 ;;
    --dry-run) dry=1; shift ;;
    -*) echo "unknown option $1" >&2; exit 2 ;;
    *) dest=$1; shift ;;
  esac
done
[ -n "$dest" ] || { sed -n '4,5p' "$0" >&2; exit 2; }
[ -z "$model" ] || [ -f "$model/config.json" ] || { echo "$model has no config.json" >&2; exit 2; }
command -v uv > /dev/null || { echo "uv is needed to resolve for another machine: pip install uv" >&2; exit 2; }
[ -z "$without" ] || [ -f "$without" ] || { echo "$without does not exist" >&2; exit 2; }

work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
# uv resolves for the host's Python and platform, pip downloads exactly what was resolved.
arch=${platform#manylinux_*_*_}
# Wheels alone: nothing is built for another machine. vLLM 0.24 needs one that asks for glibc 2.31.
resolve=(uv pip compile --quiet --no-header --no-annotate --only-binary :all: --python-version "$python"
  --python-platform "$arch-${platform%_"$arch"}" "$(realpath "$requirements")" -o "$work/all.txt")
# pip takes a platform literally: an older glibc's wheels have to be asked for one by one.
minor=${platform#manylinux_2_}; minor=${minor%%_*}; tags=()
for n in $(seq "$minor" -1 5); do tags+=(--platform "manylinux_2_${n}_$arch"); done
for old in 2014 2010 1; do tags+=(--platform "manylinux${old}_$arch"); done
fetch=(python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version "$python" --implementation cp
  "${tags[@]}" --dest "$work/pack/wheels" -r "$work/wanted.txt")
if [ -n "$dry" ]; then
  printf 'resolve: %s\nleave out: %s\nfetch: %s\nmodel: %s\nparts: %s MiB each, in %s\n' \
    "${resolve[*]}" "${without:-nothing}" "${fetch[*]}" "${model:-none}" "$part" "$dest"
  exit 0
fi

mkdir -p "$work/pack/wheels"
(cd "$work" && "${resolve[@]}")  # elsewhere: the project's own uv settings are for its CPU environment
# names compare without case, and - _ . are the same
names() { tr 'A-Z_.' 'a-z--' < "$1" | sed 's/[ ;=<>[].*//' | grep -v '^#' | sed '/^$/d' | sort -u; }
if [ -n "$without" ]; then
  names "$without" > "$work/held"
  while read -r line; do
    name=$(printf '%s\n' "$line" | tr 'A-Z_.' 'a-z--' | sed 's/[ ;=<>[].*//')
    grep -qxF -- "$name" "$work/held" || printf '%s\n' "$line"
  done < "$work/all.txt" > "$work/wanted.txt"
else
  cp "$work/all.txt" "$work/wanted.txt"
fi
"${fetch[@]}"
tar -C "$root" -cf "$work/pack/draftsmith.tar" --exclude='__pycache__' src benchmarks pyproject.toml README.md LICENSE
[ -z "$model" ] || tar -C "$(dirname "$(realpath "$model")")" --transform "s,^[^/]*,model," -chf "$work/pack/model.tar" "$(basename "$(realpath "$model")")"
(cd "$work/pack" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum > SHA256SUMS)
mkdir -p "$dest"; rm -f "$dest"/part-*
tar -C "$work/pack" -cf - . | split -b "${part}M" -d -a 2 - "$dest/part-"
cp "$here/run.sh" "$dest/run.sh"
du -h "$dest"/part-* | sort -k2
