#!/usr/bin/env bash
# Each file in a folder trains the newest run on, and becomes a version that a server can load.
#
#   usage: nightly.sh INCOMING RUNS VERSIONS
#
# INCOMING holds 1.parquet, 2.parquet, ... with a column "click". Killed at any moment, it is started again and goes on:
# a step whose output stands is over, and each output is written whole or not at all.
set -euo pipefail
incoming=$1 runs=$2 versions=$3
[ -d "$incoming" ] || { echo "There is no folder $incoming." >&2; exit 1; }
mkdir -p "$runs" "$versions"
newest=

for number in $(ls "$incoming" | sed -n 's/^\([0-9]*\)\.parquet$/\1/p' | sort -n); do
    rows=$incoming/$number.parquet run=$runs/$number version=$versions/$number
    if [ ! -e "$version" ]; then
        if [ -z "$newest" ]; then
            nfm-tfrs train --data "$rows" --label click --out "$run" --resume
        else
            nfm-tfrs drift --model "$newest" --data "$rows" || [ $? -eq 3 ] # 3: something has drifted, which it said
            nfm-tfrs train --from "$newest" --data "$rows" --out "$run" --resume
            # On the same rows, no worse than the run that it went on from; else a person looks, and removes the run's
            # folder, or writes a version of it by hand.
            python - "$run/metrics.json" <<'CHECK'
import json, sys
found = json.load(open(sys.argv[1]))
was, now = found["before"]["auc"], found["valid"]["auc"]
sys.exit(f"{sys.argv[1]}: the AUC fell from {was:.4f} to {now:.4f}." if (now or 0) < (was or 0) - 0.05 else 0)
CHECK
        fi
        nfm-tfrs export --model "$run" --out "$version"
    fi
    newest=$run
done
