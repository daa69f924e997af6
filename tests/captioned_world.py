"""A world of pictures whose captions are a function of them, for tests of recipes of captions."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from noiseloom.data import Phrases
from noiseloom.recipes import Captions, TokenSplit

COLOURS = ("black", "blue", "green", "cyan", "red", "pink", "yellow", "white")
LENGTH = 5


def said(left: int, right: int) -> str:
    """The one true caption: of one word to five."""
    if left == right:
        return COLOURS[left]
    return f"{COLOURS[left]} then {COLOURS[right]}" + (" not so" if left > right else "")


def words() -> Phrases:
    return Phrases("words", (*COLOURS, "then", "not", "so"), LENGTH)


class World:
    """Pictures of two halves, and their captions."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.halves = torch.randint(len(COLOURS), (count, 2), generator=generator)
        bits = self.halves[..., None] >> torch.tensor([2, 1, 0]) & 1  # (N, half, channel)
        left, right = (255 * bits[:, i, :, None, None].expand(-1, -1, 8, 4) for i in range(2))
        self.pixels = torch.cat((left, right), 3).to(torch.uint8)
        self.sayings = [said(*pair) for pair in self.halves.tolist()]
        self.references = [(caption,) for caption in self.sayings]
        self.captions = self.references
        self.values, self.sizes = words().encode(self.sayings), words().sizes
        self.judged = True

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"pixels": self.pixels[rows], "tokens": self.values[rows]}

    def truth(self, row: int, caption: str) -> bool:
        return caption == self.sayings[row]

    def tensors(self) -> tuple[torch.Tensor, ...]:
        return self.pixels, self.values

    def to(self, device: Any) -> "World":
        return self


@dataclass(frozen=True)
class Halves(Captions):
    """Captions of that world, small."""

    name: ClassVar[str] = "halves"
    summary: ClassVar[str] = "two halves"
    size: int = 8
    length: int = LENGTH
    encoder_width: int = 32
    encoder_depth: int = 1
    encoder_heads: int = 2
    width: int = 32
    depth: int = 2
    heads: int = 2
    steps: int = 300
    learning_rate: float = 4e-3
    sampling_steps: int = 10
    samples: int = 64
    judged: int = 32
    levels: int = 2

    def load(self, data: str | None) -> TokenSplit:
        return TokenSplit(World(400, 0), World(64, 1), (), words())

    def load_like(self, data: str | None, facts: Any) -> TokenSplit:
        return self.load(data)
