"""The loss of a guide: labels given noised states, and a term about unlabelled ones.

Noising is a part of it: a guide that was trained on clean states says nothing about noisy ones.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from noiseloom.context.guide import Guide, GuideEnsemble
from noiseloom.context.term import Shown, Term
from noiseloom.diffusion import Diffusion, ProductDiffusion
from noiseloom.objective import uniform_times
from noiseloom.rng import Rng
from noiseloom.shapes import Cond, State, first_part, map_state

__all__ = ["Context", "TimeSampler", "draw_context", "gaussian_nll", "guide_loss", "noised"]

TimeSampler: TypeAlias = Callable[[Sequence[int], Rng, torch.device], Tensor]
"""Times of a batch, shape (B,), as `objective.uniform_times` draws them."""


@dataclass(frozen=True)
class Context:
    """Unlabelled states, and the stream of their draws.

    Attributes:
        state: clean, shape (M, ...); a fresh draw of the context set at every update.
        rng: of their times and noise: its own, so that labelled states are drawn as without them.
        cond: what the network is told besides, batch first.
    """

    state: State
    rng: Rng
    cond: Cond | None = None


def draw_context(
    states: State,
    count: int,
    rng: Rng,
    *,
    cond: Cond | None = None,
    device: torch.device | str | None = None,
) -> Context:
    """Some states of a context set, with replacement, and a stream of their own.

    Args:
        states: all of them, clean, shape (C, ...).
        count: M, how many to draw.
        rng: key of this update; one key, or one for each labelled sample, as a training loop has.
        cond: conditions of all of them, batch first.
        device: where those that are drawn go.

    Raises:
        ValueError: an empty set, or fewer than one to draw.
    """
    first = first_part(states)
    if not len(first) or count < 1:
        raise ValueError(f"a context needs states and a number to draw, got {len(first)}, {count}")
    root = rng.fold("context").key
    shares = -(-count // len(root)) if isinstance(root, Tensor) else count
    place = root.device if isinstance(root, Tensor) else None
    keys = Rng(root).each("draw", torch.arange(shares, device=place)).key
    assert isinstance(keys, Tensor)
    own = Rng(keys.flatten()[:count])
    chosen = own.fold("which").integers(len(first), (count,)).to(first.device)

    def taken(value: Tensor) -> Tensor:
        return value[chosen].to(device or value.device, non_blocking=True)

    told = {k: taken(v) if isinstance(v, Tensor) else v for k, v in (cond or {}).items()}
    return Context(map_state(taken, states), own, told if cond else None)


def gaussian_nll(labels: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """-ln N(y; mean, variance) = (ln s + (y - mean)^2 / s + ln 2 pi) / 2 of each entry.

    Args:
        labels: y.
        mean: predicted.
        variance: s > 0.

    Returns:
        Nats, in the shape of all three.

    Raises:
        ValueError: the shapes differ. (B, 1) beside (B,) would compare every label with every
            prediction, and the mean would learn nothing.
    """
    if not labels.shape == mean.shape == variance.shape:
        raise ValueError(
            f"labels of shape {tuple(labels.shape)}, means of {tuple(mean.shape)} and variances of "
            f"{tuple(variance.shape)}: the three must be equal"
        )
    off = labels - mean
    return (variance.log() + off * off / variance + math.log(2 * math.pi)) / 2


def guide_loss(
    guide: Guide | GuideEnsemble,
    labelled: State,
    labels: Tensor,
    rng: Rng,
    *,
    cond: Cond | None = None,
    context: Context | None = None,
    term: Term | None = None,
    times: TimeSampler = uniform_times,
) -> Tensor:
    """The negative log-likelihood of each label, and a term about the context.

        loss_b = mean_j -ln N(y_bj; mean_j(x_t), variance_j(x_t)) + term

    in standardised units, x_t ~ q(x_t | x_0), each state with a time of its own. Labelled and
    context states are noised by the same function, and go through the network in one pass. Without
    a term, or at weight 0, there is nothing of a context: the loss is the same, bit for bit.

    Members of an ensemble have noise of their own, and the loss is the sum of theirs.

    Args:
        guide: what is trained, in training mode, with its labels `fit`.
        labelled: clean states, shape (B, ...).
        labels: in their own units, shape (B, J).
        rng: key of times and noise; one key per sample, or one for all, from which each sample has
            its own by its row. Its stream "dropout" goes to the network as `cond["dropout"]`.
        cond: conditions of the labelled states, batch first.
        context: unlabelled states of the same shape, with a stream of their own.
        term: the regulariser.
        times: of each state: U(0, 1), or another range, in which alone the guide is then to be
            asked (`begin` of guidance).

    Returns:
        Shape (B,); the term, one number, is in each.

    Raises:
        ValueError: no context for a term that needs one; conditions or shapes that do not fit.
    """
    if isinstance(guide, GuideEnsemble):
        each = []
        for i, member in enumerate(guide.guides):
            own = context and replace(context, rng=context.rng.fold("member", i))
            key = rng.fold("member", i)
            options: dict[str, Any] = {"cond": cond, "context": own, "term": term, "times": times}
            each.append(guide_loss(member, labelled, labels, key, **options))
        return torch.stack(each).sum(0)
    term = None if term is not None and term.weight == 0 else term
    shown = [noised(guide.diffusion, labelled, rng, cond, times)]
    if term is not None and term.needs_context:
        if context is None:
            raise ValueError(f"{type(term).__name__} needs a context: give unlabelled states")
        shown.append(noised(guide.diffusion, context.state, context.rng, context.cond, times))
    whole = _joined(shown) if len(shown) > 1 else shown[0]
    output, count = guide(*whole), len(shown[0][1])
    targets = guide.standardised(labels)
    first = output.rows(slice(count))
    nats = gaussian_nll(targets, first.mean, first.variance).mean(1)
    if term is None:
        return nats
    rest = Shown(*shown[1], output.rows(slice(count, None))) if len(shown) > 1 else None
    return nats + term(guide, Shown(*shown[0], first), rest).to(nats.dtype)


def noised(
    diffusion: Diffusion | ProductDiffusion,
    clean: State,
    rng: Rng,
    cond: Cond | None = None,
    times: TimeSampler = uniform_times,
) -> tuple[State, Tensor, dict[str, Any]]:
    """States as a guide is to see them: x_t, times (B,), and conditions with keys for dropout."""
    first = first_part(clean)
    if not isinstance(rng.root, Tensor):
        rng = rng.each("sample", torch.arange(len(first), device=first.device))
    t = times((len(first),), rng.fold("time"), first.device)
    space: Any = diffusion
    x: State = space.corrupt(clean, t, rng.fold("noise"))
    return x, t, {**(cond or {}), "dropout": rng.fold("dropout").key}


def _joined(
    shown: Sequence[tuple[State, Tensor, dict[str, Any]]],
) -> tuple[State, Tensor, dict[str, Any]]:
    """The labelled batch and the context as one."""
    (x, t, told), (y, s, known) = shown
    if told.keys() != known.keys():
        odd = sorted(told.keys() ^ known.keys())
        raise ValueError(f"conditions {odd} are of the labelled states or of the context alone")
    cond = {}
    for name, value in told.items():
        other, tensor = known[name], isinstance(value, Tensor)
        if not tensor and value != other:
            raise ValueError(f"condition {name!r} is not the same of labelled states and context")
        cond[name] = _together(value, other) if tensor else value
    return map_state(_together, x, y), torch.cat((t, s)), cond


def _together(a: Tensor, b: Tensor) -> Tensor:
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"labelled states of shape {tuple(a.shape)} and a context of shape {tuple(b.shape)} do "
            "not make one batch: pad both to one size"
        )
    return torch.cat((a, b))
