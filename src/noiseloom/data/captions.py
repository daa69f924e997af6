"""Pictures with captions: of scenes that are made, of sets that people know, or of one's own."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from noiseloom.data.caption_files import find_source
from noiseloom.data.caption_parts import groups, parts, usable
from noiseloom.data.captioned import Captioned
from noiseloom.data.characters import smallest
from noiseloom.data.decode import Framing, read_pictures
from noiseloom.data.phrases import Phrases, Units, caption_words
from noiseloom.data.pieces import Pieces
from noiseloom.data.scene_grammar import WORDS
from noiseloom.data.scene_picture import SMALLEST
from noiseloom.data.scenes import Scene, holds, random_scenes
from noiseloom.data.split import Split
from noiseloom.rng import Rng

__all__ = ["CaptionPairs", "read_captions"]

_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class CaptionPairs:
    """Rows of a picture and a caption of it.

    Attributes:
        pictures: uint8, shape (P, 3, H, W); or more of them, which other parts share.
        values: tokens of each row's caption, integers of any type, shape (N, T).
        picture: which picture each row has, int64, shape (N,), 0 .. P - 1.
        captions: all captions of each picture, P times one or more.
        sizes: K_1, ..., K_T.
        scenes: what each picture shows, where that is known.
        own: which of `pictures` are these P, int64, shape (P,); None for all.

    Raises:
        TypeError: pictures or numbers of pictures of another type.
        ValueError: shapes that do not fit, or no rows.
    """

    pictures: Tensor
    values: Tensor
    picture: Tensor
    captions: tuple[tuple[str, ...], ...]
    sizes: tuple[int, ...]
    scenes: tuple[Scene, ...] | None = None
    own: Tensor | None = None

    def __post_init__(self) -> None:
        if self.pictures.dtype != torch.uint8 or self.picture.dtype != torch.int64:
            raise TypeError(
                f"captions need uint8 pictures and int64 numbers of them, got "
                f"{self.pictures.dtype} and {self.picture.dtype}"
            )
        shapes = (self.pictures.shape[1:2], self.values.shape, self.picture.shape)
        rows = len(self.picture)
        if shapes != ((3,), (rows, len(self.sizes)), (rows,)) or not rows:
            raise ValueError(
                "captions need pictures of shape (P, 3, H, W), values of shape "
                f"(N, {len(self.sizes)}) and picture of shape (N,) with N >= 1, got "
                f"{tuple(self.pictures.shape)}, {tuple(self.values.shape)}, "
                f"{tuple(self.picture.shape)}"
            )
        count = len(self.pictures if self.own is None else self.own)
        if not count == len(self.captions) == len(self.scenes or self.captions):
            raise ValueError("each picture needs its captions, and its scene where there are any")

    def __len__(self) -> int:
        return len(self.picture)

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """The rows at `indices`, in that order: {"pixels" (b, 3, H, W), "tokens" (b, T) int64}."""
        rows = self.picture[indices]
        rows = rows if self.own is None else self.own[rows]
        return {"pixels": self.pictures[rows], "tokens": self.values[indices].long()}

    @cached_property
    def references(self) -> Sequence[Sequence[str]]:
        """All captions of each row's picture."""
        return tuple(self.captions[row] for row in self.picture.tolist())

    @property
    def judged(self) -> bool:
        """Whether the truth of a caption can be known."""
        return self.scenes is not None

    def truth(self, row: int, caption: str) -> bool | None:
        """Whether a caption is true of a row's picture, exactly.

        Returns:
            None where nobody can know: it is no sentence of the grammar, or `judged` is false.
        """
        if self.scenes is None:
            return None
        return holds(self.scenes[int(self.picture[row])], caption)

    def to(self, device: torch.device | str) -> "CaptionPairs":
        """The same rows on a device."""
        pictures = self.pictures if self.own is None else self.pictures[self.own]
        pictures, values, picture = (x.to(device) for x in (pictures, self.values, self.picture))
        return CaptionPairs(pictures, values, picture, self.captions, self.sizes, self.scenes)

    @property
    def nbytes(self) -> int:
        """What the tensors take on a device."""
        each = self.pictures[:1].nbytes * len(self.captions)
        return each + self.values.nbytes + self.picture.nbytes

    def tensors(self) -> Iterator[Tensor]:
        """Pictures (some at a time), tokens, which picture has which, sizes, captions as bytes."""
        count = len(self.captions)
        own = torch.arange(count) if self.own is None else self.own
        yield from (self.pictures[some] for some in torch.split(own, _BLOCK))
        yield from (self.values, self.picture, torch.tensor(self.sizes))
        yield torch.frombuffer(bytearray(json.dumps(self.captions).encode()), dtype=torch.uint8)


