"""What random walks along the edges of a graph say of its rings."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from noiseloom.nets.nodes import hidden_padding
from noiseloom.nets.trunk import norm

__all__ = ["Walks"]


class Walks(nn.Module):
    """Powers of soft adjacencies, as features of nodes and of pairs.

        a_ij = sigmoid(w norm(e)_ij + b) of real pairs,  S = D^-1/2 a D^-1/2,  d_i = sum_j a_ij
        h_i <- h_i + W [r((S^k)_ii)],  e_ij <- e_ij + W' [r((S^k)_ij)],  k = 2 .. length

    for each of a few channels, whose w and b are learnt. (S^k)_ii is how likely a walk of k steps
    from i ends there: on a ring of n it is more for k = n than on a longer one. Messages between
    neighbours cannot tell these apart, where all nodes and edges are alike. Whether a bond closes a
    ring of six is told by (S^5)_ij, which is 2^-5 between nodes five apart on a chain, where 3 / 8
    return in four steps: r(p) = sqrt(p + 1e-4) - 0.01 brings the two within a factor of four.

    Args:
        width: features of a node.
        edge_width: of a pair.
        length: of the longest walk, >= 2.
        channels: adjacencies.

    Raises:
        ValueError: a walk of fewer than two steps.

    References:
        L. Ma et al., 2023, "Graph inductive biases in transformers without message passing", GRIT,
        arXiv 2305.17589, Section 3.1 (relative random walk probabilities; here symmetric, and of
        edges that are learnt).
    """

    def __init__(self, width: int, edge_width: int, length: int = 8, channels: int = 8) -> None:
        super().__init__()
        if length < 2:
            raise ValueError(f"walks need two steps at least, got {length}")
        self.length = length
        self.adjacency = nn.Linear(edge_width, channels)
        features = channels * (length - 1)
        self.nodes, self.pairs = nn.Linear(features, width), nn.Linear(features, edge_width)

    def forward(self, h: Tensor, e: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes (B, N, W) and symmetric pairs (B, N, N, W_e); `pairs` says which are real."""
        with torch.autocast(e.device.type, enabled=False):
            own = self.adjacency(norm(e.to(self.adjacency.weight.dtype)))
            seen = walked(hidden_padding(own.sigmoid(), pairs), self.length)
            seen = (seen + 1e-4).sqrt() - 1e-2
        diagonal = seen.diagonal(dim1=1, dim2=2).mT
        return h + self.nodes(diagonal), e + self.pairs(seen)


def walked(adjacency: Tensor, length: int) -> Tensor:
    """S^k for k = 2 .. length, of symmetric adjacencies >= 0.

    Args:
        adjacency: a, shape (B, N, N, C), with a diagonal of 0.
        length: of the longest walk.

    Returns:
        Shape (B, N, N, C (length - 1)), the channels of k = 2 first; 0 of nodes without edges.
    """
    count = adjacency.shape[1]
    a = adjacency.permute(0, 3, 1, 2)
    # Padded to a multiple of 8, as fast products are: a compiler would pad each of them by itself.
    a = functional.pad(a, (0, -count % 8, 0, -count % 8))
    root = a.sum(-1).clamp_min(1e-12).rsqrt()
    step = root[..., None] * a * root[..., None, :]
    powers = [step @ step]
    for _ in range(length - 2):
        powers.append(powers[-1] @ step)
    return torch.cat(powers, 1)[..., :count, :count].permute(0, 2, 3, 1)
