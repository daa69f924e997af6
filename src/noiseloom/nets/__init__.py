"""Reference networks, and the contract that any other network can meet.

A network is a module `(x, log_snr, cond=None) -> Tensor`: the state scaled to unit variance, the
log-SNR clamped to [-20, 20], of shape (B,) (for sequences also (B, T), one per token), and a
mapping of conditions, in which an absent key is the null condition for all:

    "label"     int64 (B,), class 0 .. K - 1, or K for none
    "estimate"  the state's shape: the self-conditioning input; absent means zeros
    "codes"     float (B, m, k): one-hot or soft rows; zeros are null (`noiseloom.nets.codes`)
    "dropout"   int64 (B,): one key per sample, needed in training where the dropout rate is not 0
    "hidden"    (B, T, W): a network's own last token states (latent self-conditioning)
    "mask"      bool (B, T), True for a real token
    "source"    (B, N, 2 W depth): keys and values of what stands beside (`noiseloom.nets.reading`);
                zeros are null

Networks for a state of several parts (`EGNN`, `GraphTransformer`) take it as a dict, with a log-SNR
and an estimate for each part by its name, and say one output for each; the mask is of nodes, (B,
N). Their encoders (`PointEncoder`, `GraphEncoder`) take the same and say one vector (B, W).

Causal networks take and return caches (`noiseloom.nets.causal`), and know besides:

    "action"       (B, T, A): what is done at a token
    "action_mask"  bool (B,) or (B, T), True where the action is known
    "cache"        what earlier calls returned of earlier tokens
    "position"     index of the first token in the whole sequence

A condition a network was not built for raises. A network that starts from a smaller one's weights
says with `inherit` where those go, if not at the beginning of its tensors
(`noiseloom.training.Heir`).
"""

from noiseloom.nets.causal import CausalTransformer
from noiseloom.nets.codes import CodeEmbedding, CodeHead
from noiseloom.nets.egnn import EGNN, PointEncoder
from noiseloom.nets.encoders import ImageEncoder, RowEncoder, SequenceEncoder
from noiseloom.nets.graph import GraphEncoder, GraphTransformer
from noiseloom.nets.mlp import MLP, VectorEncoder
from noiseloom.nets.placed import Placed
from noiseloom.nets.pooled import PooledStates
from noiseloom.nets.reading import PictureTokens, SourceKeys
from noiseloom.nets.recurrent import Recurrent
from noiseloom.nets.transformer import DiT, Transformer
from noiseloom.nets.unet import UNet
from noiseloom.nets.video import VideoTransformer
from noiseloom.nets.video_unet import VideoUNet

__all__ = [
    "EGNN",
    "MLP",
    "CausalTransformer",
    "CodeEmbedding",
    "CodeHead",
    "DiT",
    "GraphEncoder",
    "GraphTransformer",
    "ImageEncoder",
    "PictureTokens",
    "Placed",
    "PointEncoder",
    "PooledStates",
    "Recurrent",
    "RowEncoder",
    "SequenceEncoder",
    "SourceKeys",
    "Transformer",
    "UNet",
    "VectorEncoder",
    "VideoTransformer",
    "VideoUNet",
]
