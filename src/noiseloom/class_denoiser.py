"""Denoisers of classes: a network says a logit for every class of every token.

Of classes themselves (`ClassDenoiser`), it sees one-hot vectors, `diffusion.width` entries a token,
or, if its attribute `reads_classes` says so, the whole numbers, which it looks up; of codes that
stand for them (`CodeDenoiser`), states of a Gaussian diffusion, the codes. The network is any that
reads states (B, T, D), so caches, conditions and self-conditioning are those of every other state.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.carry import Carry
from noiseloom.denoiser import LOG_SNR_LIMIT, Preconditioned
from noiseloom.diffusion import CategoricalDiffusion, Prediction
from noiseloom.noise import Schedule
from noiseloom.rng import Rng
from noiseloom.schedule import precise, unrounded
from noiseloom.shapes import Cond, align

__all__ = ["ClassDenoiser", "CodeDenoiser", "LogitHead", "Remembering", "absent_classes"]


class LogitHead:
    """The output is a logit per class: mean = softmax(f), the probabilities."""

    def outputs(self, channels: int) -> int:
        """As many as there are classes."""
        return channels

    def __call__(self, output: Tensor) -> Prediction:
        """Logits to probabilities."""
        return Prediction(output.softmax(-1), output)


class ClassDenoiser(nn.Module):
    """p(x_0 | x_t) of every token, from a network for vectors.

        p(x_0 = k | x_t) ~ softmax(f(onehot(x_t), log-SNR))_k q(x_t | x_0 = k), token by token

    What a token says of its own class is known, and what the network says is what the others make
    of it: exact for independent tokens with a constant f. For masks it is the substitution
    parametrisation, no probability on the mask and tokens that are seen copied, and their law does
    not depend on the time: the network is told log-SNR 0 always. For other noise it is what makes
    small times learnable, where p differs from a copy by terms of 1 - gamma.

    Args:
        network: `(x, log_snr, cond) -> logits`, of `diffusion.width` features a token and K out; or
            one that reads classes.
        diffusion: what noise is.
        sizes: classes of each place of an absorbing diffusion, where there are fewer than K;
            others' probabilities say it.
        clock: of `Preconditioned`.

    References:
        S. Sahoo et al., 2024, arXiv 2406.07524, Section 3.2.3 (the substitution parametrisation).
    """

    absent: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        diffusion: CategoricalDiffusion,
        *,
        sizes: Sequence[int] | None = None,
        clock: float = LOG_SNR_LIMIT,
    ) -> None:
        super().__init__()
        self.diffusion = diffusion
        self.inner = Preconditioned(
            network, diffusion.schedule, target="x0", head=LogitHead(), clock=clock
        )
        pi = diffusion.probabilities
        absent = absent_classes(sizes, diffusion.num_classes) if pi is None else pi <= 0
        # What is masked or seen says all that time could: p(x_0 | x_t) of masks does not know it.
        self.timeless = diffusion.kind == "absorbing"
        self.register_buffer("absent", absent, persistent=False)
        # Other schedules shrink states to unit variance, and one-hot vectors with them.
        alpha, sigma = diffusion.schedule(torch.linspace(0, 1, 9, dtype=torch.float64))
        unscaled = bool(((alpha * alpha + sigma * sigma - 1).abs() < 1e-6).all())
        self.looks_up = unscaled and getattr(network, "reads_classes", False)

    @property
    def network(self) -> nn.Module:
        """The bare network."""
        return self.inner.network

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The probabilities of the clean classes, shape (B, T, K), with their logits.

        `cond["absent"]`, bool (B, T, K), are classes that these rows are not to have.

        An estimate that has no axis for classes is that of a first call, null.
        """
        width, classes = self.diffusion.width, self.diffusion.num_classes
        dtype = next(self.inner.parameters()).dtype
        told = dict(cond or {})
        absent = told.pop("absent", None)
        if "estimate" in told:
            known = told.pop("estimate")
            if known.ndim > x.ndim:
                told["estimate"] = functional.pad(known.to(dtype), (0, width - classes))
        state = x if self.looks_up else functional.one_hot(x.long(), width).to(dtype)
        clock = self.diffusion.schedule.time(torch.zeros(())) if self.timeless else t
        prediction, carry = self.inner(state, clock, told, carry, rng)
        logits = _present(prediction, self.absent, absent)
        logits = logits + self.diffusion.evidence(x, t)
        return Prediction(logits.softmax(-1), logits, hidden=prediction.hidden), carry


