"""One table of how good captions of pictures are, with the two anchors that give it meaning.

Overlap with references says whether captions are worded as people's are, not whether they are true:
a model that has not seen the picture gets some of it. So the same code measures a real caption of
the same picture, as good as it gets, and a real caption of another one. Where the truth can be
known, as of scenes, the share that is true comes first. Of what holds of any picture it is all, so
beside it stands the share of the same captions that is true of another picture.
"""

import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from noiseloom.data.phrases import caption_words
from noiseloom.metrics.overlap import bleu, cider, rouge_l
from noiseloom.metrics.rows import mean_and_error
from noiseloom.rng import Rng

__all__ = [
    "bleu",
    "caption_report",
    "cider",
    "distinct_captions",
    "exact_match",
    "invalid_codes",
    "rouge_l",
    "true_share",
]

Truth = Callable[[int, str], bool | None]
"""Whether a caption is true of row i's picture; None if it is none that can be judged."""
Likeness = Callable[[Sequence[str], Sequence[Sequence[str]]], tuple[float, float]]
"""Mean similarity of captions to their references, and its standard error."""


def true_share(captions: Sequence[str], truth: Truth) -> tuple[float, float]:
    """Share of captions that are true of their pictures, and its standard error.

    What cannot be judged, as a sentence that is none of the grammar, is not true.

    Args:
        captions: caption i is of row i.
        truth: such as `CaptionPairs.truth`.

    Raises:
        ValueError: no captions.
    """
    return mean_and_error(torch.tensor([truth(i, text) is True for i, text in enumerate(captions)]))


def exact_match(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, float]:
    """Share of captions that are, word for word, one of their references; and its standard error.

    Words are those of `caption_words`; a caption without any matches nothing.

    Raises:
        ValueError: no captions, or another number of references.
    """
    found = []
    for text, others in zip(captions, references, strict=True):
        words = caption_words(text)
        found.append(bool(words) and any(words == caption_words(other) for other in others))
    return mean_and_error(torch.tensor(found))


def distinct_captions(captions: Sequence[str]) -> float:
    """Number of different captions, as a share of all; it falls with their number.

    Raises:
        ValueError: no captions.
    """
    if not captions:
        raise ValueError("there are no captions to count")
    return len({tuple(caption_words(text)) for text in captions}) / len(captions)


def invalid_codes(tokens: Tensor, classes: int, end: int) -> dict[str, float]:
    """Shares of captions whose codes are not those of a caption.

    Args:
        tokens: as drawn, integers, shape (N, T).
        classes: K.
        end: the class of all that comes after a caption.

    Returns:
        "invalid": share of captions with a code that is none of 0 .. K - 1, "ragged": with anything
        but ends after an end, "empty": that begin with the end, "unended": without an end; each
        with "_se", its standard error.

    Raises:
        ValueError: no captions.
    """
    ended = (tokens == end).cummax(1).values
    shares = {
        "invalid": ((tokens < 0) | (tokens >= classes)).any(1),
        "ragged": (ended & (tokens != end)).any(1),
        "empty": tokens[:, 0] == end,
        "unended": ~ended[:, -1],
    }
    return {
        key: value
        for name, flags in shares.items()
        for key, value in _both(name, mean_and_error(flags)).items()
    }


