#!/usr/bin/env bash
# The tables of tools/guides.yaml on two GPUs, in half an hour:  bash tools/guides.sh DIR DATA [FOLDER]
# DATA is a folder with FLIP's two files of GB1 and zinc.smi; of one GPU and 16 cores molecules are left out. FOLDER has
# all.tar.gz and weights.* of a time before, from where it goes on (`weights` of gpus.sh). Small networks of sequences stay
# on processors, which they keep busier than a GPU.
set -u
LIMIT=${LIMIT:-1600} GUIDES=${GUIDES:-tools/guides.yaml}
. tools/gpus.sh
begin "$1"
ln -sfn "$(realpath "$2")" "$W/data"
[ -z "${3:-}" ] || restored "$3"
tables=table-headline,table-released-headline,table-both-choices,table-all,table-released-all
agenda 0 rings "$GUIDES" --lanes gpu=2,cpu=2 --only eleven,eleven-states,denoiser,unguided,$tables &
agenda 1 ring-guides "$GUIDES" --lanes gpu=2 \
  --only ring-guides-shifted,ring-guides-shifted-others,ring-guides-in-domain,ring-guides-in-domain-others &
agenda cpu motifs "$GUIDES" --lanes gpu=1 \
  --only motifs,motif-guides-shifted,motif-guides-in-domain,motif-table,motif-hidden-guides-shifted,motif-hidden-guides-in-domain,motif-table-hidden &
if [ "$GPUS" -gt 1 ]; then
  agenda 1 molecules "$GUIDES" --lanes gpu=2,cpu=1 \
    --only molecule-states,molecules,molecule-guides-shifted,molecule-guides-in-domain,molecule-table &
fi
agenda cpu gb1 "$GUIDES" --lanes gpu=1 \
  --only gb1,gb1-guides-shifted,gb1-guides-in-domain,gb1-table,gb1-hidden-guides-shifted,gb1-hidden-guides-in-domain,gb1-table-hidden &
wait
