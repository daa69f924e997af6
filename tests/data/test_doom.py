"""Video of Doom: recordings are functions of their key, and show a walk that gets about."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from noiseloom.data import Clips, doom
from noiseloom.data.doom import PART, Simulation, recording, shrunk
from noiseloom.data.walks import BUTTONS, WALKS, BlindWalk, SeeingWalk, Seen
from noiseloom.rng import Rng

WALL = Seen(np.zeros((3, 120, 160), np.uint8), (0.0, 0.0), 1.0, -0.9)


def test_shrunk_is_the_mean_over_the_area_that_a_pixel_covers():
    pictures = Rng(0).integers(256, (2, 3, 12, 16)).byte()
    # Of pictures made eight times as large, pixel by pixel, whole blocks cover a new pixel.
    large = pictures.repeat_interleave(8, 2).repeat_interleave(8, 3).float()
    exact = large.reshape(2, 3, 8, 12, 8, 16).mean((3, 5))
    found = shrunk(pictures.numpy(), 8)
    assert found.dtype == torch.uint8
    assert (found - exact).abs().max() <= 0.501
    assert torch.equal(shrunk(pictures[..., :12].numpy(), 12), pictures[..., :12])


def test_a_seeing_walk_turns_before_a_wall_until_the_view_is_clear():
    draws = Rng(0).uniform((60, 3)).clamp(0.3, 0.999)
    walk = SeeingWalk(draws.tolist())
    turns = [walk(WALL) for _ in range(20)]
    # To the left, where the view is deepest, and never forward.
    assert turns == [[1.0, 0.0, 0.0, 0.0, 0.0]] * 20
    onward = [walk(WALL._replace(place=(28.0 * n, 0.0), ahead=40.0, open=0.1)) for n in range(5)]
    assert onward == [[0.0, 0.0, 1.0, 0.0, 0.0]] * 5
    curve = walk(WALL._replace(place=(200.0, 0.0), ahead=40.0, open=0.6))
    assert curve == [0.0, 1.0, 1.0, 0.0, 0.0]


def test_a_seeing_walk_turns_where_a_step_forward_led_nowhere():
    walk = SeeingWalk([[0.5, 0.5, 0.5]] * 2)
    ahead = WALL._replace(ahead=40.0, open=0.1)
    assert walk(ahead)[2] == 1
    assert walk(ahead) == [0.0, 1.0, 0.0, 0.0, 0.0]


def test_a_blind_walk_draws_its_actions_without_looking():
    draws = Rng(0).uniform((20_000, 3)).tolist()
    walks = [BlindWalk(draws), BlindWalk(draws)]
    views = [WALL, WALL._replace(ahead=40.0, place=(9.0, 9.0))]
    found, other = ([walk(view) for _ in draws] for walk, view in zip(walks, views, strict=True))
    assert found == other
    # Of a stretch: straight 9 steps, a curve 16, a turn 8; the share of steps that goes forward.
    pressed = torch.tensor(found).mean(0)
    forward = (0.25 * 9 + 0.5 * 16) / (0.25 * 9 + 0.5 * 16 + 0.25 * 8)
    assert pressed[2] == pytest.approx(forward, abs=0.02)
    assert pressed[0] == pytest.approx(float(pressed[1]), abs=0.04)  # no side is preferred
    assert pressed[3:].tolist() == [0, 0]


@pytest.mark.parametrize("given", [{"steps": 0}, {"size": 0}, {"size": 121}, {"jobs": 0}])
def test_refusals(given):
    with pytest.raises(ValueError, match=r"at least 1 and size in 1 \.\. 120, got steps="):
        next(recording(given.pop("steps", 1), Rng(0), **given))


def test_a_walk_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="walk must be one of blind, seeing, got 'lame'"):
        next(recording(1, Rng(0), walk="lame"))


@pytest.fixture(scope="module", params=list(WALKS))
def walk(request):
    pytest.importorskip("vizdoom")
    return request.param


@pytest.fixture(scope="module")
def recorded(walk):
    return Clips.joined(list(recording(600, Rng(0), walk=walk, size=16)))


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(doom, "PART", 100)


def test_a_recording_is_a_walk_with_its_actions(recorded):
    assert recorded.frames.shape == (600, 3, 16, 16)
    assert recorded.episodes.tolist() == [[0, 600]]
    assert recorded.about["actions"].split() == list(BUTTONS)
    assert set(recorded.actions.unique().tolist()) == {0, 1}
    pressed = recorded.actions.mean(0)
    assert pressed[2] > 0.4
    assert 0.1 < pressed[0] < 0.6
    assert 0.1 < pressed[1] < 0.6
    changes = recorded.frames.float().diff(dim=0).abs().mean((1, 2, 3))
    assert (changes < 0.5).float().mean() < 0.05  # hardly ever does nothing happen


def test_recordings_are_functions_of_their_key(recorded, walk):
    again = Clips.joined(list(recording(150, Rng(0), walk=walk, size=16)))
    for name, column in again.columns().items():
        assert torch.equal(column, recorded.columns()[name][:150])
    other = next(recording(150, Rng(1), walk=walk, size=16))
    assert not torch.equal(other.frames[0], again.frames[0])


def test_parts_do_not_depend_on_the_number_of_processes(recorded, small_parts, tmp_path):
    pieces = list(recording(250, Rng(3), size=16, jobs=2))
    assert [len(piece) for piece in pieces] == [100, 100, 50]
    alone = list(recording(250, Rng(3), size=16))
    for a, b in zip(pieces, alone, strict=True):
        assert torch.equal(a.frames, b.frames)
        assert torch.equal(a.actions, b.actions)
    # They begin at different places.
    assert len({tuple(piece.frames[0].flatten().tolist()) for piece in pieces}) == 3
    assert Clips.joined(pieces).episodes[:, 0].tolist() == [0, 100, 200]


def test_a_part_that_nobody_waits_for_is_left(monkeypatch, tmp_path):
    pytest.importorskip("vizdoom")
    ended = get_context("spawn").Event()
    monkeypatch.setattr(doom, "_ended", ended)
    doom._record(10, Rng(0), tmp_path / "a.safetensors", walk="seeing", size=16, skip=4)
    ended.set()
    doom._record(10, Rng(0), tmp_path / "b.safetensors", walk="seeing", size=16, skip=4)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("when", ["as they start", "later"])
def test_a_recording_that_is_left_ends_its_processes(monkeypatch, when):
    class Pool:
        def __init__(self, jobs, context, initializer, given):
            self.ended = given[0]

        def map(self, work, counts, keys, paths):
            found.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            if when == "as they start":
                os.kill(os.getpid(), signal.SIGINT)
            return self.interrupted()

        def interrupted(self):
            assert when == "later"
            raise KeyboardInterrupt
            yield

        def shutdown(self, cancel_futures):
            found.append(self.ended.is_set())

    found = []
    monkeypatch.setattr(doom, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(doom, "_vizdoom", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        next(recording(20_000, Rng(0), jobs=2))
    assert found == [{signal.SIGINT, signal.SIGTERM}, True]


def test_an_episode_has_no_end_and_leaves_no_files(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    simulation = Simulation(0, skip=1)
    places = [simulation.look().place]
    simulation.skip = 700
    for _ in range(4):  # 2,100 tics is the scenario's own limit
        places.append(simulation.step([0.0, 0.0, 1.0, 0.0, 0.0]).place)
    simulation.close()
    assert math.dist(places[0], places[1]) > 1
    assert not list(tmp_path.iterdir())
    assert PART >= 4_000  # a rollout of thousands of steps needs as many actions of one episode


def test_an_action_leads_to_the_frame_beside_it(recorded):
    """Replayed in a game of the same seed, the actions give the frames."""
    seed = int(Rng(0).fold("part", 0).fold("game").integers(2**31, (1,)))
    simulation = Simulation(seed)
    pictures = [simulation.look().picture]
    pictures += [simulation.step(action).picture for action in recorded.actions[1:80].tolist()]
    simulation.close()
    assert torch.equal(shrunk(np.stack(pictures), 16), recorded.frames[:80])


WALKING = """
from noiseloom.data import doom
from noiseloom.interrupts import terminable
from noiseloom.rng import Rng

