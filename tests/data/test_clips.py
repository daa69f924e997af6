"""Clips: episodes of frames and actions, their files, and the windows of them."""

import json
import stat
import struct

import pytest
import torch
from safetensors.torch import save_file

from noiseloom.data import Clips, ClipWindows
from noiseloom.rng import Rng

LENGTHS = 7, 3, 12, 8


def clips(lengths=LENGTHS, channels=2, side=4, actions=3):
    """Frame n is filled with n, but for its corner, and its action is n, but for beginnings."""
    count = sum(lengths)
    frames = torch.arange(count, dtype=torch.uint8)[:, None, None, None]
    frames = frames.repeat(1, channels, side, side)
    frames[:, :, 0, 0] = Rng(0).integers(256, (count, channels)).byte()
    first = torch.zeros(count, dtype=torch.bool)
    first[torch.tensor((0, *lengths[:-1])).cumsum(0)] = True
    moves = torch.arange(count).float()[:, None].repeat(1, actions)
    moves[first] = 0
    return Clips(frames, moves, first, {"source": "a test"})


def equal(a, b):
    return all(torch.equal(x, b.columns()[name]) for name, x in a.columns().items())


def test_episodes():
    assert clips().episodes.tolist() == [[0, 7], [7, 10], [10, 22], [22, 30]]
    assert len(clips()) == 30


@pytest.mark.parametrize("length", [1, 2, 3, 8, 12])
@pytest.mark.parametrize("stride", [1, 3])
def test_windows_are_the_stretches_within_episodes(length, stride):
    whole = clips()
    windows = ClipWindows(whole, length, stride)
    starts = [n for a, b in whole.episodes.tolist() for n in range(a, b - length + 1, stride)]
    assert len(windows) == len(starts)
    order = Rng(1).permutation(len(windows))
    batch = windows[order]
    assert batch["frames"].shape == (len(starts), length, 2, 4, 4)
    assert batch["frames"].is_contiguous()
    for row, i in enumerate(order.tolist()):
        stretch = slice(starts[i], starts[i] + length)
        assert torch.equal(batch["frames"][row], whole.frames[stretch])
        assert torch.equal(batch["actions"][row], whole.actions[stretch])
        assert not whole.first[stretch][1:].any()


def test_windows_without_actions_and_on_a_device():
    windows = ClipWindows(clips(actions=0), 3).to("cpu")
    assert windows[torch.tensor([4, 0])]["actions"].shape == (2, 3, 0)
    assert len(windows.tensors()) == 4


@pytest.mark.parametrize("held_out", [0.2, 0.5, 0.01])
def test_no_window_is_in_both_parts_or_straddles_the_cut(held_out):
    whole = clips()
    split = whole.windows(3, held_out) if held_out > 0.05 else None
    train, rest = whole.split(held_out)
    cut = min(round((1 - held_out) * 30), 29)
    assert (len(train), len(rest)) == (cut, 30 - cut)
    assert torch.equal(torch.cat((train.frames, rest.frames)), whole.frames)
    assert train.frames.data_ptr() == whole.frames.data_ptr()  # no copy
    assert rest.first[0]
    assert not rest.actions[0].any()
    assert torch.equal(rest.actions[1:], whole.actions[cut + 1 :])
    if split:
        seen = [
            set(part[torch.arange(len(part))]["frames"][:, :, 0, 1, 1].flatten().tolist())
            for part in (split.train, split.held_out)
        ]
        assert max(seen[0]) < cut <= min(seen[1])
        assert split.fingerprint() == whole.windows(3, held_out).fingerprint()
        assert split.fingerprint() != whole.windows(4, held_out).fingerprint()


def test_pieces_are_joined():
    a, b = clips((3, 4)), clips((5,))
    whole = Clips.joined([a, b])
    assert whole.episodes.tolist() == [[0, 3], [3, 7], [7, 12]]
    assert torch.equal(whole.frames[7:], b.frames)
    assert whole.about == a.about
    assert Clips.joined([a]) is a


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "a.safetensors"
    whole = clips()
    whole.split(0.5)[1].save(path)
    assert equal(Clips.read(path), whole.split(0.5)[1])
    with pytest.raises(FileExistsError, match="exists: choose another name"):
        whole.save(path)
    whole.save(path, force=True)
    found = Clips.read(str(path))
    assert equal(found, whole)
    assert found.about == whole.about
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    # Whoever may read other new files here may read this one.
    (tmp_path / "usual").touch()
    assert stat.filemode(path.stat().st_mode) == stat.filemode((tmp_path / "usual").stat().st_mode)
    path.unlink()
    assert equal(found, whole)  # mapped
    with pytest.raises(ValueError, match=r"written as \.safetensors"):
        whole.save(tmp_path / "a.npz")


