"""How a run begins: its parts, built or inherited, and its description in a folder."""

import os
from pathlib import Path

from noiseloom.meaning import check_meaning, misfit
from noiseloom.recipes import Facts, Parts, Recipe
from noiseloom.rng import Rng
from noiseloom.run_folder import (
    check_free,
    class_places,
    describe,
    find,
    read_description,
    write_text,
)
from noiseloom.terminal import say
from noiseloom.training import checkpoint, inheritance

__all__ = ["start"]


def start(
    recipe: Recipe,
    facts: Facts,
    folder: Path,
    *,
    data: str | None,
    command: str,
    init_from: str | None = None,
    resume: bool = False,
) -> Parts:
    """Build a recipe's parts, seeded, and describe the run in its folder.

    Of several processes only the main one looks at the folder and writes.

    Args:
        recipe: what to train.
        facts: of its data.
        folder: of the run.
        data: where the data lies.
        command: what was typed.
        init_from: the run whose weights it starts from, named as for `load`, or a file of them.
        resume: the folder holds the beginning of this run.

    Raises:
        FileExistsError: the folder holds something, and `resume` is off.
        FileNotFoundError: there is nothing to start from.
        ValueError: weights that do not fit, or would mean something else.
    """
    main = os.environ.get("RANK", "0") == "0"
    if main and not resume:
        check_free(folder)
    with Rng(recipe.seed).fold("initialisation").torch():
        parts = recipe.build(facts)
    if init_from is not None and checkpoint.newest(folder / "state") is None:
        file = Path(init_from).expanduser()
        source, run = (file, _run_of(file)) if file.is_file() else [find(init_from)] * 2
        check_meaning(recipe, facts, run)
        places = class_places(run, facts.get("classes", ()))
        try:
            new = inheritance.init_from(parts.denoiser, source, places)
        except ValueError as error:
            raise ValueError(misfit(str(error), recipe, facts, run)) from None
        if main:
            more = f" and {len(new) - 3} more" if len(new) > 3 else ""
            told = f"new are {', '.join(new[:3])}{more}" if new else "nothing is new"
            say(f"starting from {init_from}: {told}")
    if "plan" in recipe.paths or recipe.restarts:
        # It may be a file, which has not been read yet, or have no row to restart from.
        recipe.plan_of(facts, parts.diffusion.schedule)
    if main:
        before = read_description(folder) if resume else {}
        text = describe(
            recipe,
            facts,
            data=data,
            command=command,
            init_from=init_from,
            digests=before.get("digests"),
            copied_from=before.get("copied_from"),
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "recipe.yaml", text)
    return parts


def _run_of(weights: Path) -> Path:
    """The folder of the run that a file is of: its own, or of a checkpoint or snapshot in it."""
    above = weights.absolute().parents
    places = {"ema_snapshots": above[0].name, "state": above[1].name}
    return next((above[i + 1] for i, (k, v) in enumerate(places.items()) if k == v), above[0])
