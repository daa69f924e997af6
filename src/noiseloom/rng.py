"""The law of randomness: every draw is a pure function of a key and a position.

An `Rng` is an immutable key, a 64-bit hash of all the names and numbers it was folded with. Drawing
changes nothing, so nothing has to be saved, and two draws differ only if their keys do:

    rng = Rng(seed=0)
    eps = rng.fold("noise").fold("step", 3).normal((8, 24))

A key may be a *tensor* of keys, one per sample (or per sample and token). Its shape is a left
prefix of what it draws, and each row is drawn from its own key, so that sample 17 gets the same
numbers, bit for bit, alone or in a batch of 1,000:

    Rng(0).each("sample", torch.arange(16, 18)).normal((2, 24))[1]

The generator is counter-based: entry j of a draw is splitmix64's finaliser applied twice to
key + GAMMA (j + 1), 24 of its bits and 24 others giving a Box-Muller pair (G. Steele, D. Lea, C.
Flood, 2014, "Fast splittable pseudorandom number generators"). Numbers are made in float32 and then
cast: a draw in float64 is the same draw. Drawing more and slicing gives the same leading numbers.
On a GPU the hash is compiled; integers are the same everywhere, normals to rounding.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Rng", "per_sample"]

Device: TypeAlias = torch.device | str | None


@dataclass(frozen=True)
class Rng:
    """An immutable key to a stream of random numbers.

    Attributes:
        root: a signed 64-bit integer (anything an integer seed hashes to), or an int64 tensor of
            keys whose shape is a left prefix of every shape it draws.
        path: hash of the names that a tensor was folded with, 0 for none (and for an integer, which
            is hashed itself): a fold of many keys is arithmetic on one number, and touches the
            tensor when something is drawn.

    Example:
        >>> rng = Rng(0)
        >>> bool((rng.normal((3,)) == rng.normal((5,))[:3]).all())
        True
    """

    root: "int | Tensor"
    path: int = 0

    @property
    def key(self) -> "int | Tensor":
        """What the draws are a function of: a 64-bit integer, or a tensor of them."""
        if isinstance(self.root, Tensor) and self.path:
            keys = _run(_keys, self.root.flatten(), _full(self.path, self.root.device))
            return keys.reshape(self.root.shape)
        return self.root

    def fold(self, name: str, index: int = 0) -> "Rng":
        """Derive the key of a named stream: hash(key, name, index).

        Args:
            name: what the stream is for ("noise", "step").
            index: which one of them, any integer.
        """
        old = self.path if isinstance(self.root, Tensor) else self.root
        new = _mix_int(_mix_int(old ^ _salt(name)) + _wrap(_GAMMA * (index + 1)))
        return Rng(self.root, new) if isinstance(self.root, Tensor) else Rng(new)

    def each(self, name: str, indices: Tensor) -> "Rng":
        """Derive one key per index: the key's shape gains an axis of `len(indices)`.

        Entry i is the key of `fold(name, indices[i])`. Folded once more the two part: a fold of
        many keys is kept as one number beside them.

        Args:
            name: what the streams are for ("sample", "token").
            indices: int64, shape (n,): **global** indices, so that a sample keeps its numbers
                whatever batch, rank or window it is drawn in.
        """
        if indices.dtype != torch.int64 or indices.ndim != 1:
            raise TypeError(
                f"indices must be int64 of shape (n,), got {indices.dtype} of "
                f"shape {tuple(indices.shape)}"
            )
        salt = _salt(name)
        steps = _GAMMA_SIGNED * (indices + 1)
        key = self.key
        if isinstance(key, Tensor):
            return Rng(_mix(_mix(key.to(indices.device) ^ salt)[..., None] + steps))
        return Rng(_mix(steps + _mix_int(key ^ salt)))

    def samples(self, count: int, start: int = 0, device: Device = "cpu") -> "Rng":
        """One key per sample `start, ..., start + count - 1`."""
        return self.each("sample", torch.arange(start, start + count, device=device))

    def rows(self, index: Tensor) -> "Rng":
        """The keys of some rows (a key that is not per sample stays as it is)."""
        return Rng(self.root[index], self.path) if isinstance(self.root, Tensor) else self

    def normal(
        self,
        shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
        device: Device = None,
    ) -> Tensor:
        """Standard normal numbers.

        Args:
            shape: shape of the result; a tensor key's shape must be its left prefix.
            dtype: type of the result; the numbers are made in float32.
            device: where; by default where a tensor key is, else the CPU.
        """
        root, path, rest = self._spread(shape, device)
        numbers = _run(_normal, root, path, rest)
        return numbers.reshape(tuple(shape)).to(dtype)

    def normal_like(self, x: Tensor) -> Tensor:
        """Standard normal numbers in the shape, type and place of `x`."""
        return self.normal(x.shape, x.dtype, x.device)

    def uniform(
        self,
        shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
        device: Device = None,
    ) -> Tensor:
        """Uniform numbers in the open interval (0, 1): odd multiples of 2^-24.

        In a type of fewer bits they are rounded, but never to 0 or 1.
        """
        root, path, rest = self._spread(shape, device)
        numbers = _run(_uniform, root, path, rest)
        if dtype.itemsize < 4:
            kind = torch.finfo(dtype)  # whose least number and largest below 1 these are
            numbers = numbers.clamp(kind.tiny * kind.eps, 1 - kind.eps / 2)
        return numbers.reshape(tuple(shape)).to(dtype)

    def integers(self, high: int, shape: Sequence[int], device: Device = None) -> Tensor:
        """Uniform integers in 0 .. high - 1 (bias below high / 2^48)."""
        if not 0 < high <= 2**31:
            raise ValueError(f"high must be in 1 .. 2^31, got {high}")
        root, path, rest = self._spread(shape, device)
        return ((_hash(root, path, rest) >> 16) & _MASK48).remainder(high).reshape(tuple(shape))

    def permutation(self, count: int) -> Tensor:
        """A permutation of 0 .. count - 1, int64 on the CPU."""
        if isinstance(self.root, Tensor):
            raise TypeError("a permutation needs a key that is not per sample")
        return torch.argsort(
            _hash(_full(self.root, "cpu")[None], _full(0, "cpu"), count)[0], stable=True
        )

    @contextlib.contextmanager
    def torch(self, device: Device = "cpu") -> Iterator[None]:
        """Seed PyTorch's global generators inside a block, and restore them after it.

        For what PyTorch ties to them: initialisation, its own dropout.
        """
        if isinstance(self.root, Tensor):
            raise TypeError("PyTorch's generators need a key that is not per sample")
        place = torch.device(device or "cpu")
        devices = [place] if place.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            # Not torch.manual_seed, which formats stack traces at every call.
            torch.default_generator.manual_seed(_wrap(self.root))
            for cuda in devices:
                index = torch.cuda.current_device() if cuda.index is None else cuda.index
                torch.cuda.default_generators[index].manual_seed(_wrap(self.root))
            yield

    def _spread(self, shape: Sequence[int], device: Device) -> tuple[Tensor, Tensor, int]:
        """One root per row of the draw, the path, and the count of numbers of each."""
        root = self.root
        if not isinstance(root, Tensor):
            return _full(root, device)[None], _full(0, device), math.prod(shape)
        if tuple(shape[: root.ndim]) != tuple(root.shape):
            raise ValueError(
                f"keys of shape {tuple(root.shape)} cannot draw shape {tuple(shape)}: "
                "they must be its left prefix"
            )
        root = root if device is None else root.to(device, non_blocking=True)
        return root.flatten(), _full(self.path, root.device), math.prod(shape[root.ndim :])


def _full(number: int, device: Device) -> Tensor:
    # A fill takes the number as a kernel argument: no host-to-device copy, no wait.
    return torch.full((), _wrap(number), dtype=torch.int64, device=device)


def _wrap(value: int) -> int:
    """Two's-complement value of the low 64 bits: PyTorch's int64 constants must be signed."""
    return (value + 2**63) % 2**64 - 2**63


_GAMMA = 0x9E3779B97F4A7C15
_GAMMA_SIGNED = _wrap(_GAMMA)
_GAMMA_INVERSE = _wrap(pow(_GAMMA, -1, 2**64))
_M1, _M2 = _wrap(0xBF58476D1CE4E5B9), _wrap(0x94D049BB133111EB)
_MASK48 = 2**48 - 1


def _mix(z: Tensor) -> Tensor:
    # int64 shifts are arithmetic: the mask makes them logical.
    z = (z ^ ((z >> 30) & (2**34 - 1))) * _M1
    z = (z ^ ((z >> 27) & (2**37 - 1))) * _M2
    return z ^ ((z >> 31) & (2**33 - 1))


def _mix_int(z: int) -> int:
    z %= 2**64
    z = (z ^ (z >> 30)) * (_M1 % 2**64) % 2**64
    z = (z ^ (z >> 27)) * (_M2 % 2**64) % 2**64
    return _wrap(z ^ (z >> 31))


def _salt(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


def _keys(root: Tensor, path: Tensor) -> Tensor:
    # A path of 0 is none: one graph for both, where the compiler keeps few.
    return torch.where(path == 0, root, _mix(root ^ path))


def _hash(root: Tensor, path: Tensor, count: int) -> Tensor:
    # key + GAMMA (j + 1), with the constant outside: compilers narrow an index to 32 bits, and then
    # refuse a 64-bit factor on it.
    places = torch.arange(1, count + 1, device=root.device)
    start = _keys(root, path) * _GAMMA_INVERSE
    return _mix(_mix((start[:, None] + places) * _GAMMA_SIGNED))


def per_sample(rng: Rng, x: Tensor) -> Rng:
    """A key for each sample of a batch, made of one for all of them if there are none yet.

    Raises:
        TypeError: no key.
    """
    if not isinstance(rng, Rng):
        raise TypeError(f"numbers are drawn by a key: give rng, such as Rng(0), not {rng!r}")
    return rng if isinstance(rng.root, Tensor) else rng.samples(len(x), device=x.device)


def _uniform(root: Tensor, path: Tensor, count: int) -> Tensor:
    # 23 bits: with 24 the half step added is rounded away above 1/2, and the largest becomes 1.
    return ((_hash(root, path, count) >> 41) & 0x7FFFFF).float() * 2.0**-23 + 2.0**-24


def _normal(root: Tensor, path: Tensor, count: int) -> Tensor:
    h = _hash(root, path, (count + 1) // 2)
    radius = (-2 * (((h >> 40) & 0xFFFFFF).float() * 2.0**-24 + 2.0**-25).log()).sqrt()
    angle = (h & 0xFFFFFF).float() * (2 * math.pi * 2.0**-24)
    # Interleaved, so that a longer draw starts with the shorter one.
    pair = torch.stack((radius * angle.cos(), radius * angle.sin()), -1)
    return pair.flatten(-2)[..., :count]


@cache
def _compiled(function: Callable[..., Tensor], backend: str) -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(function, dynamic=True, backend=backend)
    return compiled


_BACKENDS = {"cuda": "inductor"}
"""Where draws are compiled, and how: elsewhere they are run as they stand."""


def _run(function: Callable[..., Tensor], root: Tensor, *args: Tensor | int) -> Tensor:
    backend = None if torch.compiler.is_compiling() else _BACKENDS.get(root.device.type)
    with torch.no_grad():
        return (_compiled(function, backend) if backend else function)(root, *args)
