"""What `noiseloom sample` does, once it is known what was meant: draw, and write it to a file."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch

from noiseloom.commands import changed, load
from noiseloom.data.row_files import read_codes
from noiseloom.fit import Options
from noiseloom.interrupts import terminable
from noiseloom.latents import Latent
from noiseloom.recipes import ForcingDigits, Guidable, Sampling
from noiseloom.redesign import Redesign
from noiseloom.rows import known_rows, rows_endings, write_rows
from noiseloom.run import Run
from noiseloom.run_folder import check_file
from noiseloom.terminal import Pace, answer, counted, save_picture, say_plan

__all__ = ["class_index", "sample"]


@terminable()
def sample(
    source: str,
    changes: Options,
    *,
    n: int | None,
    label: str | None,
    data: str | None,
    start: str | None = None,
    goal: str | None = None,
    actions: str | None,
    codes_from: str | None,
    known: str | None,
    gap: str,
    redesign: Redesign | None = None,
    seed: int,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Draw pictures into one PNG; forecasts or plans into one CSV; videos into one WebP, or clips.

    Ctrl-C and SIGTERM keep the frames of videos, and the steps of forecasts, that there are.

    Args:
        source: what `load` takes.
        changes: sampling options that differ from the run's.
        n: how many; by default 64, of videos, which are large, 4.
        label: name or index of the pictures' class; by default all classes in turn.
        data: where the series lies that forecasts follow, the trajectories that plans start from,
            or the clips that videos begin with; by default where training found them.
        start: of plans, numbers observed now; by default held-out starts.
        goal: of plans, numbers to come to; by default a maze's own, or none.
        actions: file of those that videos follow; by default recorded ones.
        known: of rows, a template with gaps ("_"), for tables a .csv file of rows with empty cells,
            for numbers a line or a file, for series a .csv file with rows of empty cells, for
            digits row by row a .npy file with NaN or a picture: what is known stays, and is drawn
            beside.
        gap: the character of a gap of a template.
        redesign: of sequences, what they are to differ from at a few sites.
        codes_from: file of those that samples are told, a row each; by default as `codes` says.
        seed: of the draws.
        out: the file; by default named after run and seed, in the current folder.
        force: replace the file.
        as_json: answer a program.
    """
    if n is not None and n < 1:
        raise ValueError(f"-n must be at least 1, got {n}")
    run, own, codes = load(source), None, None
    if codes_from is not None:
        codes = _codes_of(run, source, codes_from, n, changes)
        n = len(codes)
    if actions is not None:
        from noiseloom.videos import to_follow

        run, own = to_follow(run, actions, changes.get("length"))
    run = changed(run, changes, "sample", goal=goal is not None)
    shows = run.recipe.drawn_as(run.facts)
    if redesign is not None and shows != "rows":
        raise ValueError(f"{source} draws no rows of tokens: leave --parent out")
    by_row = isinstance(run.recipe, ForcingDigits)
    if known is not None and not (by_row or shows in ("rows", "series")):
        raise ValueError(f"{source} fills no gaps: leave --known out")
    for name, value in (("start", start), ("goal", goal)):
        if value is not None and shows != "trajectories":
            raise ValueError(f"{source} draws no plans: leave --{name} out")
    if shows is None:
        raise ValueError(
            f"recipe {run.recipe.name!r} draws nothing that goes into a file: draw from Python, "
            "noiseloom.load(RUN, recipe=CLASS).samples(GIVEN)"
        )
    if shows == "captions":
        raise ValueError(f"{source} says what is in pictures: noiseloom caption {source} PICTURE")
    if n is None and known is not None and shows == "rows":
        n = len(known_rows(run, known, None, gap)["known"])
    filling = None
    if known is not None and by_row:
        from noiseloom.filled import known_pictures, write_filled_pictures

        kind = None if label is None else int(_labels(run, source, 1, label))
        filling = known_pictures(run, known, n, kind)
        n = len(filling["known"])
    if n is None:
        n = 4 if shows == "videos" else 64
    ending = {"pictures": ".png", "videos": ".webp"}.get(shows, ".csv")
    if shows == "molecules" and out is not None and out.suffix.lower() == ".sdf":
        out = out.with_suffix(ending)  # the table, beside which it lies
    endings: tuple[str, ...] = (ending, ".npy") if shows == "pictures" else (ending,)
    if shows == "rows":
        endings = rows_endings(run)
        ending = endings[0]
    path = out or Path(f"{Path(source).resolve().name}-seed{seed}{ending}")
    if shows != "videos" and path.suffix.lower() not in endings and not path.is_dir():
        called = {"series": "forecasts", "trajectories": "plans", "rows": "rows of this run"}
        kinds = ", ".join(e for e in endings if e != ".npy")
        kinds += " or, as numbers, .npy" * (".npy" in endings)
        raise ValueError(f"{path}: {called.get(shows, shows)} are written as {kinds}")
    check_file(path, force, f"samples{ending}")
    if isinstance(run.recipe, Guidable) and run.recipe.beside and shows != "rows":
        check_file(path.with_suffix(run.recipe.beside), force)
    if shows == "molecules":
        check_file(path.with_suffix(".svg"), force)
    options = {f.name: getattr(run.recipe, f.name) for f in fields(Sampling)}
    result = {"file": str(path), "seed": seed, "options": options}
    told = {} if codes is None else {"codes": codes}
    result |= {name: value.tolist() for name, value in told.items()}
    if shows != "pictures":
        from noiseloom.compounds import write_compounds
        from noiseloom.filled import write_filled
        from noiseloom.forecast import write_forecasts
        from noiseloom.paths import write_plans
        from noiseloom.points import write_points
        from noiseloom.rings import write_rings
        from noiseloom.videos import write_videos

        if label is not None:
            raise ValueError(f"{source} draws {shows}, without classes: leave --label out")
        pace = Pace(partial(_say_plan, run))  # not before all that is given has been checked
        writers: dict[str, tuple[Callable[..., int], str, str]] = {
            "series": (
                partial(write_forecasts, progress=pace)
                if known is None
                else partial(write_filled, known=known),
                "paths",
                "steps",
            ),
            "trajectories": (
                partial(write_plans, start=start, goal=goal, progress=pace),
                "plans",
                "steps",
            ),
            "videos": (
                partial(write_videos, actions=own, actions_from=actions, progress=pace),
                "videos",
                "frames",
            ),
            "rows": (
                partial(write_rows, known=known, gap=gap, redesign=redesign, codes=codes),
                "rows",
                "tokens",
            ),
            "benzenoids": (write_rings, "benzenoids", "rings"),
            "molecules": (write_compounds, "molecules", "atoms"),
            "points": (partial(write_points, codes=codes), "points", "coordinates"),
        }
        write, kinds, parts = writers[shows]
        if shows not in ("series", "trajectories", "videos"):
            _say_plan(run)
        steps = write(run, path, data=data, count=n, seed=seed)
        most = "at most " if shows == "molecules" else ""
        line = f"{counted(n, kinds)} of {most}{counted(steps, parts)}: {path}"
        answer(as_json, {**result, "steps": steps}, [line])
        return
    if data is not None:
        raise ValueError(f"{source} draws pictures, which follow no data: leave --data out")
    if filling is not None:
        write_filled_pictures(run, path, filling, seed)
        result["labels"] = filling["label"].tolist() if "label" in filling else None
        answer(as_json, result, [f"{counted(n, 'samples')}: {path}"])
        return
    labels = _labels(run, source, n, label)
    _say_plan(run)
    columns = None
    if label is None and codes is None and len(run.classes) <= 16:  # each column is of one class
        columns = min(n, len(run.classes) * max(1, round(n**0.5 / len(run.classes))))
    pixels = run.pixels({"label": labels, **told}, seed=seed)
    save_picture(path, pixels, run.facts["levels"], columns)
    answer(as_json, {**result, "labels": labels.tolist()}, [f"{counted(n, 'samples')}: {path}"])


