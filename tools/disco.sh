#!/usr/bin/env bash
# What is missing of the tables of tools/disco.yaml, on two GPUs, in half an hour:  bash tools/disco.sh DIR fruits360_3body_64px.zip
# gpus.sh has what waits for it. Two at a time hide each other's compiling.
set -u
LIMIT=${LIMIT:-1600} DISCO=${DISCO:-tools/disco.yaml}
. tools/gpus.sh
begin "$1"
cp "$2" "$W/fruits360_3body_64px.zip"
each() { for name in "$@"; do echo -n "$name,$name-judged,"; done; }
both() { for name in "$@"; do echo -n "$name,$name-judged,$name-2m,"; done; }
agenda 0 codes "$DISCO" --lanes gpu=2 --only "$(both free-codes-0 free-codes-1 long-codes-0 free-codes-2)free-codes-0-report,k-64-0,k-64-0-judged" &
agenda 1 plain "$DISCO" --lanes gpu=2 --only "$(both free-plain-0 free-plain-1 long-plain-0 free-plain-2)$(each m-1-0 paper-0)m-10-0,m-10-0-judged" &
wait
