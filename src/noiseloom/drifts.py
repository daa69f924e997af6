"""How rollouts drift: curves over time, of one evaluation or of a comparison.

A curve is a dict of equally long lists: "at", the middle of each stretch of frames, and quantities
by name; those of held-out real video end in _held_out, with noise in _noised, standard errors over
videos in _se: the band around a curve of a single seed.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TypeAlias

from noiseloom.figures import animation, curve_chart
from noiseloom.run_folder import write_text

__all__ = ["Curve", "curves", "write_drifts"]

Curve: TypeAlias = dict[str, list[float]]
_REAL = "_held_out"
_LOGARITHMIC = ("kid", "fd")


def curves(runs: Mapping[str, Sequence[Curve]], *, wide: bool) -> str:
    """Charts of every quantity, HTML.

    Args:
        runs: by label, the curve of each seed.
        wide: charts twice as wide.
    """
    some = next(iter(runs.values()))[0]
    at, charts = some["at"], []
    for name in some:
        if name == "at" or name.endswith((_REAL, "_noised", "_se")):
            continue
        # A comparison may have rollouts of several lengths: those of the first are shown.
        lines = {
            label: [curve[name] for curve in found]
            for label, found in runs.items()
            if all(curve["at"] == at for curve in found)
        }
        drawing = curve_chart(
            at,
            lines,
            name.replace("_", " "),
            errors={label: found[0].get(f"{name}_se") for label, found in runs.items()},
            real=some.get(name + _REAL),
            logarithmic=name.startswith(_LOGARITHMIC),
            wide=wide,
        )
        charts.append(f"<figure>{drawing}</figure>")
    return f'<div class="{"wide" if wide else "pair"}">{"".join(charts)}</div>'


def write_drifts(path: Path, files: Mapping[str, Sequence[Path]]) -> bool:
    """Write a page with the curves of a comparison and how videos end, if there are any.

    Args:
        path: of the page.
        files: by label, evaluations of all seeds, beside which the curves lie.

    Returns:
        Whether there were any.
    """
    found, films = {}, []
    for label, evaluations in files.items():
        there = [file.with_suffix(".curve.json") for file in evaluations]
        runs = [json.loads(file.read_text()) for file in there if file.is_file()]
        if runs:
            found[label] = runs
        film = evaluations[0].with_suffix(".end.webp")
        if film.is_file():
            image = f'<img alt="" src="{animation(film.read_bytes())}">'
            films.append(f"<figure><h3>{escape(label)}</h3>{image}</figure>")
    if not found:
        return False
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    write_text(
        path,
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(path.parent.name)}: drift</title>
<style>
{style}</style></head>
<body><section><h2>Drift</h2><p>Mean over seeds, and from lowest to highest.</p>
{curves(found, wide=True)}</section>
{_ends(films)}</body></html>
""",
    )
    return True


def _ends(films: Sequence[str]) -> str:
    if not films:
        return ""
    text = "Of the first seed, in pairs: real frames, and frames made under the same actions."
    return (
        f'<section><h2>The end</h2><p>{text}</p><div class="pair">{"".join(films)}</div></section>'
    )
