"""A stored tensor may be sparse, quantised or a view; its numbers are read the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    import torch

__all__ = ["packed", "parts", "plain"]

_DENSE_LIMIT = 1 << 30  # below this the sparsest tensor is harmless


def plain(tensor: torch.Tensor, *, name: str = "a tensor") -> torch.Tensor:
    """The same numbers as a dense tensor that is not quantised.

    >>> import torch
    >>> plain(torch.eye(2).to_sparse()).layout
    torch.strided

    Half, bfloat16, float8, integer and bool tensors stay what they are.  Raises `InputRefused`
    for complex tensors, for tensors without data (meta), for packed ones (float4, bits) that
    PyTorch cannot convert, and for sparse ones that would not fit.
    """
    import torch

    if tensor.is_meta:
        raise InputRefused(
            f"{name} holds no numbers",
            why="it was saved from the meta device, which has shapes only",
            fix="save the state_dict after the model was given its weights",
        )
    if tensor.is_complex():
        raise InputRefused(
            f"{name} is complex ({str(tensor.dtype).removeprefix('torch.')})",
            why="strength is defined for real weights",
            fix="save its real and imaginary parts, or its absolute value, as weights of their own",
        )
    if packed(tensor.dtype):
        raise InputRefused(
            f"{name} is packed ({str(tensor.dtype).removeprefix('torch.')})",
            why="several numbers share a byte, and PyTorch cannot unpack them",
            fix="save the weights dequantised, as float16 or float32",
        )
    if tensor.is_quantized:
        return tensor.dequantize()
    if tensor.layout is not torch.strided:
        return _dense(tensor, name)
    return tensor


def packed(dtype: torch.dtype) -> bool:
    """Whether PyTorch only stores numbers of this dtype and computes nothing with them."""
    return str(dtype).startswith(("torch.bits", "torch.float4", "torch.quint4x2", "torch.quint2x4"))


def _dense(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """A sparse tensor written out, unless a few bytes claim to be a giant."""
    wanted = tensor.numel() * tensor.dtype.itemsize
    held = parts(tensor)[-1].numel() * tensor.dtype.itemsize
    if wanted > _DENSE_LIMIT and wanted > 1000 * held:
        raise InputRefused(
            f"{name} is sparse and would take {wanted:,} bytes written out",
            why=f"its shape is {tuple(tensor.shape)} and it holds {held:,} bytes of numbers",
            fix="leave it out of the state_dict, or save it dense where that fits",
        )
    return tensor.to_dense()


def parts(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The strided tensors that a tensor is stored as, its numbers last; none for other layouts."""
    import torch

    if tensor.layout is torch.strided:
        return (tensor,)
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return ()
