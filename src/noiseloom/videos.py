"""What a run films: as parts of a page, and as a file."""

import json
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noiseloom.data import Split
from noiseloom.data.clips import Clips
from noiseloom.data.row_files import read_actions
from noiseloom.drifts import Curve, curves
from noiseloom.figures import animation
from noiseloom.film import film, said
from noiseloom.gallery import section
from noiseloom.interrupts import uninterrupted
from noiseloom.recipes import ForcingDoom, Given
from noiseloom.run import Run
from noiseloom.run_folder import read_description, write_bytes
from noiseloom.terminal import Pace, counted, say

__all__ = ["to_follow", "videos", "write_videos"]


def videos(run: Run, data: Split[Any] | None, seed: int) -> str:
    """Sections of a page that show what the evaluations of a run made, and how it drifted.

    Films are those of its own options, or of the longest other evaluation, perhaps one that was
    interrupted; curves are of all of them. Nothing is drawn for the page: rollouts of thousands of
    frames take minutes.

    Args:
        run: that films.
        data: not needed.
        seed: not needed.
    """
    assert isinstance(run.recipe, ForcingDoom)
    found = _drifts(run.folder)
    if not found:
        return section("Videos", "<p>They are shown once the run is evaluated.</p>")
    own = run.folder / "evaluation.curve.json"
    shown = own if own in found else max(found, key=lambda file: found[file]["at"][-1])
    text = (
        f"In pairs: real frames, and frames made under the same actions. Each video began with "
        f"{run.recipe.context} real frames, trained on {run.recipe.frames}. Real frames jump where "
        "a recorded episode ends."
    )
    if shown != own:
        text = f"Of {_label(shown)}: there is no evaluation by the run's own options. {text}"
    films = _films(shown)
    parts = [section("Videos", f'<p>{escape(text)}</p><div class="pair">{"".join(films)}</div>')]
    lengths: dict[tuple[float, ...], dict[str, list[Curve]]] = {}
    for file in (shown, *(file for file in found if file != shown)):
        label = "made" if file == own else _label(file)
        lengths.setdefault(tuple(found[file]["at"]), {})[label] = [found[file]]
    band = "The band around a kernel distance is its standard error over whole videos."
    for lines in lengths.values():
        several = f" Lines: {', '.join(lines)}." if len(lines) > 1 or "made" not in lines else ""
        parts.append(
            section("Drift", f"<p>{escape(band + several)}</p>{curves(lines, wide=False)}")
        )
    return "".join(parts)


def _drifts(folder: Path) -> dict[Path, Curve]:
    """The curves of all evaluations of a run, that of its own options first."""
    files = [folder / "evaluation.curve.json", *sorted(folder.glob("evaluations/*.curve.json"))]
    return {file: json.loads(file.read_text()) for file in files if file.is_file()}


def _label(file: Path) -> str:
    """The options by which an evaluation differs from its run's own."""
    return file.name.removesuffix(".curve.json")


def _films(curve: Path) -> list[str]:
    """What an evaluation filmed: the beginning and the end, or all of it."""
    titles = {"begin": "The beginning", "end": "The end"}
    files = {
        title: curve.with_name(f"{_label(curve)}.{when}.webp") for when, title in titles.items()
    }
    films = {title: file.read_bytes() for title, file in files.items() if file.is_file()}
    if len(films) == 2 and len({*films.values()}) == 1:  # as short as what is shown of it
        films = {"All of it": films.popitem()[1]}
    parts = []
    for title, content in films.items():
        left = said(content)
        note = f"<figcaption>{left[:1].upper()}{left[1:]}.</figcaption>" if left else ""
        image = f'<img alt="" src="{animation(content)}">'
        parts.append(f"<figure><h3>{title}</h3>{image}{note}</figure>")
    return parts


def to_follow(run: Run, file: str, length: int | None) -> tuple[Run, Tensor]:
    """The run with as many frames to make as a file has actions, or fewer, and so many of these.

    Args:
        run: that films.
        file: of actions, a row for each frame to make (`read_actions`).
        length: frames to make; by default one for each row.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a run that does not film, or under no actions; a file that does not fit.
    """
    name = run.recipe.name
    if run.recipe.drawn_as(run.facts) != "videos":
        raise ValueError(f"a run of {name} makes no videos under actions: leave --actions out")
    if not run.facts["actions"]:
        raise ValueError("the run was trained on videos without actions: leave --actions out")
    actions = read_actions(file, run.facts["actions"])
    length = len(actions) if length is None else length
    if len(actions) < length:
        raise ValueError(
            f"{file} has actions for {len(actions):,} frames, and --length is {length:,}: give "
            "more rows, or lower --length"
        )
    return run.with_options(length=length), actions[:length]


