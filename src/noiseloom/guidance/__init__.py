"""Guidance: wrappers around a denoiser, one method per file."""

from noiseloom.guidance.classifier_free import ClassifierFree

__all__ = ["ClassifierFree"]