def test_a_recording_of_ones_own_needs_no_words(tmp_path):
    tensors = {**clips().columns(), "poses": torch.zeros(30, 2)}
    save_file(tensors, tmp_path / "mine.safetensors")
    assert equal(Clips.read(tmp_path / "mine.safetensors"), clips())


def written(tmp_path, **changes):
    path = tmp_path / "a.safetensors"
    tensors = {**clips().columns(), **changes}
    save_file({k: v for k, v in tensors.items() if v is not None}, path)
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"actions": None}, "has no actions; it has first, frames"),
        ({"actions": None, "frames": None}, "has no frames and no actions; it has first"),
        ({"frames": torch.zeros(30, 2, 4, 4)}, "frames must be uint8, got torch.float32"),
        ({"first": torch.zeros(30)}, "first must be bool, got torch.float32"),
        ({"frames": torch.zeros(30, 4, 4).byte()}, r"frames must have axes \(N, C, H, W\), got"),
        ({"actions": torch.zeros(29, 3)}, "actions has 29 rows, frames has 30"),
        ({"actions": torch.full((30, 3), torch.nan)}, "the action of frame 0 is not finite"),
        ({"actions": torch.ones(30, 3)}, "frame 0 begins an episode, and its action must be 0"),
        ({"first": torch.zeros(30).bool()}, "first must be true for frame 0"),
        ({"frames": torch.zeros(30, 0, 4, 4).byte()}, r"frames is empty, of shape \(30, 0, 4, 4\)"),
        (
            {
                "frames": torch.zeros(0, 2, 4, 4).byte(),
                "actions": torch.zeros(0, 3),
                "first": torch.zeros(0).bool(),
            },
            "frames is empty",
        ),
    ],
)
def test_files_that_are_no_clips(tmp_path, changes, words):
    path = written(tmp_path, **changes)
    with pytest.raises(ValueError, match=words) as found:
        Clips.read(path)
    assert str(found.value).startswith(str(path))
    assert "\n" not in str(found.value)


def test_files_that_cannot_be_read(tmp_path):
    path = written(tmp_path)
    whole = path.read_bytes()
    header = json.dumps({"frames": {"dtype": "U8", "shape": [9], "data_offsets": [0, 900]}})
    for damaged in (
        b"",
        b"none of it",
        whole[: len(whole) // 2],
        struct.pack("<Q", len(header)) + header.encode() + bytes(9),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot be read: ") as found:
            Clips.read(path)
        assert "\n" not in str(found.value)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Clips.read(tmp_path / "b.safetensors")
    for other in (tmp_path, tmp_path / "a.npz"):
        if other != tmp_path:
            other.touch()
        with pytest.raises(ValueError, match=r"clips are read from a \.safetensors file"):
            Clips.read(other)


def test_refusals():
    with pytest.raises(ValueError, match="no episode has 13 frames, the longest has 12"):
        ClipWindows(clips(), 13)
    with pytest.raises(ValueError, match="length and stride must be at least 1, got 0 and 1"):
        ClipWindows(clips(), 0)
    for held_out in (0, 1):
        with pytest.raises(ValueError, match="held_out must be between 0 and 1"):
            clips().split(held_out)


def test_short_episodes_are_left_out_and_said_to_be():
    split = clips().windows(5, 0.3)  # cut at 21: episodes of 7, 3 and 11, and of 1 and 8
    assert split.notes == (
        "1 of 3 episodes to train on have fewer than 5 frames: left out (3 of 21 frames)",
        "1 of 2 episodes held out have fewer than 5 frames: left out (1 of 9 frames)",
    )
    assert split.train.firsts.tolist() == [0, 1, 2, *range(10, 17)]
    assert clips((7, 5, 12)).windows(3, 0.5).notes == ()