def write_videos(
    run: Run,
    path: Path,
    *,
    data: str | None,
    count: int,
    seed: int,
    actions: Tensor | None = None,
    actions_from: str | None = None,
    progress: Pace | None = None,
) -> int:
    """Make videos from held-out frames under held-out actions.

    Ctrl-C keeps what there is of them, as does SIGTERM in a block that is `terminable`.

    Args:
        run: of a recipe of videos.
        path: of an animated WebP, which shows them side by side, or a .safetensors of clips, with
            the frames that were given and the actions.
        data: where the clips lie; by default where training found them.
        count: number of videos.
        seed: of the draws.
        actions: those of the frames to make instead, the same for all videos, float32, shape
            (length, A); what led to the frames that are given stays as recorded. It is said which
            are beyond recorded ones.
        actions_from: the file they are of, for people.
        progress: told of every step; by default a new `Pace`.

    Returns:
        Frames of a video that were made.

    Raises:
        ValueError: clips of other frames or actions than the run's, or another kind of file.
    """
    recipe = run.recipe
    assert isinstance(recipe, ForcingDoom)
    if path.suffix not in (".webp", ".safetensors"):
        raise ValueError(f"{path}: videos are written as .webp, or with actions as .safetensors")
    place = data or read_description(run.folder)["data"]
    split = recipe.load(place)
    recipe.fits(recipe.facts(split), run.facts)
    given, _ = recipe.asked(split.held_out, count)
    if actions is not None:
        if told := _beyond(actions, split.train.columns["actions"]):
            say(f"{actions_from or 'actions'}: {told}")
        before = given["actions"][:, : recipe.context]
        given["actions"] = torch.cat((before, actions.expand(count, -1, -1)), 1)
    path.parent.mkdir(parents=True, exist_ok=True)  # if that fails, then not at the end
    last, stopped = None, False
    try:
        with run.precision():
            for step in run.steps(given, seed=seed, progress=progress or Pace()):
                last = step
    except KeyboardInterrupt:
        if last is None:
            raise
        stopped = True
    assert last is not None
    with uninterrupted():  # a second signal, or one at the end, would lose all of it
        if path.suffix == ".webp":
            content = film(last.result, limit=20_000_000)
            write_bytes(path, content)
            if left := said(content):
                say(f"{path}: {left}, for its size: a .safetensors has all")
        else:
            about = {"made by": f"noiseloom, {recipe.name}", "seed": str(seed)}
            _clips(given, last.result, about).save(path, force=True)
    made = last.result.shape[1]
    if stopped:
        say(f"{counted(count, 'videos')} of {made:,} of {recipe.length:,} frames: {path}")
        raise KeyboardInterrupt
    return made


def _beyond(actions: Tensor, recorded: Tensor) -> str:
    """In words, which of the actions (N, A) is the first beyond the recorded ones (M, A)."""
    low, high = recorded.amin(0), recorded.amax(0)
    wrong = (actions < low) | (actions > high)
    if not wrong.any():
        return ""
    row, column = wrong.nonzero()[0].tolist()
    others = int(wrong.any(1).sum()) - 1
    also = f" (and {counted(others, 'more rows')})" if others else ""
    return (
        f"row {row + 1}{also} has {float(actions[row, column]):g} as number {column + 1}, where "
        f"{float(low[column]):g} to {float(high[column]):g} was recorded: what that shows was "
        "never learnt"
    )


def _clips(given: Given, made: Tensor, about: dict[str, str]) -> Clips:
    """Videos as episodes, each with the frames that it began with."""
    frames = torch.cat((given["frames"], made), 1)
    first = torch.zeros(frames.shape[:2], dtype=torch.bool)
    first[:, 0] = True
    actions = given["actions"][:, : frames.shape[1]].clone()
    actions[:, 0] = 0
    return Clips(frames.flatten(0, 1), actions.flatten(0, 1), first.flatten(), about)
