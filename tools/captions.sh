#!/usr/bin/env bash
# The tables of tools/captions.py on two GPUs in 25 minutes (on one take fewer updates):  bash tools/captions.sh DIR DATA
# DATA is a folder with nlvr_subset.zip and emoji.zip; gpus.sh has what waits for it. Emoji are trained on alone: what judges
# their captions needs the extra eval. The pace comes last, when nothing runs beside it.
set -u
ALL=${LIMIT:-1350} SMALLER=${SMALLER:-cat}
LIMIT=$((ALL - 130))
. tools/gpus.sh
begin "$1"
ln -sfn "$(realpath "$2")" "$W/data"
lanes() { # GPU NAME LANES WORDS of the agenda
  local gpu=$1 name=$2 lanes=$3
  shift 3
  python3 tools/captions.py agenda "$@" | $SMALLER > "$W/$name.yaml"
  agenda "$gpu" "$name" "$W/$name.yaml" --lanes "$lanes"
}
if [ "$GPUS" -gt 1 ]; then
  lanes 0 first train=5,look=4,more=4,sentences=0 scenes:0 nlvr:012 emoji:012 &
  lanes 1 others train=6,look=4,more=4 scenes:12 &
  wait
else
  lanes 0 all train=5,look=4,more=4,sentences=0 scenes:0 nlvr:0 scenes:12 nlvr:12 emoji:012
fi
LIMIT=$ALL
lanes 0 pace gpu=1 pace
python3 tools/captions.py table "$W" --samples "${SAMPLES:-1000}" > "$W/table.md"