def _codes_of(run: Run, source: str, file: str, n: int | None, changes: Options) -> torch.Tensor:
    """The codes of a file, of its first n rows, for samples of a run with codes."""
    model = run.denoiser
    if not isinstance(model, Latent):
        raise ValueError(f"{source} was trained without codes: leave --codes-from out")
    for name in ("codes", "code_temperature", "code_top_p"):
        if name in changes:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"with --codes-from nothing is drawn by {option}: leave it out")
    codes = read_codes(file, model.m, model.k)
    if n is not None and n > len(codes):
        raise ValueError(
            f"{file} has codes for {len(codes):,} samples, and -n is {n:,}: give more rows, or "
            "lower -n"
        )
    return codes[:n]


def _say_plan(run: Run) -> None:
    """The order in which tokens become certain, where they have times of their own."""
    plan = run.recipe.plan_of(run.facts, run.diffusion.schedule)
    if plan.s[0].numel() > 1:
        say_plan(plan)


def _labels(run: Run, source: str, n: int, label: str | None) -> torch.Tensor:
    if label is None:
        return torch.arange(n) % len(run.classes)
    if not run.recipe.conditional or len(run.classes) == 1:
        raise ValueError(f"{source} was trained without classes: leave --label out")
    return torch.full((n,), class_index(run.classes, label))


def class_index(classes: Sequence[str], text: str) -> int:
    """The index of a class that is given by name, or else by index.

    Raises:
        ValueError: no such class.
    """
    if text in classes:
        return classes.index(text)
    last = len(classes) - 1
    if text.removeprefix("-").isdecimal():
        if 0 <= int(text) <= last:
            return int(text)
        raise ValueError(f"class {text} is out of range: the run has the classes 0 to {last}")
    near = difflib.get_close_matches(text, classes, 1)
    hint = f"did you mean {near[0]!r}? An index" if near else "take a name, or an index"
    raise ValueError(f"no class {text!r}: {hint} 0 to {last}")
