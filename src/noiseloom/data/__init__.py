"""Data sets in memory, in two parts: one to train on and one to judge by.

Pictures are integers, time series a table of numbers, trajectories episodes of observations,
actions and rewards, clips video with actions, points vectors, tables of a person's own tokens; any
other kind is a `Set` of one's own.
"""

from noiseloom.data.cifar10 import cifar10
from noiseloom.data.clips import Clips, ClipWindows
from noiseloom.data.digits import digits
from noiseloom.data.folder import image_folder, tiles
from noiseloom.data.images import Images, stratified
from noiseloom.data.points import Points, gaussians_on_a_circle
from noiseloom.data.series import Series, Table, read_series, rolling
from noiseloom.data.split import Set, Split
from noiseloom.data.table_vocabulary import TableVocabulary
from noiseloom.data.tables import read_table
from noiseloom.data.trajectories import Trajectories, Windows

__all__ = [
    "ClipWindows",
    "Clips",
    "Images",
    "Points",
    "Series",
    "Set",
    "Split",
    "Table",
    "TableVocabulary",
    "Trajectories",
    "Windows",
    "cifar10",
    "digits",
    "gaussians_on_a_circle",
    "image_folder",
    "read_series",
    "read_table",
    "rolling",
    "stratified",
    "tiles",
]
