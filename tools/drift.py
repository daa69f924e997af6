"""Draw docs/doom-drift.png from docs/results/forcing-doom.json (`python tools/drift.py`)."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

DOCS = Path(__file__).parents[1] / "docs"
LINES = {
    "independent levels": ("| noiseloom evaluate RUN", (0, 1)),
    "the same, read at time 0": ("| noiseloom evaluate RUN --stabilisation 0", (0, 1)),
    "teacher forcing": ("--forcing teacher-forcing | noiseloom evaluate RUN", (0, 1)),
    "full sequences, sliding window": (
        "--forcing full-sequence --chunk 8 | noiseloom evaluate RUN",
        (0,),
    ),
    "the same, frames see both ways": (
        "--forcing full-sequence --network bidirectional --chunk 8 | noiseloom evaluate RUN",
        (0,),
    ),
}
TRAINED = "noiseloom train forcing-doom --data doom.safetensors --batch-size 16 --steps 12000"


def main() -> None:
    """Distance and sharpness over frames, a line for each training (second seeds dotted)."""
    file = DOCS / "results/forcing-doom.json"
    cells: list[dict[str, Any]] = json.loads(file.read_text())["cells"]
    matplotlib.use("Agg")
    _, axes = plt.subplots(1, 2, figsize=(7.7, 3.6), dpi=100, layout="constrained")
    for number, (name, (options, seeds)) in enumerate(LINES.items()):
        for seed, style in zip(seeds, "-:", strict=False):
            command = f"{TRAINED} --seed {seed} {options}"
            [cell] = [c for c in cells if f"{c['trained']} | {c['evaluated']}" == command]
            for ax, key in zip(axes, ("kid_lite0", "sharpness"), strict=True):
                label = name if style == "-" else None
                curve = cell["curve"]
                ax.plot(curve["at"], curve[key], style, color=f"C{number}", label=label)
    held_out = cell["metrics"]
    for ax, key, title, top in (
        (axes[0], "kid_lite0_first_held_out", "KID to held-out video", 0.6),
        (axes[1], "frame_sharpness_first_held_out", "sharpness", 700),
    ):
        ax.axhline(held_out[key], color="black", linestyle="--", label="held-out video")
        ax.set(xlabel="frame", title=title, ylim=(0, top))
        ax.grid(alpha=0.2)
    handles, labels = axes[0].get_legend_handles_labels()
    plt.gcf().legend(
        handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9
    )
    plt.savefig(DOCS / "doom-drift.png")


if __name__ == "__main__":
    main()
