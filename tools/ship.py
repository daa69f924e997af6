"""Put a trained run into the package, in half precision: `python tools/ship.py runs/demo`."""

import shutil
import sys
from pathlib import Path

from safetensors.torch import save_file

from noiseloom.run import load
from noiseloom.training import checkpoint

MODELS = Path(__file__).parent.parent / "src" / "noiseloom" / "models"


def ship(folder: Path) -> Path:
    """Copy description, metrics and averaged weights to `models/RECIPE`."""
    run = load(folder, device="cpu")
    target = MODELS / run.recipe.name
    target.mkdir(parents=True, exist_ok=True)
    weights = checkpoint.read(folder / "ema.safetensors")
    save_file({k: v.half().contiguous() for k, v in weights.items()}, target / "ema.safetensors")
    for name in ("recipe.yaml", "evaluation.json"):
        shutil.copyfile(folder / name, target / name)
    return target


if __name__ == "__main__":
    print(ship(Path(sys.argv[1])))
