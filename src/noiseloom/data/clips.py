"""Clips: recorded video with the action that led to each frame, and windows of it to train on."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from noiseloom.data.split import Split
from noiseloom.data.whole_file import write_whole

__all__ = ["ClipWindows", "Clips"]

_AXES = {"frames": ("N", "C", "H", "W"), "actions": ("N", "A"), "first": ("N",)}
_TYPES = {"frames": torch.uint8, "actions": torch.float32, "first": torch.bool}


@dataclass(frozen=True, eq=False)
class Clips:
    """Episodes of video, one after the other: action a_n led from frame n - 1 to frame n.

    A frame comes with the action before it, so that a model that is given a_n and the frames before
    n has all it needs to draw frame n. What led to an episode's first frame is nobody's action: 0.

    Attributes:
        frames: uint8, shape (N, C, H, W).
        actions: float32, shape (N, A), finite; A is 0 where nobody acts.
        first: bool, shape (N,): whether frame n begins an episode; frame 0 does.
        about: where they come from, in words.

    Raises:
        TypeError: a tensor of another type.
        ValueError: shapes that do not fit, no frames, an action that is not finite, a beginning
            that is not marked or has an action.

    Example:
        >>> still = torch.zeros(5, 3, 8, 8, dtype=torch.uint8)
        >>> walk = Clips(still, torch.zeros(5, 2), torch.tensor([1, 0, 0, 1, 0]).bool())
        >>> walk.episodes.tolist()
        [[0, 3], [3, 5]]
    """

    frames: Tensor
    actions: Tensor
    first: Tensor
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tensor in self.columns().items():
            if tensor.dtype != _TYPES[name]:
                raise TypeError(f"{name} must be {str(_TYPES[name])[6:]}, got {tensor.dtype}")
            if tensor.ndim != len(_AXES[name]):
                axes = ", ".join(_AXES[name])
                raise ValueError(f"{name} must have axes ({axes}), got shape {tuple(tensor.shape)}")
            if len(tensor) != len(self):
                raise ValueError(f"{name} has {len(tensor)} rows, frames has {len(self)}")
        if not self.frames.numel():
            raise ValueError(f"frames is empty, of shape {tuple(self.frames.shape)}")
        finite = self.actions.isfinite().all(1)
        if not finite.all():
            raise ValueError(f"the action of frame {int(finite.int().argmin())} is not finite")
        if not self.first[0]:
            raise ValueError("first must be true for frame 0: a recording begins an episode")
        acted = self.first & self.actions.any(1)
        if acted.any():
            raise ValueError(
                f"frame {int(acted.int().argmax())} begins an episode, and its action must be 0"
            )

    def __len__(self) -> int:
        """N, the number of frames."""
        return len(self.frames)

    def columns(self) -> dict[str, Tensor]:
        """What there is per frame, by name."""
        return {name: getattr(self, name) for name in _AXES}

    @property
    def episodes(self) -> Tensor:
        """First frame and end (exclusive) of every episode, int64, shape (E, 2)."""
        starts = self.first.nonzero()[:, 0]
        return torch.stack((starts, torch.cat((starts[1:], starts.new_tensor([len(self)])))), 1)

    def stretch(self, start: int, stop: int) -> Self:
        """Frames start .. stop - 1, without a copy; the first of them begins an episode."""
        actions, first = self.actions[start:stop].clone(), self.first[start:stop].clone()
        actions[:1], first[:1] = 0, True
        return replace(self, frames=self.frames[start:stop], actions=actions, first=first)

    def split(self, held_out: float) -> tuple[Self, Self]:
        """What to train on, and the last share of the recording, to judge by.

        The cut is at round((1 - held_out) N), within an episode if need be.

        Args:
            held_out: share of the frames, in (0, 1).
        """
        if not 0 < held_out < 1 or len(self) < 2:
            raise ValueError(
                f"held_out must be between 0 and 1, and there must be two frames or more; got "
                f"held_out={held_out} and {len(self)} frames"
            )
        cut = min(max(round((1 - held_out) * len(self)), 1), len(self) - 1)
        return self.stretch(0, cut), self.stretch(cut, len(self))

    def windows(self, length: int, held_out: float, stride: int = 1) -> "Split[ClipWindows]":
        """Windows of both parts of `split`; none lies in both.

        Episodes that are shorter than a window are left out, which the notes say.
        """

        def windows(part: Clips, name: str) -> ClipWindows:
            try:
                return ClipWindows(part, length, stride)
            except ValueError as error:
                raise ValueError(f"of the {len(part):,} frames {name}: {error}") from error

        parts = dict(zip(("to train on", "held out"), self.split(held_out), strict=True))
        train, rest = (windows(part, name) for name, part in parts.items())
        notes = []
        for name, part in parts.items():
            lengths = part.episodes.diff(dim=1)[:, 0]
            short = lengths < length
            if short.any():
                notes.append(
                    f"{int(short.sum()):,} of {len(short):,} episodes {name} have fewer than "
                    f"{length} frames: left out ({int(lengths[short].sum()):,} of {len(part):,} "
                    "frames)"
                )
        return Split(train, rest, tuple(notes))

    @classmethod
    def joined(cls, pieces: Sequence[Self]) -> Self:
        """Put pieces of one recording together, each of which begins an episode."""
        if len(pieces) == 1:
            return pieces[0]
        frames, actions, first = (
            torch.cat([getattr(piece, name) for piece in pieces]) for name in _AXES
        )
        return replace(pieces[0], frames=frames, actions=actions, first=first)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file of clips, a person's own or one that `save` wrote, without loading it.

        Frames stay in the file until they are asked for (a memory map). One's own recording is

            from safetensors.torch import save_file
            tensors = {"frames": frames, "actions": actions, "first": first}
            save_file(tensors, "mine.safetensors", {"source": "my game"})

        Args:
            path: .safetensors with frames, actions and first, as `Clips` has them.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file that cannot be read, or whose tensors make no clips.
        """
        path = Path(path).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"there is no file {path}")
        if path.suffix != ".safetensors" or path.is_dir():
            raise ValueError(
                f"{path}: clips are read from a .safetensors file with frames, actions and first"
            )
        try:
            with safe_open(path, "pt") as file:
                names, about = list(file.keys()), dict(file.metadata() or {})
                missing = [name for name in _AXES if name not in names]
                found = {name: file.get_tensor(name) for name in _AXES if not missing}
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
        if missing:
            has = ", ".join(names) or "nothing"
            raise ValueError(f"{path} has no {' and no '.join(missing)}; it has {has}")
        about.pop("format", None)
        try:
            return cls(**found, about=about)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write all of it as one .safetensors file, as a whole or not at all.

        Raises:
            FileExistsError: there is such a file, and no `force`.
            OSError: it cannot be written.
            ValueError: another kind of file.
        """
        write_whole(path, self.columns(), self.about, what="clips", force=force)


class ClipWindows:
    """Stretches of equal length, none of which crosses the beginning of an episode.

    Samples are gathered when asked for: a batch {"frames": uint8 (B, L, C, H, W), "actions":
    float32 (B, L, A)}. The action of a window's first frame led there from outside the window.

    Args:
        clips: where they are taken from.
        length: L, frames of a window.
        stride: frames from one window's start to the next.

    Raises:
        ValueError: `length` or `stride` below 1, or no episode has `length` frames.

    Example:
        >>> shades = torch.arange(5, dtype=torch.uint8)[:, None, None, None]
        >>> walk = Clips(shades, torch.zeros(5, 0), torch.tensor([1, 0, 0, 1, 0]).bool())
        >>> ClipWindows(walk, length=2)[torch.tensor([2])]["frames"].flatten().tolist()
        [3, 4]
    """

    def __init__(self, clips: Clips, length: int, stride: int = 1) -> None:
        if length < 1 or stride < 1:
            raise ValueError(f"length and stride must be at least 1, got {length} and {stride}")
        bounds = clips.episodes
        self.length = length
        self.columns = {"frames": clips.frames, "actions": clips.actions}
        self.firsts = torch.cat(
            [torch.arange(a, max(b - length + 1, a), stride) for a, b in bounds.tolist()]
        )
        if not len(self.firsts):
            longest = int(bounds.diff(dim=1).max())
            raise ValueError(
                f"no episode has {length} frames, the longest has {longest}: take shorter windows"
            )

    def __len__(self) -> int:
        return len(self.firsts)

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """The windows at `indices`, in that order."""
        rows = self.firsts[indices]
        # Of a view with all windows a whole one is copied at a time: ten times as fast as by frame.
        views = {name: x.unfold(0, self.length, 1) for name, x in self.columns.items()}
        return {name: x.movedim(-1, 1).index_select(0, rows) for name, x in views.items()}

    def to(self, device: torch.device | str) -> Self:
        """The same windows, with all clips on a device."""
        moved = object.__new__(type(self))
        moved.length = self.length
        moved.columns = {name: column.to(device) for name, column in self.columns.items()}
        moved.firsts = self.firsts.to(device)
        return moved

    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that defines the windows, for a fingerprint."""
        return (*self.columns.values(), self.firsts, torch.tensor([self.length]))
