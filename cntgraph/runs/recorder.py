"""A run is recorded while the model trains; what was recorded is a whole run after every epoch."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cntgraph.errors import InputRefused
from cntgraph.network import Network
from cntgraph.runs.writing import Writer, origin, writing
from cntgraph.tracing import trace
from cntgraph.tracing.exporting import unwrapped

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

    ``measures`` names what is stored of every neuron beside its strengths, ``("pagerank",)`` say;
    ``replace`` puts epochs that are there with other weights aside.

    The model is left as it is: weights are copied, the training flag and the random state are not
    touched. After each snapshot the folder is a run that `open_run` reads, whatever happens next.
    """

    def __init__(
        self,
        model: nn.Module,
        example_input: Any,
        *,
        to: str | os.PathLike[str],
        name: str | None = None,
        measures: Sequence[str] = (),
        replace: bool = False,
    ) -> None:
        self._model = unwrapped(model)
        self._folder = Path(to).expanduser()
        self._network = trace(self._model, example_input)
        self._origin = origin(self._network, self._model, measures)
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

        An epoch that is there with the same weights stays as it is. Raises `InputRefused` for one
        that is there with other weights, and for a metric that is no number, text or None.
        """
        if self._writer is None:
            raise InputRefused(
                f"epoch {epoch} was not recorded: the recorder is not open",
                fix="take snapshots inside: with cnt.Recorder(...) as recorder:",
            )
        if isinstance(epoch, bool) or not hasattr(epoch, "__index__") or operator.index(epoch) < 0:
            raise InputRefused(f"the epoch {epoch!r} is not a whole number from 0 on")
        self._writer.write(operator.index(epoch), self._now(), metrics)
        self._writer.finish()

    def _now(self) -> Network:
        """The traced network over a copy of the model's tensors."""
        model = self._model
        named: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
        named |= dict(model.named_buffers(remove_duplicate=False))
        network = self._network
        now = {n: named[n] if n in named else network.weights[n] for n in network.tensor_names}
        return network.bound_to({name: t.detach().cpu().clone() for name, t in now.items()})
