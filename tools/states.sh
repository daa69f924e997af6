#!/usr/bin/env bash
# The tables of tools/states.yaml on two GPUs, in half an hour:  bash tools/states.sh DIR DATA
# DATA is a folder with the four files; gpus.sh has what waits for it.
set -u
LIMIT=${LIMIT:-1600} STATES=${STATES:-tools/states.yaml}
. tools/gpus.sh
begin "$1"
ln -sfn "$(realpath "$2")" "$W/data"
agenda 0 text "$STATES" --only text &
agenda 1 others "$STATES" --lanes gpu=2 --only tiles,table,molecules &
wait
