"""Draw docs/doom-drift.png from docs/results/forcing-doom.json (`python tools/drift.py`)."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[1] / "docs"
LINES = {
    "independent levels": "--seed 0 | noiseloom evaluate RUN",
    "the same, read at time 0": "--seed 0 | noiseloom evaluate RUN --stabilisation 0",
    "teacher forcing": "--seed 0 --forcing teacher-forcing | noiseloom evaluate RUN",
    "full sequences, sliding window": (
        "--seed 0 --forcing full-sequence --chunk 8 | noiseloom evaluate RUN"
    ),
}


def main() -> None:
    """Distance and sharpness over the frames, a line for each training of 12,000 updates."""
    file = DOCS / "results/forcing-doom.json"
    cells: list[dict[str, Any]] = json.loads(file.read_text())["cells"]
    matplotlib.use("Agg")
    _, axes = plt.subplots(1, 2, figsize=(7.7, 3.6), dpi=100, layout="constrained")
    for name, command in LINES.items():
        trained = (
            "noiseloom train forcing-doom --data doom.safetensors --batch-size 16 --steps 12000 "
        )
        [cell] = [c for c in cells if f"{c['trained']} | {c['evaluated']}" == trained + command]
        for ax, key in zip(axes, ("kid_lite0", "sharpness"), strict=True):
            ax.plot(cell["curve"]["at"], cell["curve"][key], label=name)
    held_out = cell["metrics"]
    for ax, key, title, top in (
        (axes[0], "kid_lite0_first_held_out", "KID to held-out video", 0.6),
        (axes[1], "frame_sharpness_first_held_out", "sharpness", 700),
    ):
        ax.axhline(held_out[key], color="black", linestyle=":", label="held-out video")
        ax.set(xlabel="frame", title=title, ylim=(0, top))
        ax.grid(alpha=0.2)
    handles, labels = axes[0].get_legend_handles_labels()
    plt.gcf().legend(
        handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9
    )
    plt.savefig(DOCS / "doom-drift.png")


if __name__ == "__main__":
    main()
