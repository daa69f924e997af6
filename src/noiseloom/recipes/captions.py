"""Captions of pictures by any kind of state: `noiseloom train captions --data scenes --state bits`.

T. Chen, R. Zhang, G. Hinton, 2022, "Analog Bits", arXiv 2208.04202, Section 4.2: the tokens of a
caption are bits in a Gaussian diffusion, by a transformer in which every token sees every other,
and which reads the features of a picture. Here what is diffused is one option (`Classes`), and the
autoregressive model is the same transformer with a causal mask, without the learnt places that
diffusions have beside rotary ones: of 28 tokens at width 512, 38.77 million parameters masked and
38.76 autoregressive. Captions have T tokens, the end and what comes after it among them, so that
how long a caption is is the model's to say.

What the encoder says of a picture is worked out once, for a drawing and for a training step, and
told to all calls of the decoder. Training leaves some pictures out, which guidance needs.

    noiseloom compare captions --data scenes --out FOLDER --cells state=autoregressive \
        "state=bits sampling-steps=20 td=7" "state=masked unmask=confidence"
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from noiseloom.class_denoiser import CodeDenoiser
from noiseloom.data import (
    CaptionPairs,
    Phrases,
    Split,
    Tokens,
    caption_words,
    read_captions,
    vocabulary,
)
from noiseloom.data.decode import Framing
from noiseloom.data.tokens import evenly, halved
from noiseloom.metrics import Sentences, caption_report
from noiseloom.nets import PictureTokens
from noiseloom.recipes.caption_encoders import Captioner, Lite0Maps, PictureEncoder
from noiseloom.recipes.class_pieces import TokenSplit
from noiseloom.recipes.classes import Classes
from noiseloom.recipes.recipe import Drawing, Facts, Given, Parts
from noiseloom.rng import Rng

__all__ = ["Captions", "phrases"]

_NEVER = ("invalid", "invalid_se")


@dataclass(frozen=True)
class Captions(Classes):
    """Options of `Classes` for captions.

    Attributes:
        size: of the pictures, in pixels: a side, or [height, width].
        fit: pictures of another shape are padded with the background, cropped to their central
            part, or stretched.
        background: colour (red, green, blue), each 0 .. 255, of what is padded or transparent.
        length: tokens of the longest caption; null for that of the longest there is.
        vocabulary: words, characters or pieces, learnt from the captions that are trained on (of
            scenes the words of their grammar), or a sentencepiece .model file.
        classes: of the vocabulary at most, with the end; null for all words that occur, and 32,768
            pieces.
        truncate: cut captions that are longer, instead of refusing them.
        images: of a table or a COCO file, the folder or .zip that its pictures are in; "" for
            beside it.
        apart: what the held-out part may not share with the other: pictures, or captions too.
        held_out: share of pictures kept from training where the data do not say which.
        skip_bad: leave out pictures that cannot be read, and empty captions.
        scenes: number of scenes that are made, for data scenes.
        each: captions of each scene.
        encoder: of the pictures: a vision transformer that is trained with the decoder, or the
            feature maps of EfficientNet-Lite0 (the extra metrics), as they are (lite0) or trained
            on (lite0-tuned).
        patch: side of the transformer's patches, in pixels.
        encoder_width: features of a patch, a multiple of 4 and of `encoder_heads`.
        encoder_depth: blocks of the encoder.
        encoder_heads: attention heads of the encoder.
        picture_drop: share of pictures that training leaves out, which guidance needs; 0 for none.
        similarity: judge captions also by the embeddings of sentences (the extra eval).
        half: of the held-out pictures that an evaluation judges: both, or the first or second in
            their order, so that options chosen on the one are reported of the other; pictures of
            one caption go together (the styles of an emoji, the pictures of an NLVR sentence).
    """

    name: ClassVar[str] = "captions"
    summary: ClassVar[str] = "captions of pictures, by any kind of state"
    shows: ClassVar[Any] = "captions"
    kind: ClassVar[Any] = "captions"
    guided: ClassVar[str] = "source"
    paths: ClassVar[tuple[str, ...]] = (*Classes.paths, "vocabulary", "images")

    size: int | tuple[int, int] = 32
    fit: Literal["pad", "crop", "stretch"] = "pad"
    background: tuple[int, int, int] = (255, 255, 255)
    length: int | None = None
    vocabulary: str = "words"
    classes: int | None = None
    truncate: bool = False
    images: str = ""
    apart: Literal["pictures", "captions"] = "pictures"
    held_out: float = 0.1
    skip_bad: bool = False
    scenes: int = 20_000
    each: int = 5
    encoder: Literal["transformer", "lite0", "lite0-tuned"] = "transformer"
    patch: int = 4
    encoder_width: int = 128
    encoder_depth: int = 3
    encoder_heads: int = 4
    picture_drop: float = 0.1
    similarity: bool = False
    half: Literal["both", "first", "second"] = "both"
    infill: float = 0.0
    steps: int = 5000
    learning_rate: float = 1e-3
    sampling_steps: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coded:
            raise ValueError("state latent tells codes of whole rows: captions are told pictures")
        if not isinstance(self.size, int):
            object.__setattr__(self, "size", tuple(self.size))  # files have lists
        object.__setattr__(self, "background", tuple(self.background))
        if self.images and Path(self.images).expanduser().is_dir():  # the same from any folder
            object.__setattr__(self, "images", str(Path(self.images).expanduser().resolve()))
        for name in ("patch", "encoder_width", "encoder_depth", "encoder_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        height, width = self.framing.height_width
        if self.encoder == "transformer" and (height % self.patch or width % self.patch):
            raise ValueError(
                f"pictures of {height} x {width} pixels cannot be cut into patches of "
                f"{self.patch} x {self.patch}: choose another --patch, or another --size"
            )
        width, heads = self.encoder_width, self.encoder_heads
        if self.encoder == "transformer" and (width % 4 or width % heads):
            raise ValueError(
                f"encoder_width must be a multiple of 4 and of encoder_heads, got {width} and "
                f"{heads}"
            )
        if not 0 <= self.picture_drop <= 1:
            raise ValueError(f"picture_drop must be in [0, 1], got {self.picture_drop}")

    def check(self) -> None:
        """The model of sentences must be there where it is to judge."""
        super().check()
        if self.similarity:
            Sentences()

    @classmethod
    def changeable(cls) -> tuple[str, ...]:
        """Those of every draw, which pictures are judged, and by what."""
        return (*super().changeable(), "half", "similarity")

    def check_guidance(self) -> None:
        """Guidance is to the picture."""
        if self.guidance != 1 and not self.picture_drop:
            raise ValueError(
                f"guidance {self.guidance:g} needs a model that was trained without pictures at "
                "times: train one with picture_drop 0.1, or leave guidance at 1"
            )

    @property
    def framing(self) -> Framing:
        """How pictures become those that are read."""
        return Framing(self.size, self.background, self.fit)

    def load(self, data: str | None) -> Split[Any]:
        """The pictures and captions at a path, or those that are made."""
        split = self._read(data, self.vocabulary)
        made = data == "scenes"
        names = ("images", "fit", "background", "skip_bad") if made else ("scenes", "each")
        kind = "scenes" if made else "pictures that are read"
        usual = {field.name: field.default for field in fields(self)}
        told = [f"{n} changes nothing of {kind}" for n in names if getattr(self, n) != usual[n]]
        return replace(split, notes=(*split.notes, *told))

    def load_like(self, data: str | None, facts: Facts) -> Split[Any]:
        """Pictures and captions by the words of a run."""
        return self._read(data, phrases(facts))

    def check_other(self, data: Split[Any]) -> None:
        """Captions of which most words are none of the run's say nothing of it."""
        assert isinstance(data, TokenSplit)
        words, tokens = data.vocabulary, data.held_out.values
        assert isinstance(words, Phrases)
        said, unknown = int((tokens != words.end).sum()), int(words.is_unknown(tokens).sum())
        if 2 * unknown > said:
            raise ValueError(
                f"of {said:,} {words.units} of these captions {unknown:,} are not in the run's "
                "vocabulary: it was trained on other words"
            )

    def _read(self, data: str | None, words: str | Phrases) -> Split[Any]:
        if data is None:
            raise ValueError(
                "captions need --data PATH: pictures with captions (a COCO file, a table, a folder "
                "or .zip), or scenes, which are made"
            )
        split, words = read_captions(
            data,
            length=self.length,
            size=self.size,
            vocabulary=words,
            classes=self.classes,
            held_out=self.held_out,
            truncate=self.truncate,
            fit=self.fit,
            background=self.background,
            images=self.images or None,
            apart=self.apart,
            skip_bad=self.skip_bad,
            scenes=self.scenes,
            each=self.each,
        )
        return TokenSplit(split.train, split.held_out, split.notes, words)

    def facts(self, data: Split[Any]) -> Facts:
        """Those of rows, and the shape of the pictures."""
        train: CaptionPairs = data.train
        rows = Tokens(train.values, train.sizes)  # without ten thousand pictures
        found = super().facts(TokenSplit(rows, rows, (), getattr(data, "vocabulary", None)))
        return found | {"shape": [3, *self.framing.height_width]}

    def fits(self, facts: Facts, own: Facts) -> None:
        """Raise ValueError if the words, or the pictures, are not those of a run."""
        if facts.get("vocabulary") != own.get("vocabulary"):
            classes = [max(f["sizes"]) for f in (facts, own)]
            raise ValueError(
                f"the data's vocabulary, of {classes[0]:,} classes, is not the run's, of "
                f"{classes[1]:,}: their tokens mean other words"
            )
        super().fits(facts, own)
        if facts["shape"] != own["shape"]:
            raise ValueError(
                f"the run reads pictures of shape {own['shape']}, and the data have "
                f"{facts['shape']}"
            )

    @property
    def unheard(self) -> Mapping[str, str]:
        """What is of the transformer says nothing of EfficientNet's maps."""
        if self.encoder == "transformer":
            return super().unheard
        names = ("patch", "encoder_width", "encoder_depth", "encoder_heads")
        return {**super().unheard, **dict.fromkeys(names, f"encoder {self.encoder}")}

    @property
    def network_source(self) -> dict[str, Any]:
        """The decoder reads a source."""
        return {"reads": True}

    @property
    def narrow_estimates(self) -> bool:
        """With 32,768 words and a width of 512 the zeros would be 17 million parameters."""
        return True

    def build(self, facts: Facts) -> Parts:
        """The model of captions, and beside it the encoder of pictures."""
        parts = super().build(facts)
        inner: PictureTokens | Lite0Maps
        if self.encoder == "transformer":
            inner = PictureTokens(
                3,
                patch=self.patch,
                width=self.encoder_width,
                depth=self.encoder_depth,
                heads=self.encoder_heads,
                dropout=self.dropout,
            )
        else:
            inner = Lite0Maps(self.framing.height_width, tuned=self.encoder == "lite0-tuned")
        encoder = PictureEncoder(inner, self.width, self.depth)
        return replace(parts, denoiser=Captioner(parts.denoiser, encoder, self.picture_drop))

    def reading(
        self, model: nn.Module, batch: Given, rng: Rng | None = None
    ) -> tuple[nn.Module, dict[str, Tensor]]:
        """The model of captions, and the source of the batch's pictures.

        Raises:
            ValueError: there are no pictures.
        """
        assert isinstance(model, Captioner)
        if "pixels" not in batch:
            raise ValueError(
                'captions are of pictures: give {"pixels": ...}, or noiseloom caption RUN PICTURE'
            )
        return model.denoiser, {"source": model.source(batch["pixels"], rng)}

    def end(self, facts: Facts) -> int | None:
        """The class that ends a caption, and fills what is left of its row."""
        return phrases(facts).end

    def inspect(self, parts: Parts, last: Drawing) -> dict[str, float]:
        """Of bits, the share of tokens whose signs spell no class, before the nearest is taken."""
        if self.base != "bits":
            return {}
        assert isinstance(parts.codec, CodeDenoiser)
        wrong = parts.codec.misspelt(last.result)
        return {"invalid_codes": float(wrong.double().mean())}

    def drawn_as(self, facts: Facts) -> str | None:
        """Captions."""
        return "captions"

    @property
    def usage(self) -> str:
        """Lines of Python that draw from a loaded `run`."""
        return (
            "from noiseloom.data import vocabulary\n"
            "\n"
            'words = vocabulary(run.facts["vocabulary"])\n'
            'held = run.recipe.load_like("DATA", run.facts).held_out\n'
            'given = {"pixels": held[torch.arange(4)]["pixels"]}\n'
            "drawn = run.samples(given, seed=1)  # tokens; words.decode(drawn)"
        )

    def evaluate(self, draw: Callable[..., Tensor], data: Split[Any], rng: Rng) -> dict[str, float]:
        """Captions of held-out pictures, beside their references and what is true of them."""
        assert isinstance(data, TokenSplit)
        words, held = data.vocabulary, data.held_out
        assert isinstance(words, Phrases)
        firsts = [" ".join(caption_words(texts[0], marks=True)) for texts in held.references]
        judged = halved(firsts, self.half)
        if not len(judged):
            raise ValueError("held-out pictures of one caption have no halves: leave half at both")
        rows = judged[evenly(len(judged), self.samples)]
        tokens = draw({"pixels": held[rows]["pixels"]})
        places = rows.tolist()
        references = [held.references[row] for row in places]
        found = caption_report(
            words.decode(tokens),
            references,
            rng.fold("report"),
            truth=(lambda i, text: held.truth(places[i], text)) if held.judged else None,
            tokens=tokens,
            classes=words.end + 1,
            end=words.end,
            likeness=Sentences().likeness if self.similarity else None,
            train={text for texts in data.train.captions for text in texts},
        )
        # Decoded tokens are classes always: `inspect` counts what the bits themselves spell.
        return {name: value for name, value in found.items() if name not in _NEVER}


def phrases(facts: Facts) -> Phrases:
    """The vocabulary of a run's captions."""
    words = vocabulary(facts["vocabulary"])
    assert isinstance(words, Phrases)
    return words
