"""DisCo-Diff on a folder of photographs of your own."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from noiseloom.metrics import Features
from noiseloom.recipes.coded_pictures import CodedPictures
from noiseloom.recipes.picture_folder import PictureFolder, photograph_features

__all__ = ["DiscoImages"]


@dataclass(frozen=True)
class DiscoImages(PictureFolder, CodedPictures):
    """Options of `CodedPictures` for any folder or zip file of pictures (`PictureFolder`)."""

    name: ClassVar[str] = "disco-images"
    summary: ClassVar[str] = "your own folder or zip of pictures with learnt discrete latents"

    steps: int = 10000
    batch_size: int = 128
    learning_rate: float = 4e-4
    warmup: int = 500
    beta2: float = 0.99
    decay: Literal["constant", "cosine"] = "cosine"
    ema_decay: float = 0.999
    checkpoint_every: int = 2000
    flip: bool = True

    m: int = 2
    k: int = 16
    hard: bool = True
    bonus: float = 0.03
    penalty: float = 0.03
    fade: float = 3.0

    def features(self) -> Features:
        """EfficientNet-Lite0's."""
        return photograph_features()
