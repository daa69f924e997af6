"""Evaluations in the folder of a run: where each is kept, whole or cut short."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import fields
from hashlib import blake2b
from pathlib import Path

from noiseloom.recipes import Findings, Recipe
from noiseloom.run_folder import digest, read_description, recipe_of, write_bytes, write_text

__all__ = ["CutShort", "evaluation_file", "keep"]


class CutShort(KeyboardInterrupt):
    """An evaluation that was interrupted, and judged and kept as far as it had come.

    Attributes:
        report: its metrics.
        cut: by name, in words, what was made of what was asked for: {"frames": "800 of 2,000"}.
        path: where it is kept, if it is.
    """

    def __init__(
        self, report: dict[str, float], cut: dict[str, tuple[int, int]], path: Path | None
    ) -> None:
        self.report, self.path = report, path
        self.cut = {name: f"{some:,} of {all_:,}" for name, (some, all_) in cut.items()}
        told = ", ".join(f"{name}: {words}" for name, words in self.cut.items())
        super().__init__(told + (f", kept in {path}" if path else ""))


def evaluation_file(
    folder: Path,
    recipe: Recipe,
    seed: int,
    other_data: str | None = None,
    cut: Mapping[str, tuple[int, int]] | None = None,
) -> Path:
    """Where an evaluation is kept: `evaluation.json`, or a file named after what differs.

    An option that changes nothing (`Recipe.unused`) is no difference. A file that an option names
    counts by what it holds: another plan is another evaluation, also where the run's own has become
    another.

    Args:
        folder: the run's.
        recipe: its recipe, perhaps with other sampling options.
        seed: of the draws.
        other_data: fingerprint of the data, if they are not the run's own.
        cut: what was made and what was asked for, of one that was interrupted (`Findings.cut`).
    """
    described = read_description(folder)
    own, before = recipe_of(described, type(recipe)), described.get("digests", {})
    changed = []
    for name in (f.name for f in fields(recipe) if f.name != "seed"):
        value = getattr(recipe, name)
        held = digest(value) if name in recipe.paths else ""
        if recipe.unchanged(name, own, "evaluate"):
            continue
        if value != getattr(own, name) or (held and before.get(name, held) != held):
            changed.append(_setting(name, value, held))
    changed += [f"seed={seed}"] * (seed != own.seed)
    changed += [f"data={other_data}"] * (other_data is not None)
    changed += [f"{name}={some}-of-{all_}" for name, (some, all_) in (cut or {}).items()]
    return folder / (f"evaluations/{','.join(changed)}.json" if changed else "evaluation.json")


def keep(
    folder: Path,
    recipe: Recipe,
    report: Findings,
    seed: int,
    other_data: str | None = None,
) -> Path | None:
    """Write an evaluation to its file, with those that belong to it.

    Args:
        folder: the run's.
        recipe: its recipe, perhaps with other sampling options.
        report: all metrics, and what belongs to them.
        seed: of the draws.
        other_data: as for `evaluation_file`.

    Returns:
        The file, or None where it cannot be written.
    """
    cut = report.cut
    path = evaluation_file(folder, recipe, seed, other_data, cut)
    kept = {"cut_short": cut, **report} if cut else report
    try:
        path.parent.mkdir(exist_ok=True)
        for ending, content in report.files.items():
            write_bytes(path.with_suffix(ending), content)
        write_text(path, json.dumps(kept, indent=1) + "\n")
    except OSError as error:  # the figures took minutes, and are not lost
        warnings.warn(f"the metrics could not be kept: {error}", stacklevel=3)
        return None
    return path


def _setting(name: str, value: object, held: str) -> str:
    """NAME=VALUE, which no other value or file has, as a part of a file's name."""
    text = f"{name}={value}"
    if held:
        return f"{name}={Path(str(value)).name}-{held}"
    if "/" not in text:
        return text
    return f"{text.replace('/', '_')}-{blake2b(text.encode(), digest_size=4).hexdigest()}"
