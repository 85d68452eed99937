"""Trained PyTorch networks as explicit weighted digraphs of neurons."""

__version__ = "0.1.0"