def read_captions(
    path: str | os.PathLike[str],
    *,
    length: int | None = None,
    size: int | tuple[int, int] = 64,
    vocabulary: str | Phrases = "words",
    classes: int | None = None,
    held_out: float = 0.1,
    truncate: bool = False,
    fit: Literal["pad", "crop", "stretch"] = "pad",
    background: tuple[int, int, int] = (255, 255, 255),
    images: str | os.PathLike[str] | None = None,
    apart: Literal["pictures", "captions"] = "pictures",
    skip_bad: bool = False,
    scenes: int = 20_000,
    each: int = 5,
    seed: int = 0,
) -> tuple[Split[CaptionPairs], Phrases]:
    """Read pictures with captions, or make them.

    A row to train on is a picture with one of its captions; a row that is held out is a picture,
    with its first. Pictures whose resulting pixels are equal, and what else belongs together, go to
    the same part: the styles and skin tones of an emoji's code point, and the sentences that NLVR
    has of one presentation with all orders of their boxes. Where a file gives both parts (train and
    val of COCO, a column of a table, folders) these are kept, and held-out pictures that belong to
    one to train on are left out. `Split.notes` says what was, and how many held-out captions are
    word for word captions to train on.

    Args:
        path: "scenes" for made ones (`noiseloom.data.scenes`; write ./scenes for a folder of that
            name); a COCO file of captions, whose pictures lie below its folder, or beside it if
            that is called annotations; a .csv or .tsv table with the columns picture and caption,
            if need be split (train, test, ...) and group (stays together); or a folder or .zip of
            any of these, of emoji-datasource packages, of NLVR, or of pictures with a .txt file
            beside each, a caption on every line.
        length: T >= 1, tokens of the longest caption; by default that of the longest there is.
        size: of the pictures, in pixels: a side, or height and width.
        vocabulary: "words", "characters" or "pieces", learnt from the captions to train on; a
            trained model of sentencepiece, a .model file; or the vocabulary of other captions,
            whose length counts.
        classes: K at most, as of `Phrases.fit`.
        held_out: share of the pictures to hold out, in (0, 1).
        truncate: take the first T tokens of longer captions, instead of raising.
        fit: pictures of another shape: "pad" them with the background, "crop" to their central
            part, or "stretch" them.
        background: colour (red, green, blue), each 0 .. 255, of what is padded or transparent.
        images: folder or .zip of the pictures of a COCO file or a table.
        apart: what the parts may not share: "pictures", or "captions" too, word for word.
        skip_bad: leave out pictures that are not there or cannot be read, and empty captions,
            instead of raising.
        scenes: how many, of made ones.
        each: captions of each scene, at most.
        seed: decides which pictures are held out, and what is made.

    Raises:
        FileNotFoundError: nothing at `path`, or no such .model file.
        ImportError: pieces without the extra `text`.
        ValueError: a damaged file, an empty or too long caption or one of words that the given
            vocabulary does not have, by file and line; a picture that is not there or cannot be
            read; nothing to hold out; an argument out of range.
    """
    _check(length, size, vocabulary, held_out, fit, apart, background)
    framing = Framing(size, background, fit)
    if os.fspath(path) == "scenes":
        if len(set(framing.height_width)) > 1 or min(framing.height_width) < SMALLEST:
            raise ValueError(f"pictures of scenes are squares of {SMALLEST} pixels or more a side")
        made = random_scenes(scenes, each, Rng(seed).fold("scenes"))
        pixels = torch.stack([scene.pixels(framing.height_width[0]) for scene, _ in made])
        pairs = []
        for number, (_, said) in enumerate(made, 1):
            pairs.append(Captioned(f"scene {number}", list(said), [f"scene {number}"] * len(said)))
        worlds = tuple(scene for scene, _ in made)
        if vocabulary == "words" and classes is None:  # no sentence has another one
            vocabulary = Phrases("words", WORDS, length or _longest(pairs))
        notes: list[str] = []
    else:
        source = find_source(
            Path(path).expanduser(), None if images is None else Path(images).expanduser()
        )
        notes, worlds = source.notes, ()
        pairs = usable(source.pictures, source.missing, skip_bad, notes)
        pixels, rows = read_pictures(
            source.root, source.files, [pair.name for pair in pairs], framing, skip_bad
        )
        if len(rows) < len(pairs):
            notes.append(f"{len(pairs) - len(rows)} pictures cannot be read")
        pairs = [pairs[row] for row in rows]
    if len(pairs) < 2:
        raise ValueError(f"{path} has {len(pairs)} usable pictures, at least 2 are needed")

    together = groups(pairs, pixels, apart)
    train, held = parts(pairs, together, held_out, seed, notes)
    seen = [text for row in train for text in pairs[row].captions]
    words = _vocabulary(vocabulary, seen, length, classes, pairs)
    if vocabulary == "pieces" and classes is not None and words.sizes[0] < classes:
        notes.append(
            f"the captions have {words.sizes[0] - 1} pieces, and {classes - 1} were asked for"
        )
    found = []
    for rows, first in ((train, False), (held, True)):
        own = [pairs[row] for row in rows]
        known = tuple(worlds[row] for row in rows) if worlds else None
        place = torch.tensor(rows)
        found.append(_pairs(own, pixels, place, words, truncate, first, known, notes))
    notes += _shared(found[1], seen, words)
    return Split(found[0], found[1], tuple(notes)), words


