"""Training: the loop, averages of the weights, checkpoints, and where the numbers go."""

from noiseloom.training.batches import Data, sample_order
from noiseloom.training.ema import Average, exponential, power_function, reconstruct
from noiseloom.training.inheritance import Heir, init_from
from noiseloom.training.loop import Loss, train
from noiseloom.training.options import Training
from noiseloom.training.tracking import Progress, TensorBoard, Tracker, show

__all__ = [
    "Average",
    "Data",
    "Heir",
    "Loss",
    "Progress",
    "TensorBoard",
    "Tracker",
    "Training",
    "exponential",
    "init_from",
    "power_function",
    "reconstruct",
    "sample_order",
    "show",
    "train",
]
