"""First-person video of a walk through the rooms of ViZDoom's `my_way_home`, with its actions.

The scenario is one fixed map of rooms, each with textures of its own, and corridors. An episode
begins at a random place and goes on as long as it is asked to: the time limit is lifted, and the
vest, which ends the scenario, is taken away. The game's time runs in tics, 35 a second; a step is
`skip` tics under one action. No display is needed.

ViZDoom: M. Kempka et al., 2016, "ViZDoom: A Doom-based AI Research Platform for Visual
Reinforcement Learning" (arXiv:1605.02097). The extra `sim` has it.
"""

import contextlib
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noiseloom.data.clips import Clips
from noiseloom.data.walks import BUTTONS, WALKS, Seen
from noiseloom.interrupts import end_with_parent, sheltered
from noiseloom.rng import Rng

__all__ = ["PART", "Simulation", "recording", "shrunk"]

PART = 5_000
"""Steps that one process records at a time: one episode."""

_SCREEN = 120, 160
_VIEWS = 8  # parts of the horizon
_TOGETHER = 100  # pictures that are resized at a time
_ended: Event | None = None  # in a process that records beside others: nobody waits for it any more
_playing = threading.Lock()  # while there is a game


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
        try:
            # The game writes into the folder that it is started in, also as it ends: were it ended
            # by the terminal's Ctrl-C, the folder would be gone first.
            with contextlib.chdir(self._folder.name), sheltered():
                game.init()
            game.send_game_command("remove GreenArmor")
            game.make_action([0.0] * len(BUTTONS), 1)
        except BaseException:  # nobody has it yet that could end it
            self.close()
            raise

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
    steps: int,
    rng: Rng,
    *,
    walk: str = "blind",
    size: int = 64,
    skip: int = 4,
    jobs: int = 1,
) -> Iterator[Clips]:
    """Record a walk, in pieces for `joined`, whose frames are in temporary files.

    Part k, steps 5,000 k and following, is an episode in a game of its own, drawn by
    `rng.fold("part", k)`: the recording depends neither on the number of processes nor, but for its
    length, on `steps`.

    Args:
        steps: how many frames.
        rng: decides where episodes begin, and the walk.
        walk: which one, a name in `WALKS`.
        size: side of a frame, 1 .. 120.
        skip: tics of a step.
        jobs: processes that record at the same time.

    Raises:
        ImportError: the extra `sim` is missing.
        ValueError: no steps, or `size`, `skip` or `jobs` outside their ranges, or another walk.
    """
    if min(steps, skip, jobs) < 1 or not 1 <= size <= min(_SCREEN):
        raise ValueError(
            f"steps, skip and jobs must be at least 1 and size in 1 .. {min(_SCREEN)}, got "
            f"{steps=}, {skip=}, {jobs=}, {size=}"
        )
    if walk not in WALKS:
        raise ValueError(f"walk must be one of {', '.join(WALKS)}, got {walk!r}")
    _vizdoom()
    parts = range(-(-steps // PART))
    counts = [min(PART, steps - PART * k) for k in parts]
    keys = [rng.fold("part", k) for k in parts]
    work = partial(_record, walk=walk, size=size, skip=skip)
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
            with sheltered():  # Ctrl-C while they import would show where each of them was
                made = pool.map(work, counts, keys, paths)
        for path in made:
            yield Clips.read(path)


def _record(steps: int, rng: Rng, path: Path, *, walk: str, size: int, skip: int) -> Path:
    """Record one part into a file: it reaches another process by its name alone."""
    policy = WALKS[walk](rng.fold("walk").uniform((steps, 3)).tolist())
    frames = torch.empty(steps, 3, size, size, dtype=torch.uint8)
    actions = [[0.0] * len(BUTTONS)]
    seed = int(rng.fold("game").integers(2**31, (1,)))
    with _playing, contextlib.closing(Simulation(seed, skip)) as simulation:
        seen = simulation.look()
        for begin in range(0, steps, _TOGETHER):
            if _ended is not None and _ended.is_set():
                return path
            pictures = []
            for n in range(begin, min(begin + _TOGETHER, steps)):
                if n:
                    actions.append(policy(seen))
                    seen = simulation.step(actions[n])
                pictures.append(seen.picture)
            frames[begin : begin + _TOGETHER] = shrunk(np.stack(pictures), size)
    about = {
        "source": "ViZDoom my_way_home",
        "actions": " ".join(BUTTONS),
        "skip": f"{skip} tics",
        "walk": walk,
    }
    Clips(frames, torch.tensor(actions), torch.arange(steps) == 0, about).save(path)
    return path


def _alone(ended: Event) -> None:
    """What a process does that records beside others: one thread, and no signal is for it.

    Ctrl-C and a limit's SIGTERM reach all of a group. The process that has begun it ends it, also
    where that one is killed.
    """
    global _ended
    _ended = ended
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(_end_game)


def _end_game() -> None:
    """End the game, which would go on without this process, and let no other one begin."""
    assert _ended is not None
    _ended.set()
    _playing.acquire(timeout=60)


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
