# To be sourced: agendas on the GPUs of a machine that is lent for a while.
#   begin DIR          a folder, and a daemon for each GPU, or the first GPUS of them, by which programs share it
#   agenda GPU NAME FILE [OPTIONS of agenda.py]   waits until it is done; where there is no such GPU it shares another; GPU
#                      may be cpu, for what is not to use one
#   wait_and_pack DIR SECONDS    waits so long, or until nothing runs any more, then packs what is small into $OUT
#   weights                      packs weights, for `restored` to go on from another time
# What runs on in the background outlives a call there, and all is lost when the machine goes: call `wait_and_pack`
# again and again without a pause. It returns at once where there is no such folder. OUT is the folder of what comes back.
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 MPLBACKEND=Agg PATH=$PATH:/usr/local/nvidia/bin

begin() {
  W=$1
  GPUS=${GPUS:-$(nvidia-smi -L | wc -l)}
  mkdir -p "$W/runs" "$W/logs"
  echo $$ > "$W/pid"
  export TORCHINDUCTOR_CACHE_DIR=$W/inductor TRITON_CACHE_DIR=$W/triton
  for gpu in $(seq 0 $((GPUS - 1))); do
    shared "$gpu"
    (mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
      CUDA_VISIBLE_DEVICES=$gpu nvidia-cuda-mps-control -d)
    (works) || { touch "$W/alone$gpu"; on "$gpu"; (works) || { echo "GPU $gpu cannot be used" | tee "$W/begin.agenda"; exit 1; }; }
    echo "GPU $gpu: $([ -e "$W/alone$gpu" ] && echo in turn || echo shared)" >> "$W/begin.agenda"
  done
  SECONDS=0
}

works() { python3 -c 'import torch; torch.ones(1, device="cuda").sum().item()'; }
# A daemon that was given one GPU shows it to its programs as the first one, whichever it is.
shared() { export CUDA_VISIBLE_DEVICES=0 CUDA_MPS_PIPE_DIRECTORY=$W/mps$1 CUDA_MPS_LOG_DIRECTORY=$W/mps-log$1; }
alone() { export CUDA_VISIBLE_DEVICES=$1; unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY; }
on() { if [ -e "$W/alone$1" ]; then alone "$1"; else shared "$1"; fi; }

agenda() { # within LIMIT seconds of `begin`
  local place=$1 name=$2 file=$3
  shift 3
  (if [ "$place" = cpu ]; then export CUDA_VISIBLE_DEVICES=; else on $((place % GPUS)); fi
    python3 tools/agenda.py "$file" --out "$W" --limit $((LIMIT - SECONDS)) --grace 40 "$@" > "$W/$name.agenda" 2>&1)
}

wait_and_pack() {
  W=$1
  [ -d "$W" ] || { echo "there is no $W: the machine is another one"; return 1; }
  local end=$((SECONDS + $2))
  while [ $SECONDS -lt $end ] && kill -0 "$(cat "$W/pid")" 2> /dev/null; do sleep 1; done
  head -n 99 "$W"/*.agenda
  for log in "$W"/logs/*.log; do echo "$(basename "$log"): $(tail -c 160 "$log" | tr '\n' ' ')"; done
  (cd "$W" && find . \( -name '*.safetensors' -o -name '*.pt' -o -path '*/inductor' -o -path '*/triton' -o -path '*/mps*' \
    -o -name guide.html -o -name structures.json -o -path '*guides*/metrics.jsonl' \) -prune -o -type f \( -size -3000k -o -name report.html \) -print | tar czf "$OUT/all.tar.gz" -T -)
  ls -l "$OUT"
}

weights() { # of all runs, with their states, then averaged ones of guides, into $OUT/weights.a00 and so on
  (cd "$W" && find . \( -path '*guides*' -o -path './mps*' \) -prune -o -name '*.safetensors' -print | tar cf - -T - | split -b 15m -d - "$OUT/weights.a")
  (cd "$W" && find . \( -name state -o -name selection -o -path './mps*' \) -prune -o -path '*guides*/ema.safetensors' -print | tar cf - -T - | split -b 15m -d - "$OUT/weights.b")
}

restored() { # FOLDER with what `wait_and_pack` and `weights` have brought back
  tar xzf "$1/all.tar.gz" -C "$W"
  cat "$1"/weights.a* | tar xf - -C "$W"
  cat "$1"/weights.b* | tar xf - -C "$W"
  # Of guides that are not whole, and runs without a state, what they would go on from was not brought back.
  python3 - "$W/runs" <<'P'
import json, shutil, sys
from pathlib import Path
for kept in [*Path(sys.argv[1]).rglob("guide.yaml")]:
    tried = "selection" in kept.parts
    if not all((kept.parent / f).exists() for f in ("calibration.json", *(() if tried else ("ema.safetensors",)))):
        shutil.rmtree(kept.parent, ignore_errors=True)
for log in [*Path(sys.argv[1]).glob("*/metrics.jsonl")]:
    states = [json.loads(file.read_text()) for file in log.parent.glob("state/*/state.json")]
    whole = any(state["step"] >= state["options"]["steps"] for state in states)
    if not whole and not [*log.parent.glob("state/*/optimizer.safetensors")]:
        shutil.rmtree(log.parent, ignore_errors=True)
P
}

half() { # NAME...: averaged weights of runs into $OUT/half.00 and so on, in half precision: cat half.* | tar xf -
  mkdir -p "$W/half"
  python3 - "$W" "$@" <<'P'
import sys
from safetensors.torch import load_file, save_file
folder, *names = sys.argv[1:]
for name in names:
    weights = load_file(f"{folder}/runs/{name}/ema.safetensors")
    save_file({k: v.half().contiguous() for k, v in weights.items()}, f"{folder}/half/{name}.safetensors")
P
  tar cf - -C "$W" half | split -b 15m -d - "$OUT/half."
}
