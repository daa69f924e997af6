"""The options of drawing molecules: how samples are corrected."""

from dataclasses import dataclass

__all__ = ["Correcting"]


@dataclass(frozen=True)
class Correcting:
    """How molecules are corrected; may be changed for every draw.

    Attributes:
        corrector_snr: length of the Langevin steps of `corrector` over that of the noise.
        corrector_noise: factor of their noise; 1 keeps the law, GDSS's 0.8 sharpens it.
        correct: mend valences of what was drawn, and keep the largest piece.
    """

    corrector_snr: float = 0.2
    corrector_noise: float = 1.0
    correct: bool = True
