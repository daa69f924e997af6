#!/usr/bin/env bash
# The second half of the tables of tools/disco.yaml, on two GPUs, in half an hour:  bash tools/disco.sh DIR fruits360_3body_64px.zip
# gpus.sh has what waits for it. Two at a time hide each other's compiling; the long trainings begin first, so that they are judged.
set -u
LIMIT=${LIMIT:-1600} DISCO=${DISCO:-tools/disco.yaml}
. tools/gpus.sh
begin "$1"
cp "$2" "$W/fruits360_3body_64px.zip"
agenda 0 codes "$DISCO" --lanes gpu=2 --only free-codes-0,long-codes-0,free-codes-0-judged,free-codes-1,long-codes-0-judged,free-codes-1-judged,\
free-codes-2,free-codes-2-judged,free-codes-0-2m,free-codes-0-report,long-codes-0-2m,free-codes-1-2m,free-codes-2-2m,long-codes-0-report,m-10-0,m-10-0-judged &
agenda 1 plain "$DISCO" --lanes gpu=2 --only free-plain-0,long-plain-0,free-plain-0-judged,free-plain-1,long-plain-0-judged,free-plain-1-judged,\
free-plain-2,free-plain-2-judged,k-64-0,k-64-0-judged,paper-0,paper-0-judged,free-plain-0-2m,long-plain-0-2m,free-plain-1-2m,free-plain-2-2m,m-1-0,m-1-0-judged &
wait
