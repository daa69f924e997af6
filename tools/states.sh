#!/usr/bin/env bash
# The tables of tools/states.yaml on a GPU, or on two, in half an hour:  bash tools/states.sh DIR DATA
# DATA is a folder with the four files; gpus.sh has what waits for it. On one GPU two data sets run side by side.
set -u
LIMIT=${LIMIT:-1600} STATES=${STATES:-tools/states.yaml}
. tools/gpus.sh
begin "$1"
ln -sfn "$(realpath "$2")" "$W/data"
if [ "$GPUS" -gt 1 ]; then
  agenda 0 text "$STATES" --only text &
  agenda 1 others "$STATES" --lanes gpu=2 --only tiles,table,molecules &
else
  agenda 0 states "$STATES" --lanes gpu=2 &
fi
wait
