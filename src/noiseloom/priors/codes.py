"""Codes as data: what a prior learns from, and how well it tells them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.priors.prior import Prior

__all__ = ["MEASURED", "Codes", "code_likelihoods", "likelihood_note"]

MEASURED = 4000
"""How many codes a likelihood is measured on, at most: to 0.016 deviations of one code's."""

_CHANCE = 1.05  # of what codes hold: those at random take any fitted prior a little more


@dataclass(frozen=True, eq=False)
class Codes:
    """Codes of samples, and the classes of these.

    Attributes:
        codes: int64, shape (N, m).
        label: int64, shape (N,), or None.
    """

    codes: Tensor
    label: Tensor | None = None

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, indices: Tensor) -> dict[str, Tensor]:
        """The codes at `indices`, in that order, as a batch {"codes"} or {"codes", "label"}."""
        label = {} if self.label is None else {"label": self.label[indices]}
        return {"codes": self.codes[indices], **label}


@torch.no_grad()
def code_likelihoods(prior: Prior | None, k: int, train: Codes, held: Codes) -> dict[str, float]:
    """How many bits the codes of a sample hold, by ever better laws.

        code_bits  m log2 k, what they can hold;  marginal_bits  sum_i H(z_i), of the training codes
        prior_bits_train, prior_bits_held_out  - E log2 p(z | label); of a `BitsPrior` a bound

    A prior is worth its name where held-out codes take it fewer bits than their marginals do; it
    has learnt the training codes by heart where these take it far fewer still.

    Args:
        prior: in evaluation mode; None for none.
        k: number of values of a code.
        train: codes that it learnt from.
        held: codes of other samples.
    """
    share = functional.one_hot(train.codes, k).double().mean(0)
    found = {
        "code_bits": train.codes.shape[1] * math.log2(k),
        "marginal_bits": float(-torch.xlogy(share, share).sum()) / math.log(2),
    }
    if prior is not None:
        place = next(iter(prior.state_dict().values())).device
        for name, codes in (("train", train), ("held_out", held)):
            label = None if codes.label is None else codes.label.to(place)
            nats = -prior.log_prob(codes.codes.to(place), label).double().mean()
            found[f"prior_bits_{name}"] = float(nats) / math.log(2)
    return found


def likelihood_note(found: Mapping[str, float], *, bound: bool) -> str | None:
    """What is to be said of a prior's likelihoods; None of those that say it themselves.

    Args:
        found: as `code_likelihoods` has them, of a prior.
        bound: whether they are an upper bound, as of a `BitsPrior`.
    """
    most, bits = found["code_bits"], found["prior_bits_held_out"]
    what = "the bound of the bits" if bound else "the number of bits"
    if bits > _CHANCE * most:
        longer = found["prior_bits_train"] > most
        remedy = "train it longer" if longer else "it has learnt those trained on by heart"
        return (
            f"{what} of held-out codes by the prior is {bits:.1f}, above the {most:.1f} that they "
            f"can hold: it tells them worse than chance; {remedy}"
        )
    return "bits by this prior are an upper bound, not what codes take exactly" if bound else None
