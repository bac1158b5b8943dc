#!/usr/bin/env bash
# What one GPU makes of this, in at most 8 minutes: tests/gpu, the layer and step benchmarks, an epoch of the full-size
# mini ViT dense and low-rank. One Markdown file of tables with the device, torch's version and the commit; status 1
# where a part failed or ran out of time. The active environment, or PYTHON, is used as it is; nothing is installed.
#   bash launch/gpu.sh [FILE]     CIFAR-10 is looked for in OIALR_DATA; random images stand in for it
set -uo pipefail
file=$(realpath -m "${1:-runs/gpu.md}")
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python}
DEVICE=${DEVICE:-cuda}
LIMIT=${LIMIT:-470} # seconds for all parts
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
mkdir -p "$(dirname "$file")"
output=$(mktemp)
trap 'rm -f "$output"' EXIT
failed=0

# part SECONDS TITLE COMMAND...: its output here, its tables in the file
part() {
    local seconds=$(($1 < LIMIT - SECONDS ? $1 : LIMIT - SECONDS)) title=$2 status=0 started=$SECONDS
    [ "$seconds" -gt 0 ] || seconds=1
    shift 2
    printf '\n== %s: %s\n' "$title" "$*"
    timeout --kill-after=5 "$seconds" "$@" 2>&1 | tee "$output"
    status=${PIPESTATUS[0]}
    [ "$status" -eq 0 ] || failed=1
    {
        printf '\n## %s\n\n`%s`: ' "$title" "${*/#$PYTHON/python}"
        case $status in
        0) printf '%s s\n\n' $((SECONDS - started)) ;;
        124 | 137) printf '**out of time** after %s s\n\n' "$seconds" ;;
        *) printf '**failed** with status %s after %s s\n\n' "$status" $((SECONDS - started)) ;;
        esac
        tables <"$output"
    } >>"$file"
}

# Printed columns become Markdown's; the first row of a table is its header.
tables() {
    tail -n 60 | awk '
        { sub(/^ +/, ""); columns = gsub(/  +/, " | ") }
        columns < 3 { if (rows) print ""; rows = 0; if ($0 != "") print $0 (NR ? "  " : ""); next }
        !rows++ { line = "|"; for (i = 0; i <= columns; i++) line = line " ---: |"; print "\n| " $0 " |\n" line; next }
        { print "| " $0 " |" }'
}

"$PYTHON" - >"$file" <<'END' || { cat "$file"; echo "error: no GPU that $PYTHON's torch can use" >&2; exit 2; }
import os, platform, torch
print("# OIALR on a GPU\n")
device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
print(f"{device}; torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs", end="")
raise SystemExit(0 if torch.cuda.is_available() or os.environ.get("DEVICE") == "cpu" else 1)
END
printf '; commit %s, %s\n' "${COMMIT:-$(git describe --always --dirty 2>/dev/null || echo unknown)}" "$(date -u +%F)" >>"$file"

benchmark=("$PYTHON" -m oialr_hpo.benchmark)
on=(--device "$DEVICE" --threads "$(($(nproc) < 8 ? $(nproc) : 8))")
part 60 "Epoch of the mini ViT, bfloat16" "${benchmark[@]}" epoch "${on[@]}" ${EPOCH_OPTIONS:-}
part 60 "Epoch of the mini ViT, float32" "${benchmark[@]}" epoch "${on[@]}" --ranks 416 --set training.precision=float32 ${EPOCH_OPTIONS:-}
part 90 "Epoch of the mini ViT, compiled, bfloat16" "${benchmark[@]}" epoch "${on[@]}" --ranks 416 --set training.compile=true ${EPOCH_OPTIONS:-}
part 120 "Tests" "$PYTHON" -m pytest tests/gpu -q -p no:cacheprovider -rs --tb=line -W ignore --durations=5
step=(step "${on[@]}" --rounds "${ROUNDS:-20}" ${STEP_OPTIONS:---batch 1024})
part 40 "Step, bfloat16" "${benchmark[@]}" "${step[@]}" --bf16
part 40 "Step, float32" "${benchmark[@]}" "${step[@]}" --ranks 96 384
part 60 "Step, compiled, bfloat16" "${benchmark[@]}" "${step[@]}" --bf16 --networks vit --ranks 384 --no-rebuild --compile
layers=(layers "${on[@]}" --rounds "${ROUNDS:-20}" ${LAYER_OPTIONS:---batches 4 --ranks 96 192 384 576 768})
part 40 "Layers, bfloat16" "${benchmark[@]}" "${layers[@]}" --bf16
part 40 "Layers, float32" "${benchmark[@]}" "${layers[@]}"
part 60 "A whole run in small, bfloat16" "${benchmark[@]}" run "${on[@]}" --bf16 --steps 12 ${RUN_OPTIONS:---batch 1024}
printf '\n%s s in all\n' "$SECONDS" | tee -a "$file"
echo "$file"
exit "$failed"
