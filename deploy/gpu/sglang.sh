#!/usr/bin/env bash
# On a GPU host without a network: a draft converted for SGLang, served there and compared, with its evidence.
#
#   MODEL=target DRAFT=draft PROMPTS=prompts.jsonl SGLANG="/pack/run.sh --shell python3" deploy/gpu/sglang.sh
#
# MODEL    folder of the target          DRAFT    a draft of it in vLLM's notation
# PROMPTS  JSONL with `messages`         OUT      where everything goes (results/sglang)
# SGLANG   command of a Python with SGLang, on one line: the host's way to set paths and CUDA may stand before it
# VLLM     the same of vLLM; with it both engines are in a second comparison     DRAFTSMITH  command of Draftsmith
# EARLIER  a log of earlier answers: a further arm of n-grams drafts from them     ADAPTIVE  1: one of adaptive steps, too
# ATTENTION fa3    BLOCKS 3    K 3    EXTRA  more settings, as --set words    ONLY  alone or both
# KV_GIB   2, the KV cache of one server; all arms are up together    VLLM_MEM 0.2, what one vLLM server may take of the GPU
set -euo pipefail
: "${MODEL:?}" "${DRAFT:?}" "${PROMPTS:?}" "${SGLANG:?}"
out=$(realpath -m "${OUT:-results/sglang}"); draftsmith=${DRAFTSMITH:-draftsmith}; k=${K:-3}; mkdir -p "$out"
python_of() { printf '#!/bin/sh\nexec %s "$@"\n' "$2" > "$out/$1"; chmod 700 "$out/$1"; echo "$out/$1"; }
sglang=$(python_of sglang-python "$SGLANG"); vllm=''
[ -z "${VLLM:-}" ] || vllm=$(python_of vllm-python "$VLLM")

[ -d "$out/draft" ] || $draftsmith convert "$DRAFT" "$out/draft" --to sglang
flags="[\"--attention-backend\", \"${ATTENTION:-fa3}\", \"--sampling-backend\", \"pytorch\", \"--disable-prefill-cuda-graph\", \"--cuda-graph-max-bs-decode\", \"32\"]"
common=(--target "$MODEL" --prompts "$PROMPTS" --blocks "${BLOCKS:-3}" --set compare.resident='"yes"' --set engine.prefix_caching=false
  --set engine.gpu_kv_gib="${KV_GIB:-2}")
# shellcheck disable=SC2206
common+=(${EXTRA:-})
drafted() { printf '{"method": "eagle3", "model": "%s", "num_speculative_tokens": %s%s}' "$1" "$k" "${2:-}"; }
ngram="{\"method\": \"ngram\", \"num_speculative_tokens\": $k}"
more=()
[ -z "${EARLIER:-}" ] || more+=(--arm "corpus={\"method\": \"ngram\", \"num_speculative_tokens\": $k, \"external_corpus\": \"$(realpath "$EARLIER")\"}")
[ -z "${ADAPTIVE:-}" ] || more+=(--arm "adaptive=$(drafted "$out/draft" ', "adaptive": true')")

if [ "${ONLY:-alone}" = alone ]; then
echo "== SGLang alone"
$draftsmith compare "${common[@]}" --out "$out/alone" --set engine.kind='"sglang"' --set engine.python="\"$sglang\"" \
  --set engine.flags="$flags" \
  --arm plain=none --arm "ngram=$ngram" --arm "eagle3=$(drafted "$out/draft")" "${more[@]}" | tee "$out/alone.txt"
fi

if [ -n "$vllm" ] && [ "${ONLY:-both}" = both ]; then
  echo "== both engines"
  $draftsmith compare "${common[@]}" --out "$out/both" --set engine.python="\"$vllm\"" --set engines.sglang.python="\"$sglang\"" \
    --set engines.sglang.flags="$flags" --set engine.gpu_memory_share="${VLLM_MEM:-0.2}" \
    --arm standing=none --arm "vllm-eagle3=$(drafted "$(realpath "$DRAFT")")" --arm sglang=sglang:none \
    --arm "sglang-eagle3=sglang:$(drafted "$out/draft")" | tee "$out/both.txt"
fi
for bundle in "$out"/alone "$out"/both; do
  [ -f "$bundle/verdict.json" ] || continue
  echo "== $bundle"; cat "$bundle/verdict.json"; grep -h "norm_before_residual\|Ignore import error" "$bundle"/servers/*.log | sort -u | head -5 || true
done
