#!/usr/bin/env bash
# The tables of tools/guides.yaml on two GPUs, or one, in half an hour:  bash tools/guides.sh PART DIR DATA [FOLDER]
# PART is rings (the benzenoids: 350 s for the denoiser, 950 s on two GPUs for all else), proteins (GB1: 743 s on one GPU
# without hidden states; motifs) or molecules.
# DATA is a folder with FLIP's two files of GB1 and zinc.smi. FOLDER has all.tar.gz and weights.* of a time before, from
# where it goes on (`weights` of gpus.sh).
set -u
LIMIT=${LIMIT:-1600} GUIDES=${GUIDES:-tools/guides.yaml}
. tools/gpus.sh
begin "$2"
ln -sfn "$(realpath "$3")" "$W/data"
[ -z "${4:-}" ] || restored "$4"
if [ "$1" = rings ]; then
  agenda 0 rings "$GUIDES" --lanes gpu=2,cpu=2 \
    --only eleven,eleven-states,denoiser,unguided,table-headline,table-both-choices,table-all,table-released-headline,table-released-all &
  agenda 1 ring-guides "$GUIDES" --lanes gpu=2 \
    --only ring-guides-shifted,ring-guides-shifted-others,ring-guides-in-domain,ring-guides-in-domain-others &
elif [ "$1" = proteins ]; then
  agenda 0 gb1 "$GUIDES" --lanes gpu=2,cpu=1 \
    --only gb1,gb1-guides-shifted,gb1-table-headline,gb1-guides-in-domain,gb1-table,gb1-hidden-guides-shifted,gb1-hidden-guides-in-domain,gb1-table-hidden &
  agenda 1 motifs "$GUIDES" --lanes gpu=2,cpu=1 \
    --only motifs,motif-guides-shifted,motif-guides-in-domain,motif-table,motif-hidden-guides-shifted,motif-hidden-guides-in-domain,motif-table-hidden &
else
  agenda 0 other-molecules "$GUIDES" --lanes gpu=2,cpu=1 \
    --only molecule-states,molecule-guides-shifted-others,molecule-guides-in-domain-others,molecule-table-in-domain &
  agenda 1 molecules "$GUIDES" --lanes gpu=2 \
    --only molecules,molecule-guides-shifted,molecule-guides-in-domain,molecule-table-shifted &
fi
wait
