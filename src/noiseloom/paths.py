"""What a run plans: as parts of a page, and as a file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noiseloom.data import Split, Windows
from noiseloom.data.maze import Maze, Tasks, tasks
from noiseloom.data.tokens import evenly, spread
from noiseloom.figures import fan_chart, path_map
from noiseloom.gallery import section
from noiseloom.recipes import ForcingMaze, ForcingTrajectories
from noiseloom.rng import Rng
from noiseloom.run import Run
from noiseloom.run_folder import read_description
from noiseloom.terminal import Pace, save_paths

__all__ = ["numbers", "paths", "write_plans"]

PATHS = 12  # from one start, in a map
FAN = 50
TASKS = 6  # in a maze
STARTS = 4  # elsewhere
COLUMNS = 4  # shown of each start


def paths(run: Run, data: Split[Any] | None, seed: int) -> str:
    """Sections of a page that show plans: in a maze with their goals, else from held-out starts.

    Args:
        run: that plans.
        data: its trajectories; None if they are not at hand.
        seed: of the draws.
    """
    if isinstance(run.recipe, ForcingMaze):
        return _mazes(run, run.recipe, data, seed)
    assert isinstance(run.recipe, ForcingTrajectories)
    if data is None:
        return section("Plans", "<p>The data is not where it was, or has changed.</p>")
    return _futures(run, run.recipe, data.held_out, seed)


def _mazes(run: Run, recipe: ForcingMaze, data: Split[Any] | None, seed: int) -> str:
    """Plans from a few starts to goals, in the walls, and what driving by them came to."""
    maze = Maze(recipe.maze)
    asked = tasks(maze, TASKS, Rng(seed).fold("report"), multi_goal=True)
    driven = _driven(run, recipe, maze, asked, data, seed)
    figures = []
    for i in range(TASKS):
        start, goal = asked.starts[i], asked.goals[i]
        known = torch.cat((start, torch.zeros(2))).expand(PATHS, 1, 4)
        given = {"observations": known}
        plans = run.samples({**given, "goal": goal.expand(PATHS, 2)}, seed=seed)
        drawing = path_map(
            torch.cat((known[..., :2], plans[..., :2]), 1),
            f"task {i + 1}",
            walls=torch.from_numpy(maze.walls),
            driven=None if driven is None else driven[i],
            goal=goal,
        )
        figures.append(f"<figure>{drawing}</figure>")
    text = (
        f"{PATHS} plans each from the same start (dot) to a goal (star), as drawn with seed {seed}."
        f" {_led(recipe)} "
    )
    if driven is None:
        text += "What driving by them comes to is shown with the extra noiseloom[sim]."
    else:
        text += f"The line was driven, with a new plan every {recipe.every} steps."
    return section("Plans", f'<p>{text}</p><div class="pair">{"".join(figures)}</div>')


def _led(recipe: ForcingMaze) -> str:
    """How plans come to know of their goal, in words."""
    told = []
    if end := recipe.ending(0):
        last = (recipe.tokens - 1 - end) * recipe.stack
        told.append(f"Their end is known: from step {last} on they rest at the goal.")
    if recipe.goal_guidance != "none":
        kind: str = recipe.goal_guidance
        if kind == "monte-carlo":
            kind += f" of {recipe.futures} futures"
        rounds = f"{recipe.goal_rounds} rounds" if recipe.goal_rounds else "the plain gradient"
        told.append(f"Guidance: {kind}, scale {recipe.goal_scale:g}, {rounds}.")
    return " ".join(told) or "Nothing tells them of the goal."


def _driven(
    run: Run,
    recipe: ForcingMaze,
    maze: Maze,
    asked: Tasks,
    data: Split[Any] | None,
    seed: int,
) -> Tensor | None:
    """Positions of the tasks' episodes, where there is a simulator."""
    from noiseloom.data.point_maze import episodes

    try:
        recipe.check()
    except ImportError:
        return None
    recorded = None if data is None else data.train
    planner = recipe.planner(lambda given: run.samples(given, seed=seed), recorded)
    return episodes(maze, planner, asked).positions


