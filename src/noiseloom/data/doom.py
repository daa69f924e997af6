"""First-person video of a walk through the rooms of ViZDoom's `my_way_home`, with its actions.

The scenario is one fixed map of rooms, each with textures of its own, and corridors. An episode
begins at a random place and goes on as long as it is asked to: the time limit is lifted, and the
vest, which ends the scenario, is taken away. The game's time runs in tics, 35 a second; a step is
`skip` tics under one action. No display is needed.

ViZDoom: M. Kempka et al., 2016, "ViZDoom: A Doom-based AI Research Platform for Visual
Reinforcement Learning" (arXiv:1605.02097). The extra `sim` has it.
"""

import contextlib
import math
import signal
import tempfile
from bisect import bisect
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib import import_module
from itertools import accumulate
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseloom.data.clips import Clips
from noiseloom.data.interrupts import uninterrupted
from noiseloom.rng import Rng

__all__ = ["BUTTONS", "PART", "Seen", "Simulation", "Walk", "recording", "shrunk"]

BUTTONS = ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD", "MOVE_LEFT", "MOVE_RIGHT")
"""What an action presses (1) or leaves (0), in this order."""

PART = 5_000
"""Steps that one process records at a time: one episode."""

_SCREEN = 120, 160
_MOVES: dict[tuple[int, ...], float] = {
    (2,): 0.45,
    (0, 2): 0.12,
    (1, 2): 0.12,
    (2, 3): 0.05,
    (2, 4): 0.05,
    (0,): 0.08,
    (1,): 0.08,
    (3,): 0.025,
    (4,): 0.025,
}  # which buttons are pressed together, and how often
_UP_TO = tuple(accumulate(_MOVES.values()))[:-1]
_RANDOM = 0.3  # how often an action is drawn, and not led by the view
_NEAR = 3  # depth, in units of 8; a step at full speed covers 28 map units
_STUCK = 6.0  # map units: less than half of what the first step from rest covers
_BOLD = 0.1  # how often a step goes on towards a near wall
_ASTRAY = 0.2  # how often a turn goes where there is less room
_CIRCLE = 26  # steps of a whole turn
_VIEWS = 8  # parts of the horizon
_TOGETHER = 100  # pictures that are resized at a time
_ended: Event | None = None  # in a process that records beside others: nobody waits for it any more


class Seen(NamedTuple):
    """What one moment of the game shows.

    Attributes:
        picture: uint8, shape (3, 120, 160).
        place: x and y, in map units.
        ahead: least depth, in units of 8, in the middle quarter of the horizon.
        open: where on the horizon the view is deepest, from -1 (left) to 1 (right).
    """

    picture: NDArray[np.uint8]
    place: tuple[float, float]
    ahead: float
    open: float


