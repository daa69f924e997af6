"""1,797 real handwritten digits of 8 x 8 pixels and 4 bits, shipped with the package.

Source: E. Alpaydin, C. Kaynak, 1998, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, https://doi.org/10.24432/C50P49. Licence: CC BY 4.0. Change: see `digits.md`.
"""

from pathlib import Path

from safetensors.torch import load_file

from noiseloom.data.images import Images, stratified
from noiseloom.data.split import Split
from noiseloom.rng import Rng

__all__ = ["digits"]

HELD_OUT = 360


def digits() -> Split[Images]:
    """The digits, 1,437 to train on and 360 held out, always the same ones.

    Pixels have shape (N, 1, 8, 8) and 16 levels, 0 paper and 15 ink; the classes are "0" to "9".
    No two of the pictures are equal. Each class gives one fifth of its pictures, to within one; the
    13 writers are not named in the source, so all of them may be on both sides.
    """
    stored = load_file(Path(__file__).with_name("digits.safetensors"))
    images = Images(stored["pixels"], stored["labels"].long(), tuple("0123456789"), levels=16)
    train, held_out = stratified(images.labels, HELD_OUT, Rng(0).fold("digits"))
    return Split(images.select(train), images.select(held_out))
