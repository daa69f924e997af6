"""Molecules as states of nodes and edges, and back; and what a loop over such states yields."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from noiseloom.preconditioning import SoftmaxHead
from noiseloom.shapes import parts_of

__all__ = ["GraphCodec", "Packed", "pack"]

ORDERS = 4
"""No bond, single, double, triple."""


@dataclass(frozen=True)
class GraphCodec:
    """Graphs of atoms as {"nodes": (B, A, K), "edges": (B, A, A, 1)}, and back.

        node = scale e_k of kind k,    edge = edge_scale o of a bond of order o in 0 .. 3

    and 0 in padding, which no node is. Back, a node's kind is that of its largest entry, an order
    is rounded, and a node of zeros is padding.

    Args:
        kinds: K, kinds of atoms.
        scale: of nodes, > 0.
        edge_scale: of edges, > 0.

    References:
        J. Jo, S. Lee, S. J. Hwang, 2022, GDSS, arXiv 2202.02514, Section 3 (scales 1).
    """

    kinds: int
    scale: float = 1.0
    edge_scale: float = 1.0

    def encode(self, data: Tensor) -> dict[str, Tensor]:
        """States of graphs, integers of shape (B, A, 1 + A), float32."""
        kind, orders = data[:, :, 0].long(), data[:, :, 1:].float()
        codes = functional.one_hot(kind.clamp(min=0), self.kinds) * (kind >= 0)[..., None]
        return {"nodes": codes.float() * self.scale, "edges": orders[..., None] * self.edge_scale}

    def decode(self, state: dict[str, Tensor]) -> Tensor:
        """Graphs of states, int8."""
        state = parts_of({"nodes": None, "edges": None}, state)
        nodes, edges = state["nodes"], state["edges"][..., 0]
        real = self.mask(state)
        kind = torch.where(real, nodes.argmax(-1), -1)
        orders = ((edges + edges.mT) / (2 * self.edge_scale)).round().clamp(0, ORDERS - 1)
        itself = torch.eye(nodes.shape[1], dtype=torch.bool, device=nodes.device)
        pairs = real[:, :, None] & real[:, None] & ~itself
        found = torch.cat((kind[..., None], torch.where(pairs, orders, 0)), -1)
        return found.to(torch.int8)

    def mask(self, state: dict[str, Tensor]) -> Tensor:
        """Which nodes are real: bool, shape (B, A)."""
        return state["nodes"].abs().amax(-1) > 0

    def unpack(self, packed: Tensor) -> dict[str, Tensor]:
        """The state of what `pack` has made of it."""
        return {"nodes": packed[..., : self.kinds], "edges": packed[..., self.kinds :, None]}

    @property
    def node_head(self) -> SoftmaxHead:
        """Logits of the kinds of a node."""
        return SoftmaxHead(torch.eye(self.kinds) * self.scale)

    @property
    def edge_head(self) -> SoftmaxHead:
        """Logits of the orders of an edge."""
        return SoftmaxHead(torch.arange(float(ORDERS))[:, None] * self.edge_scale)


@dataclass(frozen=True)
class Packed:
    """What a sampling loop of molecules yields.

    Attributes:
        result: estimates as one tensor, of `pack`.
    """

    result: Tensor


def pack(state: dict[str, Tensor]) -> Tensor:
    """Nodes, and their edges beside them: (B, A, K + A)."""
    return torch.cat((state["nodes"], state["edges"][..., 0]), -1)
