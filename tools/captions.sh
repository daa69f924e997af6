#!/usr/bin/env bash
# The table of tools/captions.py on two GPUs, in half an hour:  bash tools/captions.sh DIR DATA
# DATA is a folder with nlvr_subset.zip; gpus.sh has what waits for it. Seed 0 of scenes is first, and nothing runs beside the pace.
set -u
ALL=${LIMIT:-1600} SMALLER=${SMALLER:-cat}
LIMIT=$((ALL - 150))
. tools/gpus.sh
begin "$1"
ln -sfn "$(realpath "$2")" "$W/data"
lanes() { # GPU NAME LANES WORDS of the agenda
  local gpu=$1 name=$2 lanes=$3
  shift 3
  python3 tools/captions.py agenda "$@" | $SMALLER > "$W/$name.yaml"
  agenda "$gpu" "$name" "$W/$name.yaml" --lanes "$lanes"
}
lanes 0 first train=2,look=2,more=1 scenes:0 nlvr:012 &
lanes 1 others train=3,look=2,more=1 scenes:12 &
wait
LIMIT=$ALL
lanes 0 pace gpu=1 pace
python3 tools/captions.py table "$W" --samples "${SAMPLES:-1000}" > "$W/table.md"
