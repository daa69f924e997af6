#!/usr/bin/env bash
# The tables of tools/captions.py on two GPUs, or one, in half an hour:  bash tools/captions.sh DIR DATA
# DATA is a folder with nlvr_subset.zip; gpus.sh has what waits for it. A few updates of each state come first, whose compiled
# networks the others take over; a state that fails there is trained without compiling. Then seed 0 of scenes, the pace (nothing
# else runs beside it) last.
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
  for state in bits autoregressive masked; do
    [ ! -e "$W/eager-$state" ] || sed -i "s/--state $state /--compile false &/" "$W/$name.yaml"
  done
  agenda "$gpu" "$name" "$W/$name.yaml" --lanes "$lanes"
}
lanes 0 try train=3 try
for pair in bits=bits auto=autoregressive masked=masked; do
  [ -e "$W/runs/try-${pair%=*}/ema.safetensors" ] || touch "$W/eager-${pair#*=}"
done
if [ "$GPUS" -gt 1 ]; then
  lanes 0 first train=2,look=2,more=1 scenes:0 nlvr:012 &
  lanes 1 others train=3,look=2,more=1 scenes:12 &
  wait
else
  lanes 0 all train=3,look=3,more=2 scenes:0 nlvr:0 scenes:12 nlvr:12
fi
LIMIT=$ALL
lanes 0 pace gpu=1 pace
python3 tools/captions.py table "$W" --samples "${SAMPLES:-1000}" > "$W/table.md"
