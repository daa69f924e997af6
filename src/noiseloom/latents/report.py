"""What codes say of classes that the encoder was never told."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.latents.usage import (
    dead_codes,
    information,
    joint_probabilities,
    mutual_information,
    perplexity,
)
from noiseloom.rng import Rng

__all__ = ["code_report", "modes_recovered", "numbering_note"]

_SHUFFLES = 8


def code_report(
    q: Tensor, labels: Tensor, classes: int, rng: Rng | None = None
) -> dict[str, float]:
    """How codes are used, and what they tell of the classes.

    Codes that tell nothing have some information with the classes of finitely many samples, one-hot
    ones about (k - 1) (classes - 1) / (2 n ln 2) bits, soft ones less. So each figure stands beside
    that of the same q with shuffled classes, the mean of 8 shuffles, and is worth what it is above.
    It is not subtracted, as codes that tell all owe nothing to chance.

    Args:
        q: probabilities of the codes, shape (B, m, k).
        labels: int64, shape (B,).
        classes: number of classes.
        rng: of the shuffles, one key; by default always the same.

    Returns:
        Perplexity of a latent (mean over latents), and of all latents together the number of dead
        codes and I(z_i; x) in bits, which of codes at random is 0, however well used; of each of
        several latents its perplexity and the mutual information in bits of latent and class; and,
        where there are three samples or more for each of k^m times `classes` cells, the mutual
        information of all latents together with the class, and the number of classes that are
        recovered. Names of information by chance end in `_chance`.

    References:
        S. Panzeri, A. Treves, 1996, Network 7:87 (how much chance makes); N. Vinh, J. Epps, J.
        Bailey, 2010, JMLR 11:2837 (the mean over shuffles as what chance makes).
    """
    n, m, k = q.shape
    rng, told = rng or Rng(0), functional.one_hot(labels, classes).to(q.dtype)
    orders = [rng.fold("shuffle", i).permutation(n).to(q.device) for i in range(_SHUFFLES)]
    used = perplexity(q.mean(0))
    found = {"perplexity": float(used.mean()), "dead_codes": float(dead_codes(q.mean(0)).sum())}
    found["information"] = float(information(q).sum())
    if m > 1:
        apart, chance = _beside_chance(q.transpose(0, 1), told, orders)
        for i in range(m):
            found[f"latent_perplexity_{i}"] = float(used[i])
            found[f"latent_information_{i}"] = float(apart[i])
            found[f"latent_information_{i}_chance"] = float(chance[i])
    if 3 * k**m * classes <= n:
        whole = joint_probabilities(q)
        together, chance = _beside_chance(whole, told, orders)
        found["mutual_information"] = float(together)
        found["mutual_information_chance"] = float(chance)
        found["modes"] = float(modes_recovered(whole.mT @ told))
    return found


def numbering_note(m: int, k: int, count: int) -> str | None:
    """What to say of codes that could number the samples trained on; None of others.

    Codes that hold all but 5 bits of log2 N are no summary: a prior has learnt which samples there
    were, and generated ones may be copies by way of their codes.

    Args:
        m: number of latents.
        k: number of codes of each.
        count: of training samples, N.
    """
    bits, most = m * math.log2(k), math.log2(count) - 5
    if bits == 0 or bits <= most:
        return None
    return (
        f"codes of m log2 k = {bits:.1f} bits could number the {count:,} samples (log2 N - 5 = "
        f"{most:.1f}): what they gain may be copies, so give fewer latents or codes, or read the "
        "distance to the nearest training sample beside every figure"
    )


def modes_recovered(joint: Tensor, share: float = 0.02, purity: float = 0.9) -> int:
    """How many classes have a code of their own.

    One that is used for more than `share` of all samples, of which more than `purity` are of that
    class; two such codes of a class count once.

    Args:
        joint: counts or probabilities of code and class, shape (codes, classes).
        share: in [0, 1).
        purity: in [0.5, 1).
    """
    total = joint.sum(1)
    most, whose = joint.max(1)
    own = (total > share * total.sum()) & (most > purity * total)
    return len(set(whose[own].tolist()))


def _beside_chance(q: Tensor, told: Tensor, orders: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Information of codes (..., B, k) with classes (B, classes), in and out of their order."""
    chance = [mutual_information(q.mT @ told[order]) for order in orders]
    return mutual_information(q.mT @ told), torch.stack(chance).mean(0)
