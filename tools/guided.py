"""What a table of guides says, in one file for the repository and as rows for a page.

    python tools/guided.py TABLE GUIDES [GUIDES ...] --out FILE.json --before "noiseloom train ..."

TABLE is the folder of `noiseloom evaluate --guide`, GUIDES the folders of `noiseloom guide` that it
judged, each with its choice. Rows are of every method at the scale with the best hundred; below
them are the differences from guides without a regulariser of the same choice, seed by seed.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noiseloom.metrics import mean_interval

SHOWN = ("valid", "distinct", "mean", "best", "outside", "beyond")
COMPARED = ("best", "mean", "distinct", "valid")
ORDER = "context none weight-decay parameter-prior ensemble pretrained coral adversarial confusion"
METHODS = ORDER.split()


def read(path: Path) -> dict[str, Any]:
    """What is in a file."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def short(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same with five digits of every number."""
    text = json.dumps(found)
    made: dict[str, Any] = json.loads(text, parse_float=lambda told: float(f"{float(told):.5g}"))
    return made


def clean(folder: Path, method: str) -> dict[str, dict[str, list[float]]]:
    """Ranks and nats of structures without noise, by seed."""
    found: dict[str, dict[str, list[float]]] = {}
    for path in sorted(folder.glob(f"{method}-*/calibration.json")):
        for name in ("held_out", "shifted"):
            for told in read(path)["sets"].get(name, {}).get("properties", {}).values():
                for figure in ("spearman", "nll"):
                    found.setdefault(name, {}).setdefault(figure, []).append(told[figure][0])
    return found


def gathered(
    table: Path, guides: Sequence[Path], before: Sequence[str], notes: Mapping[str, Any]
) -> dict[str, Any]:
    """All of it: commands, trials, what was chosen, each guide's figures, each row of the table."""
    judged = read(table / "table.json")
    own = [read(folder / "table.json") for folder in guides]
    choices = [read(folder / "selection.json") for folder in guides]
    same = ("samples", "target", "seeds", "noiseloom", "git", "torch", "device", "notes", "failed")
    return short({
        "commands": [*before, *(one["command"] for one in own), judged["command"]],
        **notes,
        **{name: judged[name] for name in same},
        "tried": {name: grid["tried"] for one in choices for name, grid in one["grids"].items()},
        "guides": {
            one["select"]: {
                name: {"chosen": one["chosen"][name]["options"], "guides": made["guides"][name]}
                for name in METHODS if name in one["chosen"]
            } for one, made in zip(choices, own, strict=True)
        },
        "clean": {
            one["select"]: {name: clean(folder, name) for name in one["chosen"]}
            for one, folder in zip(choices, guides, strict=True)
        },
        "rows": judged["rows"],
    })  # fmt: skip


def told(values: Sequence[float], digits: int) -> str:
    """A mean and half its interval."""
    mean, half = mean_interval(list(values))
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def page(found: Mapping[str, Any], decimals: int) -> list[str]:
    """The best rows, the guides, and differences from no regulariser."""
    rows: dict[tuple[str, str], list[Any]] = {}
    for row in found["rows"]:
        rows.setdefault((row["select"], row["method"]), []).append(row)
    kinds = [("", "unguided")]
    kinds += [(s, m) for s in ("in-domain", "shifted") for m in METHODS if (s, m) in rows]
    digits = {"distinct": 0, "valid": 3, "outside": 2, "mean": decimals, "best": decimals}
    lines = []
    for select, method in kinds:
        best = max(rows[select, method], key=lambda row: row["mean"].get("best", -1))
        values = {k: [v for v in best["values"].get(k, ()) if v is not None] for k in SHOWN}
        values["beyond"] = [100 * v for v in values["beyond"]]
        cells = [told(values[k], digits.get(k, 1)) if values[k] else "-" for k in SHOWN]
        lines.append(f"| {method}, {select} | {best['scale']:g} | {' | '.join(cells)} |")
    lines.append("")
    for select, method in kinds[1:]:
        one = found["guides"][select][method]
        chosen = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in one["chosen"].items() if v)
        cells = [chosen]
        for name in ("nll", "nll_shifted"):
            values = [guide[name] for guide in one["guides"]]
            cells.append(f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}")
        ranks = [[g[n] for g in one["guides"]] for n in ("spearman", "spearman_shifted")]
        ranks += [found["clean"][select][method][n]["spearman"] for n in ("held_out", "shifted")]
        means = [f"{statistics.fmean(values):.2f}" for values in ranks]
        cells += [", ".join(means[:2]), ", ".join(means[2:])]
        lines.append(f"| {method}, {select} | {' | '.join(cells)} |")
    lines.append("")
    for select, method in kinds[1:]:
        for row in rows[select, method]:
            (base,) = [r for r in rows[select, "none"] if r["scale"] == row["scale"]]
            pairs = [
                (k, [a - b for a, b in zip(row["values"][k], base["values"][k], strict=True)])
                for k in COMPARED if None not in row["values"][k] + base["values"][k]
            ]  # fmt: skip
            apart = [f"{k} {told(values, 4)}" for k, values in pairs if any(values)]
            lines.append(f"{method}, {select}, scale {row['scale']:g}: {', '.join(apart)}")
    return lines


def main() -> None:
    """Write the file, print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("guides", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--before", action="append", default=[], help="a command before these")
    parser.add_argument("--note", action="append", default=[], help="NAME=VALUE of the file")
    parser.add_argument("--decimals", type=int, default=3)
    options = parser.parse_args()
    notes = dict(note.split("=", 1) for note in options.note)
    found = gathered(options.table, options.guides, options.before, notes)
    with options.out.open("x") as file:  # never over another's results
        file.write(json.dumps(found, indent=1) + "\n")
    print("\n".join(page(found, options.decimals)))


if __name__ == "__main__":
    main()
