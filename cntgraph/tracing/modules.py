"""What becomes of the modules of `torch.nn`, told by example: their layers, the blocks into them.

No code of the tracer knows a module; each becomes what its operators become.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MODULES", "Module"]


class Module(NamedTuple):
    """A module, what it becomes, its layers by the ends of their names, the blocks into those."""

    name: str
    becomes: str
    layers: tuple[str, ...] = ()
    makes: str = ""


ONE = ("",)
NORM = (".statistics", "")
TRANSFORMER = """.self_attn.in_proj .self_attn.scaled_dot_product_attention .self_attn.out_proj
.norm1.statistics .norm1 .linear1 .linear2 .norm2.statistics .norm2""".split()

MODULES = (
    Module("Linear", "a sum over its weights, at every position", ONE, "dense weight"),
    Module(
        "Bilinear",
        "of two activities an opaque join whose weight is unmapped; linear where one is constant",
        ONE,
        "opaque data",
    ),
    Module(
        "Conv1d, Conv2d, Conv3d",
        "a convolution of any stride, padding, dilation and groups; its links are counted unrolled",
        ONE,
        "convolution weight",
    ),
    Module(
        "ConvTranspose1d, ConvTranspose2d, ConvTranspose3d",
        "the adjoint of a convolution",
        ONE,
        "convolution weight",
    ),
    Module(
        "Embedding",
        "a neuron for every word at every position, of which one is on, and a sum over its weights",
        ONE,
        "dense weight",
    ),
    Module(
        "EmbeddingBag",
        "an embedding, and the fixed links of its sum or mean",
        ("", "#2"),
        "dense weight, fixed fixed",
    ),
    Module(
        "LSTM",
        "unrolled over time (here two steps), all steps sharing their weights; a state of zero has "
        "no links",
        tuple(f".l0.t{t}.{part}" for t in (0, 1) for part in ("gates", "cell", "hidden")),
        "dense weight, opaque data",
    ),
    Module(
        "GRU",
        "unrolled as well; the reset of a state of zero is a scale by the bias",
        tuple(
            f".l0.t{t}.{part}"
            for t, parts in enumerate(("gates new hidden", "gates recurrent reset new hidden"))
            for part in parts.split()
        ),
        "dense weight, diagonal identity, diagonal scale, opaque data",
    ),
    Module(
        "RNN",
        "one layer a step, with its activation",
        (".l0.t0.hidden", ".l0.t1.hidden"),
        "dense weight",
    ),
    Module("LSTMCell", "one step", (".gates", ".cell", ".hidden"), "dense weight, opaque data"),
    Module(
        "GRUCell",
        "one step",
        (".gates", ".new", ".hidden"),
        "dense weight, diagonal scale, opaque data",
    ),
    Module("RNNCell", "one step", (".hidden",), "dense weight"),
    Module(
        "MultiheadAttention",
        "projections, the scale of the queries, and two products of activities, the first with a "
        "softmax",
        (".in_proj", ".mul", ".bmm", ".bmm#2", ".out_proj"),
        "dense weight, diagonal scale, opaque data",
    ),
    Module(
        "TransformerEncoderLayer",
        "projections, one join for the attention, identity links for what skips it, norms, and two "
        "layers; the sums land in `self_attn.out_proj` and `linear2`",
        tuple(TRANSFORMER),
        "dense weight, diagonal identity, diagonal scale, opaque data",
    ),
    Module(
        "BatchNorm1d, BatchNorm2d, BatchNorm3d",
        "a scale and a shift of each neuron, by the recorded statistics",
        ONE,
        "diagonal scale",
    ),
    Module(
        "BatchNorm2d after Conv2d",
        "gain and shift of that layer, or with `batch_norm='folded'` part of its weights",
    ),
    Module(
        "LayerNorm, RMSNorm",
        "a join for the statistics, and the trained scale and shift behind it",
        NORM,
        "diagonal scale, opaque data",
    ),
    Module(
        "GroupNorm, InstanceNorm2d",
        "a join for the statistics, and the trained scale and shift behind it",
        NORM,
        "diagonal scale, opaque data",
    ),
    Module("LayerNorm without weights", "a join for the statistics", ONE, "opaque data"),
    Module("ReLU, GELU, SiLU, Tanh, Sigmoid ...", "the activation of the layer before"),
    Module("Softmax, LogSoftmax, PReLU", "the activation of the layer before, as a whole"),
    Module(
        "Softsign",
        "spelled out by PyTorch: a quotient of activities",
        ("", "#2", "#3"),
        "diagonal identity, opaque data",
    ),
    Module("GLU", "half of the neurons, times the others with a sigmoid", ONE, "opaque data"),
    Module("AvgPool1d, AvgPool2d, AvgPool3d", "one over the window", ONE, "fixed fixed"),
    Module(
        "AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d",
        "one over windows as even as can be",
        ONE,
        "fixed fixed",
    ),
    Module("MaxPool1d, MaxPool2d, MaxPool3d", "one of each window", ONE, "opaque select"),
    Module(
        "AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d",
        "one of each window",
        ONE,
        "opaque select",
    ),
    Module("Upsample(mode='nearest')", "the same neurons, read more often"),
    Module(
        "Upsample(mode='linear', 'bilinear', 'bicubic', 'trilinear')",
        "the weights of the interpolation",
        ONE,
        "fixed fixed",
    ),
    Module("PixelShuffle, PixelUnshuffle, ChannelShuffle", "the same neurons, elsewhere"),
    Module("Flatten, Unflatten, Identity, Unfold", "the same neurons, elsewhere"),
    Module("Dropout, Dropout2d, AlphaDropout", "nothing: models are traced in evaluation mode"),
    Module(
        "ZeroPad2d, ReflectionPad2d, ReplicationPad2d, CircularPad2d",
        "the same neurons, some of them read more often",
    ),
    Module("Fold", "a sum where windows overlap", ONE, "fixed fixed"),
    Module("CosineSimilarity", "an opaque join", ONE, "opaque data"),
)
