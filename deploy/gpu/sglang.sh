#!/usr/bin/env bash
# On a GPU host without a network: a draft converted for SGLang, served there and compared, with its evidence.
#
#   MODEL=target DRAFT=draft PROMPTS=prompts.jsonl SGLANG="/pack/run.sh --shell python3" deploy/gpu/sglang.sh
#
# MODEL    folder of the target          DRAFT    a draft of it in vLLM's notation
# PROMPTS  JSONL with `messages`         OUT      where everything goes (results/sglang)
# SGLANG   command of a Python with SGLang, on one line: the host's way to set paths and CUDA may stand before it
# VLLM     the same of vLLM, for what needs both engines          DRAFTSMITH  command of Draftsmith
# ONLY     any of: alone (SGLang's own arms) running (two servers that run already) both (one comparison of both engines)
#          plan (one forecast for both; PROFILE is a profile or an access log)
# CORPUS   an access log of other requests: its answers are a draft without training     ADAPTIVE  1: an arm of adaptive steps, which starts with the
#          most that SGLang's own list allows (7): started with fewer, 0.5.17 has no room for their logits
# ATTENTION fa3    BLOCKS 3    K 3    NGRAM_K 7    EXTRA  more settings, as --set words
# KV_GIB   2, the KV cache of one server; all arms are up together    VLLM_MEM 0.2, what one vLLM server may take of the GPU
# NOISE    sd of the log ratio between two starts of one server, as measured: with it servers that run may give a verdict
set -euo pipefail
: "${MODEL:?}" "${DRAFT:?}" "${PROMPTS:?}" "${SGLANG:?}"
out=$(realpath -m "${OUT:-results/sglang}"); draftsmith=${DRAFTSMITH:-draftsmith}; k=${K:-3}; nk=${NGRAM_K:-7}; mkdir -p "$out"
python_of() { printf '#!/bin/sh\nexec %s "$@"\n' "$2" > "$out/$1"; chmod 700 "$out/$1"; echo "$out/$1"; }
sglang=$(python_of sglang-python "$SGLANG"); vllm=''
[ -z "${VLLM:-}" ] || vllm=$(python_of vllm-python "$VLLM")
only=${ONLY:-alone${VLLM:+ both}}
asked() { [[ " $only " == *" $1 "* ]] && echo "== $1"; }

[ -d "$out/draft" ] || $draftsmith convert "$DRAFT" "$out/draft" --to sglang
words=(--attention-backend "${ATTENTION:-fa3}" --sampling-backend pytorch --disable-prefill-cuda-graph --cuda-graph-max-bs-decode 32)
flags=$(printf '"%s", ' "${words[@]}"); flags="[${flags%, }]"
common=(--prompts "$PROMPTS" --blocks "${BLOCKS:-3}" --set compare.resident='"yes"' --set engine.prefix_caching=false
  --set engine.gpu_kv_gib="${KV_GIB:-2}")
# shellcheck disable=SC2206
common+=(${EXTRA:-})
own=(--set engine.kind='"sglang"' --set engine.python="\"$sglang\"" --set engine.flags="$flags")
two=(--set engine.python="\"$vllm\"" --set engine.gpu_memory_share="${VLLM_MEM:-0.2}" --set engines.sglang.python="\"$sglang\""
  --set engines.sglang.flags="$flags")
drafted() { printf '{"method": "eagle3", "model": "%s", "num_speculative_tokens": %s%s}' "$1" "$k" "${2:-}"; }
ngram="{\"method\": \"ngram\", \"num_speculative_tokens\": $nk"

if asked alone; then
  arms=(--arm plain=none --arm "ngram=$ngram}" --arm "eagle3=$(drafted "$out/draft")")
  [ -z "${CORPUS:-}" ] || arms+=(--arm "corpus=$ngram, \"external_corpus\": \"$(realpath "$CORPUS")\", \"ngram_external_sam_budget\": $((nk - 1))}")
  [ -z "${ADAPTIVE:-}" ] || arms+=(--arm "adaptive=$(k=7 drafted "$out/draft" ', "adaptive": true')")
  $draftsmith compare --target "$MODEL" "${common[@]}" --out "$out/alone" "${own[@]}" "${arms[@]}" | tee "$out/alone.txt"
fi

if asked running; then
  # Servers as somebody else started them: they publish settings and counters, and are never restarted.
  ports=(); pids=(); trap 'kill -- "${pids[@]}" 2> /dev/null || true' EXIT
  serve() { # NAME FLAGS...
    local port; port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    setsid "$sglang" -m sglang.launch_server --model-path "$MODEL" --served-model-name target --host 127.0.0.1 --port "$port" \
      --context-length 2048 --max-running-requests 32 --enable-metrics --enable-cache-report --disable-radix-cache \
      --max-total-tokens 131072 --mem-fraction-static 0.8 "${words[@]}" "${@:2}" > "$out/running-$1.log" 2>&1 &
    pids+=("-$!"); ports+=("$port")
    for _ in $(seq 300); do curl -fs "http://127.0.0.1:$port/health" > /dev/null && return; kill -0 "$!" || break; sleep 1; done
    tail -20 "$out/running-$1.log" >&2; return 1
  }
  serve plain
  if grep -q '"norm_before_residual": *true' "$out/draft/config.json"; then  # its own class does not read that key
    models=$(python3 -c 'import draftsmith, pathlib; print(pathlib.Path(draftsmith.__file__).parent / "work" / "inside")')
    export SGLANG_EXTERNAL_MODEL_PACKAGE=sglang_models PYTHONPATH="$models${PYTHONPATH:+:$PYTHONPATH}"
  fi
  serve eagle3 --speculative-algorithm EAGLE3 --speculative-draft-model-path "$out/draft" --speculative-num-steps "$k" \
    --speculative-eagle-topk 1 --speculative-num-draft-tokens $((k + 1))
  $draftsmith compare "${common[@]}" --out "$out/running" ${NOISE:+--set compare.thresholds.start_noise=$NOISE} \
    --arm "standing=http://127.0.0.1:${ports[0]}" --arm "eagle3=http://127.0.0.1:${ports[1]}" | tee "$out/running.txt"
  for n in 0 1; do for path in server_info metrics; do curl -s "http://127.0.0.1:${ports[$n]}/$path" > "$out/running-$n.$path"; done; done
  kill -- "${pids[@]}"; wait || true; trap - EXIT
fi

if [ -n "$vllm" ] && asked both; then
  $draftsmith compare --target "$MODEL" "${common[@]}" --out "$out/both" "${two[@]}" \
    --arm standing=none --arm "vllm-eagle3=$(drafted "$(realpath "$DRAFT")")" --arm sglang=sglang:none \
    --arm "sglang-eagle3=sglang:$(drafted "$out/draft")" | tee "$out/both.txt"
fi

if [ -n "$vllm" ] && asked plan; then
  $draftsmith plan --target "$MODEL" --profile "${PROFILE:?}" --engine vllm --engine sglang --k 1 --k 3 --repeats 2 \
    --concurrency 1 --concurrency 8 --out "$out/plans" --set engine.gpu_kv_gib="${KV_GIB:-2}" "${two[@]}" | tee "$out/plan.txt"
fi

for bundle in "$out"/alone "$out"/running "$out"/both; do
  [ -f "$bundle/verdict.json" ] || continue
  echo "== $bundle"; cat "$bundle/verdict.json"; grep -h "norm_before_residual\|Ignore import error" "$bundle"/servers/*.log | sort -u | head -5 || true
done
