"""Data sets: pictures as integers, in memory, split into a part to train on and one to judge by."""

from noiseloom.data.cifar10 import cifar10
from noiseloom.data.digits import digits
from noiseloom.data.folder import image_folder, tiles
from noiseloom.data.images import Images, Split, stratified

__all__ = ["Images", "Split", "cifar10", "digits", "image_folder", "stratified", "tiles"]
