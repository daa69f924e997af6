#!/usr/bin/env bash
# The tables of tools/captions.yaml on two GPUs, in half an hour:  bash tools/captions.sh /tmp/w DATA
# DATA is a folder with nlvr_subset.zip; gpus.sh has what waits for it.
set -u
LIMIT=${LIMIT:-1600} CAPTIONS=${CAPTIONS:-tools/captions.yaml}
. tools/gpus.sh
begin "$1"
ln -sfn "$(realpath "$2")" "$W/data"
names() { grep -o "name: $1[^,]*" "$CAPTIONS" | cut -d' ' -f2 | paste -sd,; }
agenda 0 scenes "$CAPTIONS" --lanes scenes=9,scenes-look=6 --only "$(names scenes)" &
agenda 1 nlvr "$CAPTIONS" --lanes nlvr=9,nlvr-look=6 --only "$(names nlvr)" &
wait