step = doom.Simulation.step
def told(self, action):
    print("step", flush=True)
    return step(self, action)

doom.Simulation.step = told
with terminable():
    list(doom.recording(500_000, Rng(0), size=8))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_game_is_ended_by_its_process_alone_and_does_not_outlive_it(number):
    """A terminal's Ctrl-C, and a limit of time, are told to a game as well."""
    pytest.importorskip("vizdoom")
    words, pipe = [sys.executable, "-c", WALKING], subprocess.PIPE
    with subprocess.Popen(
        words, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            for _ in range(5):
                assert process.stdout.readline() == "step\n"
            command = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
            listed = subprocess.run(command, capture_output=True)
            (game,) = map(int, listed.stdout.split())
            os.kill(game, number)
            end = time.monotonic() + 0.5
            while time.monotonic() < end:  # it goes on
                assert process.stdout.readline() == "step\n"
            os.killpg(process.pid, number)
            _, told = process.communicate(timeout=60)
            assert told.splitlines()[-1] == "KeyboardInterrupt"
            assert "could not be saved" not in told
            with pytest.raises(ProcessLookupError):
                os.kill(game, 0)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


BESIDE = """
from noiseloom.data import doom
from noiseloom.rng import Rng

if __name__ == "__main__":
    list(doom.recording(4 * doom.PART, Rng(0), size=8, jobs=2))
"""


def test_processes_and_games_end_after_a_parent_that_was_killed(tmp_path):
    pytest.importorskip("vizdoom")
    script = tmp_path / "beside.py"
    script.write_text(BESIDE)

    def alive():
        command = ["ps", "-o", "stat=,pid=,comm=", "-s", str(process.pid)]
        rows = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        return {int(row.split()[1]): row.split()[2] for row in rows if row[0] != "Z"}

    def within(seconds, met):
        end = time.monotonic() + seconds
        while not met(alive()):
            assert time.monotonic() < end, alive()
            time.sleep(0.1)

    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    try:
        within(60, lambda found: sum("vizdoom" in name for name in found.values()) == 2)
        process.kill()
        process.wait()
        within(30, lambda found: not found)
    finally:
        for pid in alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_game_that_nobody_got_is_ended(monkeypatch):
    ended = []

    class Game:
        def __getattr__(self, name):
            return lambda *_: None

        def init(self):
            raise KeyboardInterrupt

        def close(self):
            ended.append(os.listdir(folders[0].name))

    class Folder(doom.tempfile.TemporaryDirectory):
        def __init__(self):
            super().__init__()
            folders.append(self)

    class Vizdoom:
        DoomGame = Game
        scenarios_path = "."

        def __getattr__(self, name):
            return self

    folders = []
    monkeypatch.setattr(doom, "_vizdoom", Vizdoom)
    monkeypatch.setattr(doom.tempfile, "TemporaryDirectory", Folder)
    with pytest.raises(KeyboardInterrupt):
        Simulation(0)
    assert ended == [[]]  # before its folder is removed
    assert not os.path.exists(folders[0].name)
