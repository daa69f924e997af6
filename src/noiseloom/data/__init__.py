"""Data sets in memory, in two parts: one to train on and one to judge by.

Pictures are integers, time series a table of numbers, trajectories episodes of observations,
actions and rewards, clips video with actions, points vectors, benzenoids rings in space,
molecules graphs; text,
sequences and tables of a person's own are tokens of a vocabulary. Any other kind is a `Set` of
one's own.
"""

from noiseloom.data.annulation import patterns, turn_counts
from noiseloom.data.benzenoids import Benzenoids, benzenoids, load_benzenoids
from noiseloom.data.captions import CaptionPairs, read_captions
from noiseloom.data.characters import Characters
from noiseloom.data.cifar10 import cifar10
from noiseloom.data.clips import Clips, ClipWindows
from noiseloom.data.clusters import Folds, cluster_folds, label_folds, random_folds
from noiseloom.data.digits import digits
from noiseloom.data.ehrlich import Ehrlich, ehrlich
from noiseloom.data.folder import image_folder, tiles
from noiseloom.data.gb1 import AMINO_ACIDS, GB1, GB1Split, Variants, read_gb1
from noiseloom.data.images import Images, stratified
from noiseloom.data.landscape import Landscape
from noiseloom.data.lattice_fit import Structures, snap
from noiseloom.data.molecules import Molecules, read_molecules
from noiseloom.data.palette import Palette, read_palette
from noiseloom.data.phrases import Phrases, caption_words
from noiseloom.data.pieces import Pieces
from noiseloom.data.points import Points, gaussians_on_a_circle
from noiseloom.data.scenes import Scene, describe, holds, random_scene, random_scenes
from noiseloom.data.sequences import read_sequences
from noiseloom.data.series import Series, Table, rolling
from noiseloom.data.series_files import read_series
from noiseloom.data.smiles import smiles
from noiseloom.data.split import Set, Split
from noiseloom.data.symbols import Numbers, Symbols
from noiseloom.data.table_files import ColumnError
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
    "Benzenoids",
    "CaptionPairs",
    "Characters",
    "ClipWindows",
    "Clips",
    "ColumnError",
    "Ehrlich",
    "Folds",
    "GB1Split",
    "Images",
    "Landscape",
    "Molecules",
    "Numbers",
    "Palette",
    "Phrases",
    "Pieces",
    "Points",
    "Scene",
    "Series",
    "Set",
    "Split",
    "Structures",
    "Symbols",
    "Table",
    "TableVocabulary",
    "TokenWindows",
    "Tokens",
    "Trajectories",
    "Variants",
    "Vocabulary",
    "Windows",
    "benzenoids",
    "caption_words",
    "cifar10",
    "cluster_folds",
    "describe",
    "digits",
    "ehrlich",
    "gaussians_on_a_circle",
    "holds",
    "image_folder",
    "label_folds",
    "load_benzenoids",
    "patterns",
    "random_folds",
    "random_scene",
    "random_scenes",
    "read_captions",
    "read_gb1",
    "read_molecules",
    "read_palette",
    "read_sequences",
    "read_series",
    "read_table",
    "read_text",
    "rolling",
    "smiles",
    "snap",
    "stratified",
    "template",
    "tiles",
    "turn_counts",
    "vocabulary",
]
