"""A run is recorded while the model trains; what was recorded is a whole run after every epoch.

A snapshot reads the weights where they are and is over when it returns: between two of them the
recorder holds no tensor but the constants of the model's code, on the CPU.
"""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cntgraph.errors import CntWarning, InputRefused
from cntgraph.network import Network
from cntgraph.runs.writing import Writer, origin, writing
from cntgraph.tracing import trace
from cntgraph.tracing.wrappers import unwrapped

if TYPE_CHECKING:
    from types import TracebackType

    from torch import Tensor, nn

__all__ = ["Recorder"]


class Recorder:
    """Records epochs of a model while it trains: a context manager around the training loop.

    >>> with Recorder(model, (1, 64), to="runs/digits") as recorder:        # doctest: +SKIP
    ...     recorder.snapshot(0, accuracy=accuracy())
    ...     for epoch in range(1, 11):
    ...         train_one_epoch()
    ...         recorder.snapshot(epoch, accuracy=accuracy(), loss=loss)

    ``measures`` names what is stored of every neuron beside its strengths, ``("pagerank",)`` say,
    as `export` stores them: NaN with a `CntWarning` where one falls silent while the model trains;
    with ``shuffles=20`` the fluctuation of every layer stands beside that of 20 networks whose
    weights were shuffled (see `layers`), which takes as many times longer;
    ``replace`` puts epochs that are there with other weights aside. With ``keep_weights=False``
    strengths, layers and measures are recorded and the weights are not: the run is small, and has
    no graphs.

    The model may be on any device, compiled or in `DataParallel`, and is left as it is: training
    flags, random state, gradients. Strengths are summed where the weights are. After each snapshot
    the folder is a run that `open_run` reads, whatever happens next.

    Raises `ModelRefused` for a model that cannot be traced, `InputRefused` for a folder that holds
    anything else.
    """

    def __init__(
        self,
        model: nn.Module,
        example_input: Any,
        *,
        to: str | os.PathLike[str],
        name: str | None = None,
        measures: Sequence[str] = (),
        shuffles: int = 0,
        replace: bool = False,
        keep_weights: bool = True,
    ) -> None:
        self._model = unwrapped(model)
        self._folder = Path(to).expanduser()
        with _undisturbed(), _own_forward(self._model):
            network = trace(self._model, example_input)
            _ = network.link_count  # counting may need the weights, which are let go of here
        # what no state dict holds belongs to the code; all else is looked up at each snapshot
        own = _tensors(self._model)
        self._network = network.bound_to(
            {n: t.detach().cpu() for n, t in network.weights.items() if n not in own}
        )
        self._shapes = {n: network.weights[n].shape for n in network.tensor_names if n in own}
        self._origin = origin(
            self._network, self._model, measures, shuffles=shuffles, keep_weights=keep_weights
        )
        self._name, self._replace = name, replace
        self._held = ExitStack()
        self._writer: Writer | None = None

    def __enter__(self) -> Self:
        run = writing(self._folder, self._origin, name=self._name, replace=self._replace)
        self._writer = self._held.enter_context(run)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                writer.finish()
        finally:
            self._held.close()

    def snapshot(self, epoch: int, **metrics: Any) -> None:
        """Record the weights as they are now, with numbers and texts that belong to them.

        A metric is a number of Python's, NumPy's or a tensor of one element, a text, or None. An
        epoch that is there with the same weights stays as it is. Raises `InputRefused` for one
        that is there with other weights, for any other metric, and for a model whose tensors are
        no longer those that were traced.
        """
        if self._writer is None:
            raise InputRefused(
                f"epoch {epoch} was not recorded: the recorder is not open",
                fix="take snapshots inside: with cnt.Recorder(...) as recorder:",
            )
        if isinstance(epoch, bool) or not hasattr(epoch, "__index__") or operator.index(epoch) < 0:
            raise InputRefused(f"the epoch {epoch!r} is not a whole number from 0 on")
        with _undisturbed():
            _write(self._writer, operator.index(epoch), self._now(), metrics)
        self._writer.finish()

    def _now(self) -> Network:
        """The traced network over the model's own tensors, where they are."""
        own = _tensors(self._model)
        now = {name: own[name].detach() for name in self._shapes if name in own}
        for name, shape in self._shapes.items():
            if name not in now:
                raise _changed(f"it has no tensor {name} any more")
            if now[name].shape != shape:
                raise _changed(f"{name} is {tuple(now[name].shape)} and was {tuple(shape)}")
            if now[name].is_meta or hasattr(now[name], "full_tensor"):
                raise InputRefused(
                    f"the weights of {name} are not all in this process",
                    why="they are sharded over processes or offloaded",
                    fix="save checkpoints and use: cntgraph export MODEL CHECKPOINTS ...",
                )
        place = next((t.device for t in now.values()), None)
        if place is not None and place.type not in ("cpu", "cuda"):
            place, now = None, {name: t.cpu() for name, t in now.items()}  # others lack float64
        fixed = {n: t if place is None else t.to(place) for n, t in self._network.weights.items()}
        return self._network.bound_to({**fixed, **now})


def _write(writer: Writer, epoch: int, network: Network, metrics: Mapping[str, Any]) -> None:
    """Write an epoch, on the CPU where the GPU has no room beside the training."""
    import torch

    try:
        writer.write(epoch, network, metrics)
    except torch.OutOfMemoryError:
        warnings.warn(
            f"epoch {epoch}: no room left on the GPU, measured on the CPU",
            CntWarning,
            stacklevel=3,
        )
        writer.write(epoch, network.to("cpu"), metrics)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every named tensor of a model, tied ones under each of their names."""
    named: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    named |= dict(model.named_buffers(remove_duplicate=False))
    return named


@contextmanager
def _own_forward(model: nn.Module) -> Iterator[None]:
    """The model's own forward, without what accelerate lays around it for mixed precision."""
    own = model.__dict__.get("_original_forward")
    laid = model.__dict__.get("forward")
    if own is None or laid is None:
        yield
        return
    model.forward = own
    try:
        yield
    finally:
        model.forward = laid


def _changed(why: str) -> InputRefused:
    return InputRefused(
        "the model is no longer the one that was traced",
        why=why,
        fix="make the Recorder after the model has its final form (pruning, sharding, adapters)",
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """PyTorch as it is by default, whatever the training loop has switched on around the call."""
    import torch

    with ExitStack() as held:
        held.enter_context(torch.inference_mode(False))
        held.enter_context(torch.no_grad())
        held.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            held.enter_context(torch.autocast(kind, enabled=False))
        yield