def caption_report(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    rng: Rng,
    *,
    truth: Truth | None = None,
    tokens: Tensor | None = None,
    classes: int | None = None,
    end: int | None = None,
    train: Collection[str] | None = None,
    likeness: Likeness | None = None,
) -> dict[str, float]:
    """Compare captions, and real captions, with the references of held-out pictures.

    The keys are

        true            share that is true of the picture, where that can be known
        true_of_another share that is true of another picture, where that can be known
        true_beyond     the first less the second: what is said of this picture alone
        sentence        share that can be judged at all: of the grammar
        bleu_4          of the corpus
        cider           as its paper has it
        cider_d         with counts, as the published scripts have it: what tables call CIDEr
        rouge_l         mean
        exact           share that is a reference, word for word
        similarity      of the embeddings, mean of the best reference's, where `likeness` is given
        different       number of different ones, as a share
        known           share that is a caption of `train`, in the words of `caption_words`
        mean_words      mean number of words
        invalid, ragged, empty, unended     as of `invalid_codes`, where tokens are given

    each with `_se` appended for its standard error, where there is one, with `_held_out` for the
    first reference of each picture held against its others, of pictures that have several (truth,
    different and known ones of all pictures), and with `_elsewhere` for the first reference of
    another picture held against all. `n` is the number of pictures. What is not defined is left
    out, as CIDEr of fewer than two pictures.

    A reference is held against one fewer than captions are, which makes it look a little worse.

    Args:
        captions: N, of pictures 0 .. N - 1.
        references: of each picture, one or more, such as `CaptionPairs.references`.
        rng: draws the other pictures.
        truth: of a caption for a picture, such as `CaptionPairs.truth`.
        tokens: the captions as they were drawn, (N, T), with `classes` and `end`.
        classes: K.
        end: the class of all that comes after a caption.
        train: captions to train on, of the data that are judged by: of other data than those that
            a model was trained on it never saw them.
        likeness: how similar captions and references are, such as `Sentences.likeness`.

    Raises:
        ValueError: no captions, other numbers of references, or tokens without classes and end.
    """
    count = len(captions)
    if not count or count != len(references):
        raise ValueError(
            f"a report needs captions with references, got {count} and {len(references)}"
        )
    known = None if train is None else {tuple(caption_words(text)) for text in train}

    def alone(texts: Sequence[str]) -> dict[str, float]:
        found: dict[str, float] = {}
        if truth is not None:
            judged = torch.tensor([truth(i, text) is not None for i, text in enumerate(texts)])
            found |= _both("true", true_share(texts, truth))
            found |= _both("sentence", mean_and_error(judged))
        words = [tuple(caption_words(text)) for text in texts]
        found["different"] = distinct_captions(texts)
        if known is not None:
            found |= _both("known", mean_and_error(torch.tensor([w in known for w in words])))
        return found | _both("mean_words", mean_and_error(torch.tensor([len(w) for w in words])))

    def beyond(texts: Sequence[str]) -> dict[str, float]:
        if truth is None or count < 2:
            return {}
        told = list(zip(texts, other.argsort().tolist(), strict=True))
        own = torch.tensor([truth(i, text) is True for i, text in enumerate(texts)])
        blind = torch.tensor([truth(i, text) is True for text, i in told])
        return _both("true_of_another", mean_and_error(blind)) | _both(
            "true_beyond", mean_and_error(own.double() - blind.double())
        )

    def beside(texts: Sequence[str], others: Sequence[Sequence[str]]) -> dict[str, float]:
        found = _both("bleu_4", bleu(texts, others))
        if len(texts) > 1:
            found |= _both("cider", cider(texts, others))
            found |= _both("cider_d", cider(texts, others, penalised=True, counts=True))
        found |= _both("rouge_l", rouge_l(texts, others))
        found |= _both("exact", exact_match(texts, others))
        return found | (_both("similarity", likeness(texts, others)) if likeness else {})

    real = [others[0] for others in references]
    several = [others for others in references if len(others) > 1]
    order = rng.permutation(count)
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    elsewhere = [real[i] for i in other.tolist()]
    found = {
        "": alone(captions) | beyond(captions) | beside(captions, references),
        "_held_out": alone(real) | beyond(real),
    }
    if several:
        found["_held_out"] |= beside([o[0] for o in several], [o[1:] for o in several])
    if count > 1:
        found["_elsewhere"] = alone(elsewhere) | beside(elsewhere, references)
    if tokens is not None:
        if classes is None or end is None:
            raise ValueError("tokens are judged by the number of classes and the end")
        found[""] |= invalid_codes(tokens, classes, end)
    return {"n": float(count)} | {
        f"{key}{suffix}": value
        for suffix, values in found.items()
        for key, value in values.items()
        if not math.isnan(value)
    }


def _both(name: str, found: tuple[float, float]) -> dict[str, float]:
    return {name: found[0], f"{name}_se": found[1]}