def _check(
    length: int | None, size: int | tuple[int, int], vocabulary: str | Phrases, held_out: float,
    fit: str, apart: str, background: tuple[int, int, int],
) -> None:  # fmt: skip
    sides = (size,) if isinstance(size, int) else size
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must be between 0 and 1, got {held_out}")
    if length is not None and length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    if min(sides) < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if fit not in ("pad", "crop", "stretch") or apart not in ("pictures", "captions"):
        raise ValueError(
            f"fit must be pad, crop or stretch and apart pictures or captions, got {fit!r} and "
            f"{apart!r}"
        )
    if len(background) != 3 or not all(c in range(256) for c in background):
        raise ValueError(f"background must be three whole numbers 0 .. 255, got {background}")
    if isinstance(vocabulary, str) and not (
        vocabulary in ("words", "characters", "pieces") or vocabulary.endswith(".model")
    ):
        raise ValueError(
            f"the vocabulary must be words, characters, pieces or a .model file, got {vocabulary!r}"
        )
    if isinstance(vocabulary, Phrases) and length not in (None, vocabulary.length):
        raise ValueError(
            f"the vocabulary is of {vocabulary.length} tokens a caption, and length is {length}"
        )


def _longest(pairs: Iterable[Captioned], words: Phrases | None = None) -> int:
    """Tokens of the longest caption; of words of scenes where there is no vocabulary yet."""
    texts = (text for pair in pairs for text in pair.captions)
    return max(len(words.tokens(t) if words else caption_words(t, marks=True)) for t in texts)


def _vocabulary(
    asked: str | Phrases, seen: Sequence[str], length: int | None, classes: int | None,
    pairs: Sequence[Captioned],
) -> Phrases:  # fmt: skip
    if isinstance(asked, Phrases):
        return asked
    most = 1 << 30 if length is None else length
    if asked.endswith(".model"):
        found = Phrases("pieces", (), most, pieces=Pieces.read(asked))
    else:
        units: Units = (
            "words" if asked == "words" else "pieces" if asked == "pieces" else "characters"
        )
        found = Phrases.fit(seen, units, most, classes)
    return found if length is not None else found.of_length(_longest(pairs, found))


def _pairs(
    pairs: Sequence[Captioned], pixels: Tensor, own: Tensor, words: Phrases, truncate: bool,
    first: bool, scenes: tuple[Scene, ...] | None, notes: list[str],
) -> CaptionPairs:  # fmt: skip
    """Rows of one part: a row for each caption, or for the first of each picture."""
    picture = [
        number for number, pair in enumerate(pairs) for _ in pair.captions[: 1 if first else None]
    ]
    values = torch.full((len(picture), words.length), words.end).to(smallest(words.end + 1))
    row = cut = 0
    for pair in pairs:
        for at, (text, place) in enumerate(zip(pair.captions, pair.places, strict=True)):
            tokens = words.tokens(text, place, truncate)
            cut += truncate and len(tokens) == words.length and words.is_longer(text)
            if at == 0 or not first:
                values[row, : len(tokens)] = torch.tensor(tokens)
                row += 1
    if cut:
        kind = "held-out captions" if first else "captions to train on"
        notes.append(f"{cut} {kind} are longer than {words.length} {words.units}, and cut")
    captions = tuple(tuple(pair.captions) for pair in pairs)
    return CaptionPairs(pixels, values, torch.tensor(picture), captions, words.sizes, scenes, own)


def _shared(held: CaptionPairs, seen: Sequence[str], words: Phrases) -> list[str]:
    """What held-out captions have in common with those to train on, and what not."""
    notes = []
    known = {tuple(caption_words(text)) for text in seen}
    again = sum(tuple(caption_words(texts[0])) in known for texts in held.captions)
    if again:
        notes.append(
            f"of {len(held)} held-out pictures {again} have a caption that is also one to train on"
        )
    unknown = int(words.is_unknown(held.values).any(1).sum())
    if unknown:
        notes.append(
            f"of {len(held)} held-out captions {unknown} have {words.units} that the vocabulary "
            "lacks, which has those of the captions it was made from that are not too rare"
        )
    return notes
