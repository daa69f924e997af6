"""Experiments: one file each, options first, then data, model, loss, sampling and evaluation."""

from noiseloom.recipes.bits import BitDiffusion
from noiseloom.recipes.bits_cifar10 import BitsCifar10
from noiseloom.recipes.bits_digits import BitsDigits
from noiseloom.recipes.bits_images import BitsImages
from noiseloom.recipes.captions import Captions
from noiseloom.recipes.choosing import Choosing
from noiseloom.recipes.class_pieces import LandscapeSplit
from noiseloom.recipes.classes import Classes, TokenSplit
from noiseloom.recipes.coded import Coded
from noiseloom.recipes.coded_pictures import CodedPictures
from noiseloom.recipes.context_benzenoids import ContextBenzenoids
from noiseloom.recipes.context_molecules import ContextMolecules
from noiseloom.recipes.context_proteins import ContextProteins
from noiseloom.recipes.correcting import Correcting
from noiseloom.recipes.disco_digits import DiscoDigits
from noiseloom.recipes.disco_images import DiscoImages
from noiseloom.recipes.disco_mixture import DiscoMixture
from noiseloom.recipes.forcing import DiffusionForcing
from noiseloom.recipes.forcing_digits import ForcingDigits
from noiseloom.recipes.forcing_doom import ForcingDoom
from noiseloom.recipes.forcing_exchange import ForcingExchange
from noiseloom.recipes.forcing_maze import ForcingMaze
from noiseloom.recipes.forcing_series import ForcingSeries
from noiseloom.recipes.forcing_trajectories import ForcingTrajectories
from noiseloom.recipes.guidable import Guidable, Labelled, keys_of
from noiseloom.recipes.guide_options import GuideTraining, Guiding
from noiseloom.recipes.guided_rows import GuidedRows
from noiseloom.recipes.palette import PalettePictures
from noiseloom.recipes.picture_folder import PictureFolder
from noiseloom.recipes.planning import Planning
from noiseloom.recipes.prior_training import PriorTraining
from noiseloom.recipes.recipe import Drawing, Facts, Findings, Given, Parts, Recipe, Task
from noiseloom.recipes.rolling import Rolling
from noiseloom.recipes.sampling import Coding, Sampling, Telling
from noiseloom.recipes.sequences import Sequences
from noiseloom.recipes.table import Tables
from noiseloom.recipes.text import Text
from noiseloom.recipes.two_stages import NoPriorError, TwoStages

__all__ = [
    "RECIPES",
    "BitDiffusion",
    "BitsCifar10",
    "BitsDigits",
    "BitsImages",
    "Captions",
    "Choosing",
    "Classes",
    "Coded",
    "CodedPictures",
    "Coding",
    "ContextBenzenoids",
    "ContextMolecules",
    "ContextProteins",
    "Correcting",
    "DiffusionForcing",
    "DiscoDigits",
    "DiscoImages",
    "DiscoMixture",
    "Drawing",
    "Facts",
    "Findings",
    "ForcingDigits",
    "ForcingDoom",
    "ForcingExchange",
    "ForcingMaze",
    "ForcingSeries",
    "ForcingTrajectories",
    "Given",
    "Guidable",
    "GuideTraining",
    "GuidedRows",
    "Guiding",
    "Labelled",
    "LandscapeSplit",
    "NoPriorError",
    "PalettePictures",
    "Parts",
    "PictureFolder",
    "Planning",
    "PriorTraining",
    "Recipe",
    "Rolling",
    "Sampling",
    "Sequences",
    "Tables",
    "Task",
    "Telling",
    "Text",
    "TokenSplit",
    "TwoStages",
    "keys_of",
]

RECIPES: dict[str, type[Recipe]] = {
    recipe.name: recipe
    for recipe in (
        BitsDigits,
        BitsImages,
        BitsCifar10,
        ForcingDigits,
        ForcingExchange,
        ForcingSeries,
        ForcingTrajectories,
        ForcingMaze,
        ForcingDoom,
        DiscoMixture,
        DiscoDigits,
        DiscoImages,
        Text,
        Tables,
        Sequences,
        PalettePictures,
        Captions,
        ContextProteins,
        ContextBenzenoids,
        ContextMolecules,
    )
}
"""The recipes of this package by name; a file of one's own needs no entry here."""
