#!/usr/bin/env bash
# The tables of tools/guides.yaml on two GPUs, in half an hour:  bash tools/guides.sh DIR [FOLDER]
# They take longer: FOLDER has all.tar.gz and weights.* of a time before, from where it goes on (`weights` of gpus.sh).
set -u
LIMIT=${LIMIT:-1600} GUIDES=${GUIDES:-tools/guides.yaml}
. tools/gpus.sh
begin "$1"
[ -z "${2:-}" ] || restored "$2"
tables=unguided,table-headline,table-both-choices,table-shifted,table-all,table-released-way
agenda 0 benzenoids "$GUIDES" --lanes gpu=2,cpu=2 \
  --only eleven,denoiser,guides-shifted-headline,guides-in-domain-headline,$tables &
agenda 1 motifs "$GUIDES" --lanes gpu=2 \
  --only motifs,motif-guides-shifted,guides-shifted-others,motif-guides-in-domain,motif-table,guides-in-domain-others &
wait