class Simulation:
    """One game, of one episode, without window, sound or weapon in view.

    Args:
        seed: decides where it begins, 0 .. 2^31 - 1.
        skip: tics of a step.

    Raises:
        ImportError: the extra `sim` is missing.
    """

    def __init__(self, seed: int, skip: int = 4) -> None:
        vizdoom = _vizdoom()
        self.skip = skip
        self._game = game = vizdoom.DoomGame()
        game.load_config(str(Path(vizdoom.scenarios_path) / "my_way_home.cfg"))
        game.set_available_buttons([getattr(vizdoom.Button, name) for name in BUTTONS])
        variables = vizdoom.GameVariable
        game.set_available_game_variables([variables.POSITION_X, variables.POSITION_Y])
        game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
        game.set_screen_format(vizdoom.ScreenFormat.CRCGCB)  # red, green and blue planes
        game.set_depth_buffer_enabled(True)
        game.set_window_visible(False)
        game.set_sound_enabled(False)
        game.set_render_weapon(False)
        game.set_episode_timeout(0)
        game.set_doom_skill(3)  # there are no enemies; the hardest, 5, refuses to remove the vest
        game.set_seed(seed)
        self._folder = tempfile.TemporaryDirectory()
        # The game writes into the folder that it is started in.
        with contextlib.chdir(self._folder.name):
            game.init()
        game.send_game_command("remove GreenArmor")
        game.make_action([0.0] * len(BUTTONS), 1)

    def look(self) -> Seen:
        """What is to be seen now."""
        state = self._game.get_state()
        x, y = state.game_variables.tolist()
        horizon = state.depth_buffer[_SCREEN[0] // 2]
        ahead = horizon[_SCREEN[1] * 3 // 8 : _SCREEN[1] * 5 // 8].min()
        deepest = int(horizon.reshape(_VIEWS, -1).sum(1, dtype=int).argmax())
        return Seen(state.screen_buffer, (x, y), float(ahead), (2 * deepest + 1) / _VIEWS - 1)

    def step(self, action: Sequence[float]) -> Seen:
        """Press `BUTTONS` for `skip` tics, and look."""
        self._game.make_action(action, self.skip)
        return self.look()

    def close(self) -> None:
        """End the game."""
        self._game.close()
        self._folder.cleanup()


class Walk:
    """A random walk that is biased forward: it follows the rooms, and turns away from walls.

    It changes at random times between going to where the view is deepest and holding a random
    action, mostly forward. Before most walls, and where a step forward led nowhere, it turns until
    the view ahead is deep enough; how deep, and now and then to which side, is drawn.

    Args:
        draws: uniform numbers in (0, 1), a row of three for each step.
    """

    def __init__(self, draws: list[list[float]]) -> None:
        self._draws = iter(draws)
        self._last: Seen | None = None
        self._went = False
        self._pressed: tuple[int, ...] | None = ()  # None: where the view is deepest
        self._held = 0
        self._clear = 0.0  # what must be ahead for a turn away from a wall to end

    def __call__(self, seen: Seen) -> list[float]:
        """The next action."""
        which, how_long, side = next(self._draws)
        last, self._last = self._last, seen
        stuck = last and self._went and math.dist(seen.place, last.place) < _STUCK
        if not self._clear and (stuck or (seen.ahead <= _NEAR and side > _BOLD)):
            self._pressed = (int((seen.open > 0) != (which < _ASTRAY)),)
            self._clear, self._held = _NEAR + 12 * how_long, _CIRCLE
        elif seen.ahead > self._clear > 0 or not self._held:
            self._clear = 0.0
            self._pressed, self._held = None, 4 + int(16 * how_long)
            if which < _RANDOM:
                self._pressed = tuple(_MOVES)[bisect(_UP_TO, side)]
                self._held = 1 + int((12 if self._pressed == (2,) else 4) * how_long)
        self._held -= 1
        pressed = self._pressed
        if pressed is None:
            pressed = (2,) if abs(seen.open) < 0.3 else (int(seen.open > 0), 2)
        self._went = 2 in pressed
        return [float(i in pressed) for i in range(len(BUTTONS))]


def shrunk(pictures: NDArray[np.uint8], size: int) -> Tensor:
    """Pictures resized to a square by averaging over area: a pixel is the mean of what it covers.

    Pixels at the edge of a new pixel count by the share of them that it covers. The picture's
    sides are scaled each by its own factor: 4:3 becomes 1:1.

    Args:
        pictures: shape (N, C, H, W).
        size: side of the result, at most H and W.

    Returns:
        uint8, shape (N, C, size, size), rounded.
    """
    x = torch.from_numpy(pictures).float()
    rows, columns = (_cover(length, size) for length in x.shape[-2:])
    return (rows @ x @ columns.mT).round_().to(torch.uint8)


def recording(
    steps: int, rng: Rng, *, size: int = 64, skip: int = 4, jobs: int = 1
) -> Iterator[Clips]:
    """Record `Walk`, in pieces for `joined`, whose frames are in temporary files.

    Part k, steps 5,000 k and following, is an episode in a game of its own, drawn by
    `rng.fold("part", k)`: the recording depends neither on the number of processes nor, but for its
    length, on `steps`.

    Args:
        steps: how many frames.
        rng: decides where episodes begin, and the walk.
        size: side of a frame, 1 .. 120.
        skip: tics of a step.
        jobs: processes that record at the same time.

    Raises:
        ImportError: the extra `sim` is missing.
        ValueError: no steps, or `size`, `skip` or `jobs` outside their ranges.
    """
    if min(steps, skip, jobs) < 1 or not 1 <= size <= min(_SCREEN):
        raise ValueError(
            f"steps, skip and jobs must be at least 1 and size in 1 .. {min(_SCREEN)}, got "
            f"{steps=}, {skip=}, {jobs=}, {size=}"
        )
    _vizdoom()
    parts = range(-(-steps // PART))
    counts = [min(PART, steps - PART * k) for k in parts]
    keys = [rng.fold("part", k) for k in parts]
    work = partial(_record, size=size, skip=skip)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        paths = [Path(folder) / f"{k}.safetensors" for k in parts]
        made: Iterator[Path] = map(work, counts, keys, paths)
        if min(jobs, len(parts)) > 1:
            # A process that was forked would share the locks of PyTorch's threads: spawn.
            context = get_context("spawn")
            ended = context.Event()
            pool = ProcessPoolExecutor(min(jobs, len(parts)), context, _alone, (ended,))
            stack.callback(pool.shutdown, cancel_futures=True)
            stack.callback(ended.set)
            with uninterrupted():  # Ctrl-C while they import would show where each of them was
                made = pool.map(work, counts, keys, paths)
        for path in made:
            yield Clips.read(path)


def _record(steps: int, rng: Rng, path: Path, *, size: int, skip: int) -> Path:
    """Record one part into a file: it reaches another process by its name alone."""
    walk = Walk(rng.fold("walk").uniform((steps, 3)).tolist())
    frames = torch.empty(steps, 3, size, size, dtype=torch.uint8)
    actions = [[0.0] * len(BUTTONS)]
    seed = int(rng.fold("game").integers(2**31, (1,)))
    with contextlib.closing(Simulation(seed, skip)) as simulation:
        seen = simulation.look()
        for begin in range(0, steps, _TOGETHER):
            if _ended is not None and _ended.is_set():
                return path
            pictures = []
            for n in range(begin, min(begin + _TOGETHER, steps)):
                if n:
                    actions.append(walk(seen))
                    seen = simulation.step(actions[n])
                pictures.append(seen.picture)
            frames[begin : begin + _TOGETHER] = shrunk(np.stack(pictures), size)
    about = {
        "source": "ViZDoom my_way_home",
        "actions": " ".join(BUTTONS),
        "skip": f"{skip} tics",
        "policy": "a random walk, biased forward",
    }
    Clips(frames, torch.tensor(actions), torch.arange(steps) == 0, about).save(path)
    return path


def _alone(ended: Event) -> None:
    """What a process does that records beside others: one thread, and Ctrl-C is not for it."""
    global _ended
    _ended = ended
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def _cover(length: int, size: int) -> Tensor:
    """Share of each new pixel that an old one covers, shape (size, length); rows sum to 1."""
    edges = torch.arange(size + 1, dtype=torch.float64) * length / size
    old = torch.arange(length)
    inside = torch.minimum(edges[1:, None], old + 1) - torch.maximum(edges[:-1, None], old)
    return (inside.clamp(min=0) * size / length).float()


@cache
def _vizdoom() -> ModuleType:
    try:
        return import_module("vizdoom")
    except ImportError as error:
        raise ImportError(
            "Doom is simulated with the extra noiseloom[sim]: pip install 'noiseloom[sim]'"
        ) from error
