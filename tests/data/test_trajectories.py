"""Trajectories: windows inside episodes, honest splits, files in and out."""

import itertools
import sys

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from noiseloom.data import Trajectories, Windows, whole_file
from noiseloom.rng import Rng
from noiseloom.training import Training
from noiseloom.training.batches import Batches


def walk(lengths, open_end=False, **columns):
    """Episodes whose observations are (episode, step of it, step of all)."""
    rows = [(e, i) for e, n in enumerate(lengths) for i in range(n)]
    seen = torch.tensor([(e, i, j) for j, (e, i) in enumerate(rows)], dtype=torch.float32)
    ends = torch.tensor(lengths).cumsum(0)
    actions = Rng(5).normal((len(rows), 2))
    columns.setdefault("rewards", seen[:, 2] / 7)
    return Trajectories(seen, actions, ends=ends[:-1] if open_end else ends, **columns)


def some_lengths(seed, count=12):
    return (1 + Rng(seed).integers(20, (count,))).tolist()


def same(a, b):
    assert a.columns().keys() == b.columns().keys()
    assert all(torch.equal(value, b.columns()[name]) for name, value in a.columns().items())
    assert torch.equal(a.ends, b.ends)
    return True


# Windows.


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("length", "stride"), [(1, 1), (5, 1), (5, 3), (8, 11)])
@pytest.mark.parametrize("open_end", [False, True])
def test_windows_are_all_stretches_inside_an_episode_and_no_others(seed, length, stride, open_end):
    lengths = [*some_lengths(seed), 20]
    windows = Windows(walk(lengths, open_end), length, stride)
    batch = windows[torch.arange(len(windows))]
    episode, step, row = batch["observations"].unbind(-1)
    assert (episode == episode[:, :1]).all()
    assert (step.diff() == 1).all()
    expected = {(e, i) for e, n in enumerate(lengths) for i in range(0, n - length + 1, stride)}
    starts = [(int(e), int(i)) for e, i in zip(episode[:, 0], step[:, 0], strict=True)]
    assert len(starts) == len(expected)
    assert set(starts) == expected
    # All columns are of the same steps.
    torch.testing.assert_close(batch["rewards"], row / 7)
    assert batch["actions"].shape == (len(windows), length, 2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("least", "stride"), [(1, 1), (3, 1), (8, 1), (3, 2)])
