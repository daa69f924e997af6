"""An autoregressive prior over codes."""

import torch
from torch import Tensor

from noiseloom.carry import Carry, append_tokens
from noiseloom.nets.code_transformer import CodeTransformer
from noiseloom.objective import drop_condition
from noiseloom.priors.choice import check_choice, choose
from noiseloom.priors.prior import Prior, keys
from noiseloom.rng import Rng

__all__ = ["AutoregressivePrior"]


class AutoregressivePrior(Prior):
    """p(z | label) = prod_i p(z_i | z_<i, label), each factor a softmax of a causal transformer's.

    Uniform at initialisation, so that a training starts from m ln k nats. Where labels are dropped
    in training, the null label's law is p(z). For m = 10, k = 100, at the paper's width and depth,
    it has 57.8 M parameters, 19.4 M of them modulations by the label, which the paper's may lack.

    Args:
        m: number of positions.
        k: number of values of each.
        width: features inside; the defaults are the paper's.
        depth: number of blocks.
        heads: attention heads, a divisor of `width`.
        num_classes: K, or None for a prior without labels.
        dropout: rate in the transformer.
        label_drop: share of the labels that training replaces by the null label.

    References:
        Y. Xu et al., 2024, DisCo-Diff, arXiv 2407.03300, Eq. 4, Algorithm 3 and Appendix D.1.
    """

    def __init__(
        self,
        m: int,
        k: int,
        width: int = 512,
        depth: int = 12,
        heads: int = 8,
        num_classes: int | None = None,
        dropout: float = 0.0,
        label_drop: float = 0.1,
    ) -> None:
        super().__init__(m, k, num_classes)
        if not 0 <= label_drop <= 1:
            raise ValueError(f"label_drop must be in [0, 1], got {label_drop}")
        self.label_drop = label_drop
        self.network = CodeTransformer(
            m,
            k,
            width=width,
            depth=depth,
            heads=heads,
            num_classes=num_classes,
            dropout=dropout,
        )

    def conditionals(
        self, codes: Tensor, label: Tensor | None = None, dropout: Tensor | None = None
    ) -> Tensor:
        """The logarithms of all factors, ln p(z_i = . | z_<i, label), in one pass.

        Args:
            codes: shape (B, m).
            label: shape (B,), in 0 .. K; absent means K for all.
            dropout: keys (B,), needed in training mode where the rate is not 0.

        Returns:
            Nats, shape (B, m, k).
        """
        codes = self.checked(codes)
        label = self.labels(label, len(codes), codes.device)
        cond = {"label": label} | ({} if dropout is None else {"dropout": dropout})
        logits: Tensor = self.network(codes[:, :-1], cond)
        return logits.float().log_softmax(-1)

    def log_prob(self, codes: Tensor, label: Tensor | None = None) -> Tensor:
        """The exact log-probability.

        Args:
            codes: shape (B, m).
            label: shape (B,), in 0 .. K; absent means K for all.

        Returns:
            Nats, shape (B,).
        """
        return _taken(self.conditionals(codes, label), codes)

    def loss(self, codes: Tensor, label: Tensor | None, rng: Rng) -> Tensor:
        """The negative log-likelihood of each code, labels dropped.

        Args:
            codes: shape (B, m).
            label: shape (B,), or None.
            rng: one key, or one per sample.

        Returns:
            Nats, shape (B,).
        """
        codes = self.checked(codes)
        rng = keys(rng, len(codes), codes.device)
        if label is not None:
            label = self.labels(label, len(codes), codes.device)
            label = drop_condition(label, self.null, self.label_drop, rng.fold("label"))
        dropout = rng.fold("dropout").key
        assert isinstance(dropout, Tensor)
        return -_taken(self.conditionals(codes, label, dropout), codes)

    @torch.no_grad()
    def sample(
        self, count: int | Tensor, rng: Rng, *, temperature: float = 1.0, top_p: float = 1.0
    ) -> Tensor:
        """Draw position by position; the network reads each once, and remembers it.

        What a sample is depends on its key alone, but for rounding: the network's sums may differ
        in their last digits from one batch size to another.

        Args:
            count: number of samples, or their labels (B,).
            rng: one key, or one per sample.
            temperature: of each factor, >= 0; 0 is the greedy chain, 1 the law of `log_prob`.
            top_p: mass of the nucleus of each factor, after the temperature, in (0, 1].

        Returns:
            int64, shape (B, m).

        Raises:
            ValueError: an option, a label or a number of keys that is wrong; dropout in training
                mode.
        """
        check_choice(temperature, top_p)
        label, rng = self.wanted(count, rng, self.network.token.weight.device)
        u = rng.uniform((len(label), self.m), device=label.device)
        codes, cache = label.new_empty(len(label), 0), Carry()
        for i in range(self.m):
            logits, new = self.network(codes, {"label": label, "cache": cache})
            cache = append_tokens(cache, new)
            z = choose(logits[:, 0].float(), u[:, i], temperature, top_p)
            codes = torch.cat((codes, z[:, None]), 1)
        return codes


def _taken(log_p: Tensor, codes: Tensor) -> Tensor:
    """The sum over positions of the entries that the codes name, shape (B,)."""
    return log_p.gather(-1, codes.long()[..., None])[..., 0].sum(1)