class Remembering(nn.Module):
    """Asks a denoiser of masks again only for rows in which something was unmasked meanwhile.

    What masks say does not know the time, so a row of T tokens is worth at most T + 1 calls,
    however many steps are taken. Which rows have changed is asked of the device at every call,
    which then waits: it is for the CPU, or for many more steps than tokens.

    Args:
        denoiser: of an absorbing diffusion, in evaluation, and bare: what it is told must not
            change from call to call, as an estimate would.

    Raises:
        ValueError: a denoiser that is told more than the tokens.

    References:
        S. Sahoo et al., 2024, arXiv 2406.07524, Section 4.2.1, for a whole batch at a time.
    """

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        if not (isinstance(denoiser, ClassDenoiser) and denoiser.timeless):
            raise ValueError("only a bare denoiser of masks says the same of the same tokens")
        self.denoiser = denoiser

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """What it says now, or has said of the same tokens."""
        known = (carry or {}).get("remembered")
        stale = None if known is None else (x != known["x"]).any(1).nonzero()[:, 0]
        if known is None or stale is None or len(stale) == len(x):
            prediction, _ = self.denoiser(x, t, cond)
            mean, logits = prediction.mean, prediction.logits
        else:
            mean, logits = known["mean"], known["logits"]
        if stale is not None and 0 < len(stale) < len(x):
            told = {k: v[stale] if isinstance(v, Tensor) else v for k, v in (cond or {}).items()}
            time = t[stale] if t.ndim and len(t) > 1 else t
            some, _ = self.denoiser(x[stale], time, told)
            mean, logits = (
                old.index_copy(0, stale, new)
                for old, new in ((mean, some.mean), (logits, some.logits))
            )
        kept = {"x": x, "mean": mean, "logits": logits}
        return Prediction(mean, logits), {"remembered": kept}


