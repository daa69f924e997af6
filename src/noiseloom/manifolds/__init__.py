"""Curved spaces that states may live on: one file per space."""

from noiseloom.manifolds.manifold import Manifold
from noiseloom.manifolds.torus import Torus

__all__ = ["Manifold", "Torus"]
