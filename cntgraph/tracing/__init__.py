"""From `nn.Module` to `Network`: the model is run once on neuron ids instead of numbers."""

from cntgraph.tracing.tracing import Verification, trace, verify

__all__ = ["Verification", "trace", "verify"]
