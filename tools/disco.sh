#!/usr/bin/env bash
# The tables of tools/disco.yaml on two GPUs, in half an hour:  bash tools/disco.sh DIR fruits360_3body_64px.zip
# gpus.sh has what waits for it. Two at a time hide each other's compiling.
set -u
LIMIT=${LIMIT:-1600} DISCO=${DISCO:-tools/disco.yaml}
. tools/gpus.sh
begin "$1"
cp "$2" "$W/fruits360_3body_64px.zip"
each() { for name in "$@"; do echo -n "$name,$name-judged,"; done; }
frechet() { echo -n "$1-0-frechet,$1-1-frechet,$1-2-frechet,"; }
agenda 0 codes "$DISCO" --lanes gpu=2 --only "$(each codes-0 codes-1 codes-2)$(frechet codes)$(each annealed-0 k-64-0)m-10-0,m-10-0-judged" &
agenda 1 plain "$DISCO" --lanes gpu=2 --only "$(each plain-0 plain-1 plain-2)$(frechet plain)$(each narrow-0 m-4-0 groups-0 m-1-0)paper-0,paper-0-judged" &
wait
