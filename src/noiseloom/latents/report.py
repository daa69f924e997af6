"""What codes say of classes that the encoder was never told."""

from torch import Tensor
from torch.nn import functional

from noiseloom.latents.usage import joint_probabilities, mutual_information, perplexity

__all__ = ["code_report", "modes_recovered"]


def code_report(q: Tensor, labels: Tensor, classes: int) -> dict[str, float]:
    """How codes are used, and what they tell of the classes.

    Args:
        q: probabilities of the codes, shape (B, m, k).
        labels: int64, shape (B,).
        classes: number of classes.

    Returns:
        Perplexity of a latent (mean over latents), mutual information in bits of all latents
        together with the class, and the number of classes that are recovered.
    """
    whole = joint_probabilities(q)
    joint = whole.mT @ functional.one_hot(labels, classes).to(q.dtype)
    return {
        "perplexity": float(perplexity(q.mean(0)).mean()),
        "mutual_information": float(mutual_information(joint)),
        "modes": float(modes_recovered(joint)),
    }


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