def _futures(run: Run, recipe: ForcingTrajectories, held: Windows, seed: int) -> str:
    rows = evenly(len(held), STARTS)
    drawn = run.samples(recipe.asked(held, rows, FAN), seed=seed)
    seen, D, c = held[rows]["observations"], run.facts["observations"], recipe.context
    fans = drawn[..., :D].reshape(len(rows), FAN, recipe.ahead, D)
    found = []
    for i, window in enumerate(seen):
        charts = [
            fan_chart(window[:c, k], window[c:, k], fans[i, ..., k], name)
            for k, name in enumerate(run.facts["columns"][: min(D, COLUMNS)])
        ]
        if D > 1:
            ahead = torch.cat(
                (window[c - 1 : c, :2].expand(PATHS, 1, 2), fans[i, :PATHS, :, :2]), 1
            )
            charts.append(path_map(ahead, "in the plane", driven=window[:, :2]))
        figures = "".join(f"<figure>{chart}</figure>" for chart in charts)
        found.append(f'<h3>Start {int(rows[i]):,}</h3><div class="pair">{figures}</div>')
    text = (
        f"{FAN} plans from a held-out start, as drawn with seed {seed}: median, the middle 50 % "
        "and 90 %, and the first three; the line is what came."
    )
    return section("Plans", f"<p>{text}</p>{''.join(found)}")


def write_plans(
    run: Run,
    path: Path,
    *,
    data: str | None,
    count: int,
    seed: int,
    start: str | None = None,
    goal: str | None = None,
    progress: Pace | None = None,
) -> int:
    """Sample plans from held-out starts, evenly spread over the data; in a maze, to its goal.

    The CSV file has a row for every plan and step: their numbers, from 0 and from 1, and what is
    observed and done.

    Args:
        run: of a recipe of trajectories.
        path: of the file.
        data: where the trajectories lie; by default where training found them.
        count: number of plans.
        seed: of the draws.
        start: what is observed now, for all plans: numbers by column, of all columns (in a maze
            places are enough); the data are then not needed.
        goal: what observations are to be, likewise, of some columns.
        progress: told of every step.

    Returns:
        Steps of a plan.

    Raises:
        ValueError: trajectories of other columns than the run's, or numbers that are no such.
    """
    recipe = run.recipe
    assert isinstance(recipe, ForcingTrajectories)
    known, names = run.facts["columns"], recipe.names(run.facts)
    given: dict[str, Tensor] = {}
    if start is not None:
        if recipe.context != 1:
            raise ValueError(
                f"plans of this run follow {recipe.context} observations, which --start cannot "
                "say: leave it out, and give --data a file to take them from"
            )
        seen = recipe.start(numbers(start, names, "start"))
        given["observations"] = seen.expand(count, 1, -1)
    else:
        split = recipe.load(data or read_description(run.folder)["data"])
        recipe.fits(recipe.facts(split), run.facts)
        rows = spread(len(split.held_out), count)
        given |= recipe.asked(split.held_out, rows, 1)
    aim = recipe.aim(None if goal is None else numbers(goal, names, "goal"))
    if aim is not None:
        given["goal"] = aim.expand(count, -1)
        guided = recipe.goal_guidance != "none" and recipe.goal_scale and recipe.goal_begin
        if goal is not None and not recipe.deadline and not (guided and recipe.seek != "rewards"):
            raise ValueError(
                "nothing leads plans to a goal: give --goal-guidance gradient or monte-carlo "
                "(of a scale above 0, that seeks more than rewards), or "
                "--deadline 0.6 where the model was trained on known ends"
            )
    plans = run.samples(given, seed=seed, progress=progress)
    save_paths(path, "plan", known, plans)
    return plans.shape[1]


def numbers(text: str, names: Sequence[str], what: str) -> Tensor:
    """What "1.5,-2", "0=1.5,3=-2" or "x=1.5" says of columns, NaN of those that it leaves out.

    Args:
        text: numbers of the first columns, or of named or numbered ones.
        names: of the columns.
        what: is said, for people.

    Raises:
        ValueError: a column that is not there, or is named twice, or no number.
    """
    found = torch.full((len(names),), math.nan)
    for place, part in enumerate(text.split(",")):
        name, equals, value = part.rpartition("=")
        name = name.strip() if equals else str(place)
        if name in names:
            name = str(names.index(name))
        if not name.isdecimal() or int(name) >= len(names):
            raise ValueError(
                f"--{what} {text}: there is no column {name}: choose from {', '.join(names)}, or "
                f"numbers from 0 to {len(names) - 1}"
            )
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"--{what} {text}: {value.strip() or 'nothing'} is no number")
        if not found[int(name)].isnan():
            raise ValueError(f"--{what} {text}: column {name} is given twice")
        found[int(name)] = number
    return found
