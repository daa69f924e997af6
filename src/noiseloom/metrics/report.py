"""One table of how good a set of sampled pictures is, with the two anchors that give it meaning.

The same code measures three sets against the same training pictures: the samples, held-out real
pictures (as good as it gets at this size) and held-out pictures with noise (visibly wrong). A
number for the samples means nothing but by its place between the other two.
"""

import torch
from torch import Tensor

from noiseloom.data import Images
from noiseloom.metrics.coverage import coverage, memorised_share, nearest
from noiseloom.metrics.features import Features
from noiseloom.metrics.frechet import frechet
from noiseloom.metrics.kid import kid
from noiseloom.rng import Rng

__all__ = ["image_report", "noised", "set_distances"]


def image_report(
    features: Features,
    samples: Tensor,
    train: Images,
    held_out: Images,
    rng: Rng,
    *,
    k: int = 5,
    noise: float = 0.2,
    allow_small: bool = False,
    mirrored: bool = False,
) -> dict[str, float]:
    """Compare samples, held-out and noised held-out pictures with the training pictures.

    All three sets are cut to the same number n of rows, drawn without replacement, since every
    measure but kid depends on it. With F the name of the feature network the keys are

        kid_F, kid_F_se     kernel distance to the training set and its standard error; left out
                            where n < 20
        fd_F                Frechet distance to n training pictures; left out where n < 2 dim, or
                            where there are fewer than n of them
        precision, recall,  against all training pictures, in these features
        density, coverage
        nearest             median distance of pixels, scaled to [0, 1], to the nearest training
                            picture
        memorised           share of samples nearer to one than 99 % of held-out pictures are

    each for the samples, and but for the last with `_held_out` and `_noised` appended for the
    anchors; `n` is the number of rows. Where the held-out part has every class in exact
    proportion, as a stratified split has, its kernel distance lies slightly below 0: it is more
    alike than chance would have it.

    Args:
        features: feature network.
        samples: uint8, shape (N, C, H, W), with the levels of `train`.
        train: what the model was trained on.
        held_out: pictures it was not trained on.
        rng: draws rows, blocks and noise.
        k: which neighbour bounds a ball.
        noise: standard deviation of the anchor's noise, in units of the range of a pixel.
        allow_small: give the Frechet distance for n < 2 dim too.
        mirrored: whether the model was trained on mirrored pictures too, so that `nearest` and
            `memorised` are to a training picture or its mirror image, for anchors as well.

    Raises:
        TypeError: samples that are not uint8.
        ValueError: samples of another shape, too few of them.
    """
    if samples.shape[1:] != train.pixels.shape[1:]:
        raise ValueError(
            f"samples of shape {tuple(samples.shape)} do not fit training pictures of shape "
            f"{tuple(train.pixels.shape)}"
        )
    n = min(len(samples), len(held_out))
    real = held_out.pixels[rng.fold("held out").permutation(len(held_out))[:n]]
    sets = {
        "": samples[rng.fold("samples").permutation(len(samples))[:n].to(samples.device)].cpu(),
        "_held_out": real,
        "_noised": noised(real, train.levels, noise, rng.fold("noise")),
    }
    reference = features(train.pixels)
    seen = torch.cat([train.pixels, train.pixels.flip(-1)]) if mirrored else train.pixels
    device, range_ = reference.device, train.levels - 1

    result = {"n": float(n)}
    for suffix, pictures in sets.items():
        found = features(pictures)
        distances = set_distances(found, reference, rng, allow_small=allow_small)
        for key, value in distances.items():
            kind, _, error = key.partition("_")
            result[f"{kind}_{features.name}{error and '_se'}{suffix}"] = value
        if n > k:
            measured = coverage(found, reference, k)._asdict()
            result |= {f"{key}{suffix}": value for key, value in measured.items()}
        result[f"nearest{suffix}"] = float(nearest(pictures, seen, device).median()) / range_
    result["memorised"] = memorised_share(sets[""], seen, held_out.pixels, device)
    return result


def set_distances(
    found: Tensor, reference: Tensor, rng: Rng, *, allow_small: bool = False
) -> dict[str, float]:
    """How far a set of features is from the training set's, as far as there are enough of them.

    Args:
        found: float, shape (n, d).
        reference: of the training set, shape (N, d).
        rng: draws blocks, and n of the N rows.
        allow_small: give the Frechet distance for n < 2 d too.

    Returns:
        "kid" and "kid_se", its standard error, of n >= 20 rows; "fd", the Frechet distance to n
        rows of the reference, where there are so many and n >= 2 d.
    """
    result, (n, dim) = {}, found.shape
    if n >= 20:
        result["kid"], result["kid_se"] = kid(found, reference, rng.fold("kid"))
    subset = reference[rng.fold("train").permutation(len(reference))[:n].to(reference.device)]
    if len(subset) == n and (n >= 2 * dim or allow_small):
        result["fd"] = frechet(found, subset, allow_small=allow_small)
    return result


def noised(pixels: Tensor, levels: int, amount: float, rng: Rng) -> Tensor:
    """Pictures with independent normal noise on every pixel, rounded and clamped to their levels.

    Args:
        pixels: uint8, shape (N, C, H, W), values 0 .. levels - 1.
        levels: number of values of a pixel.
        amount: standard deviation, in units of the range levels - 1.
        rng: draws the noise.
    """
    x = pixels + amount * (levels - 1) * rng.normal(pixels.shape, device=pixels.device)
    return x.round().clamp(0, levels - 1).to(torch.uint8)
