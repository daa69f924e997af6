"""Beam search: rows that are nearly the likeliest of an autoregressive model, not draws from it.

A search keeps, of every row, the b beginnings that are likeliest so far. Each goes on in K ways,
and of these b K the b likeliest are kept. With b no less than the number of all beginnings it is
exhaustive (`tests/test_beam.py`); with b = 1 it is greedy.
"""

import torch
from torch import Tensor

from noiseloom.next_token import Writing

__all__ = ["beam_search"]


@torch.no_grad()
def beam_search(
    writing: Writing, count: int, length: int, beams: int, *, end: int | None = None
) -> tuple[Tensor, Tensor]:
    """The likeliest rows that a search finds.

    Args:
        writing: the model, what it is told of each of `count` rows, and how it is guided; of
            guidance the laws of tokens are those that it makes.
        count: number of rows B.
        length: T.
        beams: b >= 1.
        end: the class after which there is no other: it is repeated, which costs nothing. A row
            that has ended keeps its place among the others, whose length is no reason to favour
            them.

    Returns:
        Tokens of the likeliest of each row (B, T), int64, and their ln p (B,).

    Raises:
        ValueError: no beams, or logits that are not numbers.

    References:
        A. Graves, 2012, Sequence Transduction with Recurrent Neural Networks, arXiv 1211.3711,
        Section 2.5 (the search); without a factor for the length.
    """
    if beams < 1:
        raise ValueError(f"a search needs at least one beam, got {beams}")
    classes = writing.model.num_classes
    device = next(writing.model.parameters()).device
    first = torch.arange(count, device=device)
    writing.begin(count)
    token = torch.full((count, 1), classes, device=device)
    score = torch.zeros(count, 1, dtype=torch.float64, device=device)  # (B, beginnings)
    rows = torch.zeros(count, 1, 0, dtype=torch.int64, device=device)
    for _ in range(length):
        log = writing.next(token).double().log_softmax(-1)
        if not log.isfinite().any(-1).all():
            raise ValueError("the model's logits are not numbers: try an earlier checkpoint")
        if end is not None:
            over = torch.full_like(log, -torch.inf)
            over[:, end] = 0
            log = torch.where(token == end, over, log)
        known = score.shape[1]
        every = (score[..., None] + log.reshape(count, known, classes)).flatten(1)
        score, place = every.topk(min(beams, every.shape[1]), dim=1)
        before, picked = place // classes, place % classes
        rows = torch.cat(
            (rows.gather(1, before[..., None].expand(-1, -1, rows.shape[2])), picked[..., None]), 2
        )
        token = picked.flatten()[:, None]
        if end is not None and bool((token == end).all()):
            break
        writing.keep((first[:, None] * known + before).flatten())
    missing = length - rows.shape[2]
    if missing:
        assert end is not None
        rows = torch.nn.functional.pad(rows, (0, missing), value=end)
    return rows[:, 0], score[:, 0]