def test_shorter_episodes_give_padded_windows_where_enough_steps_are_left(seed, least, stride):
    lengths, length = [*some_lengths(seed), 20, 4], 8
    windows = Windows(walk(lengths), length, stride, least)
    batch = windows[torch.arange(len(windows))]
    whole = Windows(walk(lengths), length, stride)
    if least == length:  # nothing has padding, and nobody is told of it
        assert batch.keys() == {"observations", "actions", "rewards"}
        assert all(map(torch.equal, windows.tensors(), whole.tensors()))
        return
    episode, step, row = batch["observations"].unbind(-1)
    assert (episode == episode[:, :1]).all()
    count = torch.tensor(lengths)[episode[:, 0].long()]
    place = step[:, :1] + torch.arange(length)
    assert torch.equal(batch["real"], place < count[:, None])
    assert torch.equal(step, torch.minimum(place, count[:, None] - 1))
    torch.testing.assert_close(batch["rewards"], row / 7)
    # Of long episodes the windows that they had, and from short ones as many as there can be.
    long = count >= length
    assert torch.equal(windows.firsts[long], whole.firsts)
    assert batch["real"][long].all()
    expected = [n - least + 1 for n in lengths if least <= n < length]
    assert int((~long).sum()) == sum(-(-n // stride) for n in expected)
    assert (batch["real"].sum(1) >= least).all()
    moved = windows.to("cpu")[torch.tensor([len(windows) - 1])]
    assert all(torch.equal(moved[name], batch[name][-1:]) for name in batch)
    assert len(windows.tensors()) == len(whole.tensors()) + 1


def test_windows_copy_nothing_until_they_are_asked():
    trajectories = walk([100])
    windows = Windows(trajectories, 50)
    assert windows.columns["observations"].data_ptr() == trajectories.observations.data_ptr()
    assert windows.to("cpu").columns["actions"].data_ptr() == trajectories.actions.data_ptr()


def test_windows_are_a_data_set_of_the_training_loop():
    windows = Windows(walk([30, 40]), 10)
    moved = windows.to("cpu")
    batches = Batches(moved, Training(batch_size=8, steps=1), Accelerator(cpu=True))
    batch = batches.part(1, 0).batch
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "observations": (8, 10, 3),
        "actions": (8, 10, 2),
        "rewards": (8, 10),
    }
    assert torch.equal(moved[torch.tensor([3])]["actions"], windows[torch.tensor([3])]["actions"])


def test_tensors_change_with_everything_that_defines_windows():
    def print_of(trajectories, length=3, stride=1):
        return [t.tolist() for t in Windows(trajectories, length, stride).tensors()]

    base = print_of(walk([10, 10]))
    assert base == print_of(walk([10, 10]))
    changed = [
        print_of(walk([10, 10]), length=4),
        print_of(walk([10, 10]), stride=2),
        print_of(walk([9, 11])),
        print_of(walk([10, 10], rewards=torch.zeros(20))),
        print_of(walk([10, 10], rewards=None)),
        print_of(walk([10, 10], goals=torch.zeros(20, 1))),
    ]
    assert all(other != base for other in changed)


def test_too_long_windows_are_refused():
    with pytest.raises(ValueError, match="no episode has 6 steps, the longest has 5"):
        Windows(walk([5, 4]), 6)
    with pytest.raises(ValueError, match="no episode has 6 steps, the longest has 5"):
        Windows(walk([5, 4]), 9, least=6)
    for options in ((0,), (2, 0), (2, 1, 0)):
        with pytest.raises(ValueError, match="length, stride and least must be at least 1, got"):
            Windows(walk([5, 4]), *options)


# Splits.


def rows_of(trajectories, length=1):
    windows = Windows(trajectories, length)
    return set(windows[torch.arange(len(windows))]["observations"][..., 2].flatten().tolist())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("held_out", [0.01, 0.3, 0.99])
def test_whole_episodes_are_held_out(seed, held_out):
    lengths = some_lengths(seed)
    train, held = walk(lengths, open_end=True).split(held_out, Rng(seed))
    assert not rows_of(train) & rows_of(held)
    assert len(rows_of(train) | rows_of(held)) == sum(lengths)
    for part in (train, held):
        for start, stop in part.episodes.tolist():
            episode, step, _ = part.observations[start:stop].unbind(-1)
            assert episode.unique().tolist() == [int(episode[0])]
            assert step.tolist() == list(range(lengths[int(episode[0])]))
    # No more than one episode beyond the share, and at least one on either side.
    assert len(held) - held_out * sum(lengths) < max(lengths)
    other = walk(lengths).split(held_out, Rng(seed))[1]
    assert torch.equal(other.observations, held.observations)


def test_of_one_episode_the_last_stretch_is_held_out():
    train, held = walk([1000], open_end=True).split(0.1, Rng(0))
    assert rows_of(train, 50) == set(range(900))
    assert rows_of(held, 50) == set(range(900, 1000))
    for share in (0.0001, 0.9999):
        assert all(len(part) >= 1 for part in walk([10]).split(share, Rng(0)))


@pytest.mark.parametrize("held_out", [0, 1, -0.5, float("nan")])
def test_impossible_splits(held_out):
    with pytest.raises(ValueError, match="held_out must be between 0 and 1"):
        walk([5, 5]).split(held_out, Rng(0))
    with pytest.raises(ValueError, match="1 steps"):
        walk([1]).split(0.5, Rng(0))


@pytest.mark.parametrize("open_end", [False, True])
def test_pieces_joined_are_the_whole(open_end):
    whole = walk([7, 4, 9], open_end)
    for cuts in ([0, 20], [0, 3, 20], [0, 7, 8, 11, 20], list(range(21))):
        pieces = []
        for a, b in itertools.pairwise(cuts):
            columns = {name: value[a:b] for name, value in whole.columns().items()}
            ends = whole.ends[(whole.ends > a) & (whole.ends <= b)] - a
            pieces.append(Trajectories(**columns, ends=ends))
        assert same(Trajectories.joined(pieces), whole)


# Files.


def arrays(trajectories):
    flags = np.zeros(len(trajectories), bool)
    flags[trajectories.ends.numpy() - 1] = True
    columns = {name: value.double().numpy() for name, value in trajectories.columns().items()}
    return {**columns, "terminals": flags & False, "timeouts": flags}


def write(path, found):
    if path.suffix == ".npz":
        np.savez(path, **found)
    elif path.suffix == ".hdf5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, value in found.items():
                file[{"goals": "infos/goal"}.get(name, name)] = value
    else:
        path.mkdir()
        for name, value in found.items():
            np.save(path / f"{name}.npy", value)
    return path


def test_what_is_saved_is_read(tmp_path):
    whole = walk([7, 4, 9], open_end=True, goals=torch.ones(20, 2), about={"maze": "umaze"})
    whole.save(tmp_path / "new" / "a.safetensors")
    found = Trajectories.read(tmp_path / "new" / "a.safetensors")
    assert same(found, whole)
    assert found.about == {"maze": "umaze"}
    plain = Trajectories(whole.observations, whole.actions)
    plain.save(tmp_path / "b.safetensors")
    assert same(Trajectories.read(tmp_path / "b.safetensors"), plain)


@pytest.mark.parametrize("name", ["a.npz", "a.hdf5", "folder"])
@pytest.mark.parametrize("open_end", [False, True])
def test_other_files(tmp_path, name, open_end):
    whole = walk([7, 4, 9], open_end, goals=Rng(1).normal((20, 2)))
    assert same(Trajectories.read(write(tmp_path / name, arrays(whole))), whole)


def test_terminals_and_timeouts_both_end_an_episode(tmp_path):
    found = arrays(walk([7, 4, 9]))
    found["terminals"] = np.arange(20)[:, None] == 6
    found["timeouts"] = (np.arange(20) == 10).astype(np.float32)
    read = Trajectories.read(write(tmp_path / "a.npz", found))
    assert read.ends.tolist() == [7, 11]
    assert read.episodes.tolist() == [[0, 7], [7, 11], [11, 20]]


@pytest.mark.parametrize(
    ("terminals", "timeouts"),
    [("terminations", "truncations"), ("terminated", "truncated"), ("terminals", "dones")],
)
def test_flags_by_the_names_of_gymnasium_end_episodes(tmp_path, terminals, timeouts):
    found = arrays(walk([7, 4, 9]))
    del found["terminals"], found["timeouts"]
    found |= {terminals: np.arange(20) == 6, timeouts: np.arange(20) == 10}
    assert Trajectories.read(write(tmp_path / "a.npz", found)).ends.tolist() == [7, 11]


def minari(path, whole, **changes):
    """A group for each episode, with the observation that it ends with."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for i, (start, stop) in enumerate(whole.episodes.tolist()):
            found = {name: c[start:stop].numpy() for name, c in whole.columns().items()}
            last = np.full((1, found["observations"].shape[1]), -1.0)
            found["observations"] = np.concatenate((found["observations"], last))
            for name, value in {**found, **changes.get(f"episode_{i}", {})}.items():
                file[f"episode_{i}/{name}"] = value
    return path


def test_groups_of_episodes_in_their_order(tmp_path):
    whole = walk([3, 4, 2, 5, 1, 6, 2, 2, 3, 4, 7, 5])  # episode_10 comes after episode_9
    assert same(Trajectories.read(minari(tmp_path / "a.hdf5", whole)), whole)


def test_groups_that_are_no_episodes(tmp_path):
    whole = walk([3, 4])
    other = {"episode_1": {"actions": np.zeros((4, 3))}}
    with pytest.raises(ValueError, match="its episodes do not fit each other"):
        Trajectories.read(minari(tmp_path / "a.hdf5", whole, **other))
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["observations/place"] = np.zeros((5, 2))
    with pytest.raises(ValueError, match=r"observations is a group \(place\), not an array"):
        Trajectories.read(tmp_path / "b.hdf5")


def test_no_steps_at_all(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 3)))
    with pytest.raises(ValueError, match="observations is empty"):
        Trajectories.read(tmp_path / "a.npy")


def test_episodes_as_an_axis(tmp_path):
    seen, rewards = (Rng(i).normal((3, 5, i)).double().numpy() for i in (2, 1))
    actions = np.arange(15).reshape(3, 5)
    read = Trajectories.read(
        write(tmp_path / "a.npz", {"observations": seen, "actions": actions, "rewards": rewards})
    )
    assert read.ends.tolist() == [5, 10, 15]
    assert read.actions[:, 0].tolist() == list(range(15))
    np.testing.assert_array_equal(read.observations, seen.reshape(15, 2).astype(np.float32))
    np.testing.assert_array_equal(read.rewards, rewards.reshape(15).astype(np.float32))


def test_one_array_is_observations_of_one_episode(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6))
    read = Trajectories.read(tmp_path / "a.npy")
    assert read.observations.tolist() == [[i] for i in range(6)]
    assert read.actions.shape == (6, 0)
    assert read.episodes.tolist() == [[0, 6]]


def with_(name, value):
    return lambda found: found.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (with_("observations", np.array([[1.0]] * 12 + [[np.nan]] * 8)), "observations.*step 12"),
        (with_("rewards", np.full(20, 1e300)), "rewards has a number that is not finite in step 0"),
        (with_("actions", np.zeros((19, 2))), r"actions must.*20 steps, got shape \(19, 2\)"),
        (with_("rewards", np.zeros((20, 2))), "rewards must have one number for each of"),
        (with_("actions", np.array(["left"] * 20)), "actions must be real numbers"),
        (with_("observations", np.zeros((20, 1, 1, 1))), "observations must have shape"),
        (with_("observations", np.zeros((0, 3))), "must have a row for each of the 0 steps"),
        (with_("ends", np.array([5, 5])), "ends must increase within 1 .. 20"),
        (with_("ends", np.array([5, 21])), "ends must increase within 1 .. 20"),
        (with_("ends", np.array([0, 20])), "ends must increase within 1 .. 20"),
        (lambda found: found.pop("observations"), "has no 'observations'; it has actions"),
        (lambda f: f.update(action=f.pop("actions")), "has no 'actions', but 'action': rename it"),
    ],
)
def test_one_line_names_file_and_key(tmp_path, change, told):
    found = arrays(walk([7, 4, 9]))
    change(found)
    path = write(tmp_path / "mine.npz", found)
    with pytest.raises(ValueError, match=told) as error:
        Trajectories.read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.safetensors", "a.hdf5", "a.csv"])
def test_files_that_are_something_else(tmp_path, name):
    if name == "a.hdf5":
        pytest.importorskip("h5py")
    path = tmp_path / name
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Trajectories.read(path)
    for content in (b"", b"hello " * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be read|are read from") as error:
            Trajectories.read(path)
        assert str(error.value).startswith(str(path))


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.save(tmp_path / "a.npy", np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read"):
        Trajectories.read(tmp_path / "a.npy")


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.hdf5").write_bytes(b"")
    with pytest.raises(ImportError, match=r"pip install 'noiseloom\[hdf5\]'"):
        Trajectories.read(tmp_path / "a.hdf5")


def test_a_file_is_replaced_only_when_told_and_only_as_a_whole(tmp_path, monkeypatch):
    path, old, new = tmp_path / "a.safetensors", walk([5]), walk([6])
    old.save(path)
    with pytest.raises(FileExistsError, match="exists"):
        new.save(path)
    with pytest.raises(ValueError, match="trajectories are written as"):
        new.save(tmp_path / "a.npz")

    def full(tensors, part, metadata):
        part.write_bytes(b"the beginning of a file")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(whole_file, "save_file", full)
        with pytest.raises(OSError, match="No space left"):
            new.save(path, force=True)
    assert same(Trajectories.read(path), old)
    assert list(tmp_path.iterdir()) == [path]
    new.save(path, force=True)
    assert same(Trajectories.read(path), new)


def test_types_are_checked():
    with pytest.raises(TypeError, match="observations must be float32"):
        Trajectories(torch.zeros(3, 1, dtype=torch.float64), torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"rewards must have shape \(N,\)"):
        Trajectories(torch.zeros(3, 1), torch.zeros(3, 1), torch.zeros(3, 1))
    with pytest.raises(ValueError, match="actions has 2 steps, observations 3"):
        Trajectories(torch.zeros(3, 1), torch.zeros(2, 1))