class CodeDenoiser(nn.Module):
    """E[x_0 | x_t] of states that are codes of classes, and the codec between the two.

        p(x_0 = k | x_t) ~ softmax(f(x_t, log-SNR))_k N(x_t; alpha c_k, sigma^2)
        mean = p @ codes

    token by token. As in `ClassDenoiser`, what a token says of its own class is known, and the
    network says what the others make of it, whatever the codes are: analog bits, one-hot vectors,
    or learnt embeddings, which are vectors of unit variance, so that noise hides all alike and
    nothing is gained by growing.

    Args:
        network: `(x, log_snr, cond) -> logits`, of K + n features a token and K out: it sees what
            each token says of its class, as probabilities, before the state itself.
        schedule: t -> (alpha, sigma).
        codes: the table, shape (K, n).
        learnt: whether it is learnt.
        sizes: classes of each place, where there are fewer than K.
        clock: of `Preconditioned`.

    References:
        T. Chen, R. Zhang, G. Hinton, 2022, arXiv 2208.04202, Section 3.1 (softmax over codes);
        S. Dieleman et al., 2022, 2211.15089, Sections 3.1 and 3.2 (learnt, normalised).
    """

    table: Tensor
    absent: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        codes: Tensor,
        *,
        learnt: bool = False,
        sizes: Sequence[int] | None = None,
        clock: float = LOG_SNR_LIMIT,
    ) -> None:
        super().__init__()
        self.inner = Preconditioned(network, schedule, target="x0", head=LogitHead(), clock=clock)
        self.learnt = learnt
        if learnt:
            self.table = nn.Parameter(codes.clone())
        else:
            self.register_buffer("table", codes.clone(), persistent=False)
        self.register_buffer("absent", absent_classes(sizes, len(codes)), persistent=False)

    @property
    def network(self) -> nn.Module:
        """The bare network."""
        return self.inner.network

    @property
    def codes(self) -> Tensor:
        """The codes as they are diffused, shape (K, n), in float32 or better."""
        table = precise(self.table)
        return functional.rms_norm(table, table.shape[-1:]) if self.learnt else table

    def encode(self, data: Tensor) -> Tensor:
        """The codes of classes (B, T), shape (B, T, n)."""
        return self.codes.to(data.device)[data]

    def decode(self, state: Tensor) -> Tensor:
        """The class of the nearest code, among those that a place has, shape (B, T)."""
        state = precise(state)
        codes = self.codes.to(state)
        with unrounded(state):
            score = state @ codes.T - codes.square().sum(-1) / 2
        absent = self.absent
        return (score if absent is None else score.masked_fill(absent, -torch.inf)).argmax(-1)

    def misspelt(self, state: Tensor) -> Tensor:
        """Where the signs of a state (B, T, n) are those of no code; bool (B, T), for bits.

        `decode` takes the nearest code, so what it returns does not tell.
        """
        signs = torch.where(state > 0, 1.0, -1.0)
        likest = signs @ self.codes.to(signs).sign().T  # n less twice the bits that differ
        return likest.amax(-1) < state.shape[-1]

    def evidence(self, x: Tensor, t: Tensor) -> Tensor:
        """What a token says of its own class: ln N(x_t; alpha c_k, sigma^2), shape (B, T, K).

        Without what all classes share, and at a log-SNR of at most 20.
        """
        codes = self.codes
        x = x.to(torch.promote_types(x.dtype, codes.dtype))
        alpha, sigma = self.inner.schedule(align(t, x))
        gain = alpha / (sigma * sigma).clamp_min(1e-30)
        gain = torch.minimum(gain, math.exp(LOG_SNR_LIMIT) / alpha.clamp_min(1e-30))
        with unrounded(x):
            return gain * (x @ codes.T - alpha * codes.square().sum(-1) / 2)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Cond | None = None,
        carry: Carry | None = None,
        rng: Rng | None = None,
    ) -> tuple[Prediction, Carry]:
        """The mean, in the shape of x, with logits (B, T, 1, K) and the codes they are of."""
        codes, evidence, told = self.codes, self.evidence(x, t), dict(cond or {})
        dtype = next((p.dtype for p in self.inner.parameters()), x.dtype)
        absent = told.pop("absent", None)
        if "estimate" in told:
            # Beside a state that is preceded by K probabilities, unless the network knows better.
            own = getattr(self.network, "estimate_features", None) == codes.shape[1]
            known = told["estimate"].to(dtype)
            told["estimate"] = functional.pad(known, (0 if own else len(codes), 0))
        seen = torch.cat((evidence.softmax(-1), x), -1).to(dtype)
        prediction, carry = self.inner(seen, t, told, carry, rng)
        logits = _present(prediction, self.absent, absent) + evidence
        with unrounded(x):
            mean = logits.softmax(-1) @ codes.to(logits)
        # A code is the one group of its token.
        return Prediction(mean, logits[..., None, :], codes, hidden=prediction.hidden), carry


def absent_classes(sizes: Sequence[int] | None, classes: int) -> Tensor | None:
    """Which of K classes a place does not have, bool of shape (T, K); None if all have all."""
    if sizes is None or min(sizes) == classes:
        return None
    return torch.arange(classes) >= torch.tensor(sizes)[:, None]


def _present(prediction: Prediction, *absent: Tensor | None) -> Tensor:
    assert prediction.logits is not None
    logits = precise(prediction.logits)
    for classes in absent:
        if classes is not None:
            logits = logits.masked_fill(classes, -torch.inf)
    return logits
