"""DisCo-Diff on a folder of photographs of your own.

Y. Xu, G. Corso, T. Jaakkola, A. Vahdat, K. Kreis, 2024, "DisCo-Diff: Enhancing Continuous Diffusion
Models with Discrete Latents", arXiv 2407.03300, Section 4.1. The claim: told a few learnt codes, a
class-conditional denoiser of 64 x 64 photographs needs fewer evaluations for the same quality.
Published, ImageNet 64 x 64, FID (Table 1): 1.65 after 78 evaluations with m = 10 latents of k = 100
codes, EDM 2.36 after 79. No code or weights of it are public.

Ours, `tools/disco.yaml` (docs/results.md, "DisCo-Diff on photographs"): fruits on turntables, 11.6
M parameters, 2,500 updates of 128, three seeds. Codes are used, and mostly repeat the class: KID
after 39 evaluations is 0.119 ± 0.006 with codes of the prior and 0.131 ± 0.014 with a model
without, after 5 it is 1.98 ± 0.05 and 1.94 ± 0.06, and paths are no straighter. Four times the
updates, one seed: 0.043 and 0.045. Told no class (`--conditional false`), codes say the colour,
and KID is 0.157 ± 0.007 for 0.158 ± 0.020. Few evaluations are the solver's to gain: after 9 by
`--sampler dpm++2m` KID is below that of 79 by Heun, with codes and without. The defaults (24.6 M
parameters, of which the encoder has 2.7 M; m = 2, k = 16; 10,000 updates of 128) take nine times
the operations of 2,500 of these updates, and nobody has trained them: counted two a multiply-add, a
call of the network is 30.3 G a picture, an update 91.8 G, a training 118 P, and an evaluation of
2,560 samples 40 P in 516 calls, which are not compiled. Relaxation and bonus are those that worked
on the digits (`disco-digits`). The paper's own: `--m 10 --k 100 --hard false --bonus 0 --penalty 0
--code-depth 6 --encoder-width 768 --encoder-depth 12 --encoder-heads 12 --prior-width 512
--prior-depth 12` (its prior has 8 heads, this one 4).

- As many parameters without codes: `--m 0 --width 104 --head-width 52` (24.6 M, 13 % more
  operations an update, 14 % more a call); the same network: `--m 0` (21.0 M, 29.5 G a call).
- Frames of a turntable: `--split arcs`. In features these are farther from training pictures
  than frames held out one by one: read samples beside that anchor.
- Keep m log2 k <= log2 N - 5 for headlines: more can number the N pictures trained on.
- Groups of latents, coarse to fine: `--groups [1,1,0]`.
- A Frechet distance needs `--samples 2560`, and as many held-out pictures, for its anchors and
  since no more of the final samples are compared: of 11,700 fruits `--split arcs --held-out 0.22`
  holds 2,574 out (by default 1,170). Without there is the kernel distance.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from noiseloom.metrics import Features
from noiseloom.recipes.coded_pictures import CodedPictures
from noiseloom.recipes.picture_folder import PictureFolder, photograph_features

__all__ = ["DiscoImages"]


@dataclass(frozen=True)
class DiscoImages(CodedPictures, PictureFolder):
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
