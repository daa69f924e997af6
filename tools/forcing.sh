#!/usr/bin/env bash
# What is missing of the tables of Doom and of mazes, on two GPUs, in half an hour (1,600 s of agendas):
#   bash tools/forcing.sh DIR      begins in the background; `wait_and_pack` of gpus.sh has the rest
set -u
LIMIT=${LIMIT:-1600} DOOM=${DOOM:-tools/doom.yaml} MAZES=${MAZES:-tools/mazes.yaml}
. tools/gpus.sh
begin "$1"
agenda 0 doom-0 "$DOOM" --lanes gpu=1,cpu=2,warm=1 \
  --only record-tiny,record-doom,warm-teacher,teacher-1,teacher-1-drift,both-0,both-0-drift &
(
  trained=medium-ours-1,medium-ours-2,large-ours-2,large-full-1,large-full-2
  agenda 1 warm "$DOOM" --lanes warm=1 --only warm-ours &
  agenda 1 mazes "$MAZES" --lanes gpu=6,cpu=3,look=5 \
    --only "record-medium,record-large,record-umaze,umaze-ours-0,$trained,${trained//,/-end,}-end"
  futures=umaze-ours-0-futures-8,umaze-ours-0-futures-1,umaze-ours-0-known
  agenda 1 futures "$MAZES" --lanes late=4 \
    --only "medium-ours-1-futures-8,medium-ours-1-futures-1,$futures" &
  LIMIT=$((LIMIT - 150)) agenda 1 doom-1 "$DOOM" --lanes gpu=1 \
    --only ours-1,ours-1-drift,ours-1-10,ours-1-5,ours-1-10-2m,ours-1-clean
  on 1
  for steps in 100 10; do
    [ "$((LIMIT - SECONDS))" -gt 60 ] && python3 benchmarks/rollout.py --run "$W/runs/ours-1" --only a \
      --steps $steps --modes 'frame graphs, compiled' --out "$W/speed-$steps.json" > "$W/logs/speed-$steps.log" 2>&1
  done
  wait
) &
wait
