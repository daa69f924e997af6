"""Data sets in memory, in two parts: one to train on and one to judge by.

Pictures are integers, time series a table of numbers, trajectories episodes of observations,
actions and rewards, clips video with actions, points vectors; text, sequences and tables of a
person's own are tokens of a vocabulary. Any other kind is a `Set` of one's own.
"""

from noiseloom.data.characters import Characters
from noiseloom.data.cifar10 import cifar10
from noiseloom.data.clips import Clips, ClipWindows
from noiseloom.data.digits import digits
from noiseloom.data.ehrlich import Ehrlich, ehrlich
from noiseloom.data.folder import image_folder, tiles
from noiseloom.data.gb1 import AMINO_ACIDS, GB1, GB1Split, Variants, read_gb1
from noiseloom.data.images import Images, stratified
from noiseloom.data.landscape import Landscape
from noiseloom.data.palette import Palette, read_palette
from noiseloom.data.pieces import Pieces
from noiseloom.data.points import Points, gaussians_on_a_circle
from noiseloom.data.sequences import read_sequences
from noiseloom.data.series import Series, Table, read_series, rolling
from noiseloom.data.split import Set, Split
from noiseloom.data.symbols import Numbers, Symbols
from noiseloom.data.table_vocabulary import TableVocabulary
from noiseloom.data.tables import read_table
from noiseloom.data.templates import template
from noiseloom.data.text import read_text
from noiseloom.data.tokens import Tokens, TokenWindows, Vocabulary
from noiseloom.data.trajectories import Trajectories, Windows
from noiseloom.data.vocabularies import vocabulary

__all__ = [
    "AMINO_ACIDS",
    "GB1",
    "Characters",
    "ClipWindows",
    "Clips",
    "Ehrlich",
    "GB1Split",
    "Images",
    "Landscape",
    "Numbers",
    "Palette",
    "Pieces",
    "Points",
    "Series",
    "Set",
    "Split",
    "Symbols",
    "Table",
    "TableVocabulary",
    "TokenWindows",
    "Tokens",
    "Trajectories",
    "Variants",
    "Vocabulary",
    "Windows",
    "cifar10",
    "digits",
    "ehrlich",
    "gaussians_on_a_circle",
    "image_folder",
    "read_gb1",
    "read_palette",
    "read_sequences",
    "read_series",
    "read_table",
    "read_text",
    "rolling",
    "stratified",
    "template",
    "tiles",
    "vocabulary",
]
