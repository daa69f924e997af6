"""Data sets, in memory, split into a part to train on and one to judge by.

Pictures are integers; trajectories are episodes of observations, actions and rewards.
"""

from noiseloom.data.cifar10 import cifar10
from noiseloom.data.digits import digits
from noiseloom.data.folder import image_folder, tiles
from noiseloom.data.images import Images, Split, stratified
from noiseloom.data.trajectories import Trajectories, Windows

__all__ = [
    "Images",
    "Split",
    "Trajectories",
    "Windows",
    "cifar10",
    "digits",
    "image_folder",
    "stratified",
    "tiles",
]
