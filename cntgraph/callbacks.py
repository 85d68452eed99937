"""A training library's callback is a `Recorder` that is told when an epoch ends.

The weights of a run's epoch N are those after N epochs of training, so epoch 0 is the untrained
model: what the measures of later epochs are compared with. The libraries are imported when a
callback is made, never before.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from cntgraph.errors import CntWarning, InputRefused
from cntgraph.runs import Recorder

if TYPE_CHECKING:
    from torch import nn

__all__ = ["HuggingFace", "Lightning"]


class _Callback:
    """What the callbacks share: the recorder, which is open while a training runs."""

    _libraries: tuple[str, ...]
    _base: str
    _install: str

    def __new__(cls, *given: Any, **options: Any) -> Self:
        """An instance that is the library's own callback too, as its trainer demands."""
        bases = tuple(getattr(module, cls._base) for module in cls._modules())
        return object.__new__(type(cls.__name__, (cls, *bases), {"__module__": __name__}))

    def __init__(  # noqa: PLR0913 - those of a recorder, and two of its own
        self,
        example_input: Any,
        *,
        to: str | os.PathLike[str],
        name: str | None = None,
        measures: Sequence[str] = (),
        shuffles: int = 0,
        replace: bool = False,
        keep_weights: bool = True,
        every: int = 1,
        untrained: bool = True,
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InputRefused(f"every={every!r}", fix="give a number of epochs: every=5")
        self._example = example_input
        self._options: dict[str, Any] = {
            "to": to,
            "name": name,
            "measures": measures,
            "shuffles": shuffles,
            "replace": replace,
            "keep_weights": keep_weights,
        }
        self._every, self._untrained = every, untrained
        self._held, self._recorder = ExitStack(), None
        super().__init__()

    _recorder: Recorder | None

    def __reduce__(self) -> tuple[Any, ...]:
        # its class is made at run time: what can be found again by name is the one above it
        state = {**self.__dict__, "_recorder": None, "_held": ExitStack()}
        return _rebuilt, (type(self).__mro__[1], state)

    @classmethod
    def _modules(cls) -> list[Any]:
        """The library as its user has imported it, under each of its names; else the first."""
        loaded = [sys.modules[name] for name in cls._libraries if name in sys.modules]
        if loaded:
            return loaded
        for name in cls._libraries:
            if importlib.util.find_spec(name.partition(".")[0]) is not None:
                return [importlib.import_module(name)]
        package = cls._libraries[0].partition(".")[0]
        raise InputRefused(
            f"cntgraph.callbacks.{cls.__name__} needs {package}",
            why="it is not installed",
            fix=f"pip install {cls._install}",
        )

    def _open(self, model: nn.Module) -> None:
        """Trace the model and become the writer of its run, if not done yet."""
        if self._recorder is None:
            recorder = Recorder(model, self._example, **self._options)
            self._recorder = self._held.enter_context(recorder)

    def _close(self) -> None:
        self._recorder = None
        self._held.close()

    def _record(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Take a snapshot, if the epoch is one of those that were asked for."""
        wanted = epoch % self._every == 0 and (epoch > 0 or self._untrained)
        if self._recorder is not None and wanted:
            self._recorder.snapshot(epoch, **_numbers(metrics))


class Lightning(_Callback):
    """Records a run while Lightning trains: at the end of every epoch, and before the first.

    >>> recorder = cnt.callbacks.Lightning((1, 784), to="runs/mine")        # doctest: +SKIP
    >>> trainer = L.Trainer(max_epochs=10, callbacks=[recorder])            # doctest: +SKIP

    ``example_input`` is what `cntgraph.trace` takes, for the ``forward`` of your module; ``to``,
    ``name``, ``measures``, ``shuffles``, ``replace`` and ``keep_weights`` are those of
    `cntgraph.Recorder`.
    ``every=5`` records the epochs 0, 5, 10 ...; ``untrained=False`` leaves epoch 0 out.

    With each epoch the finite numbers go that were logged during it (``self.log``), those of its
    validation too, and the number of steps as ``step``. What a module logs in its own
    ``on_train_epoch_end`` comes too late. Only process 0 records; neither the sanity check nor
    ``fast_dev_run`` is seen. An epoch that training does not reach the end of is not recorded.
    Training that goes on from a checkpoint goes on with its run: an epoch that is there with the
    same weights stays, one with others needs ``replace=True``.

    Raises `InputRefused` where Lightning is not installed, and when training begins what
    `cntgraph.Recorder` raises. For both ``lightning.pytorch`` and ``pytorch_lightning``.
    """

    _libraries = ("lightning.pytorch", "pytorch_lightning")
    _base = "Callback"
    _install = "lightning"
    _before: Mapping[str, Any] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Record the model as it stands: untrained, or at the end of the epoch it resumes from."""
        if not trainer.is_global_zero or trainer.fast_dev_run:
            return
        self._open(pl_module)
        batches = trainer.fit_loop.epoch_loop.batch_progress
        if batches.current.ready == 0 or batches.is_last_batch:
            step = {} if trainer.current_epoch else {"step": trainer.global_step}
            self._record(trainer.current_epoch, step)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Remember what was logged before: it is not said again of this epoch."""
        self._before = dict(trainer.callback_metrics)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Record the epoch, unless the training was stopped in the midst of it."""
        if self._recorder is None:
            return
        epoch = trainer.current_epoch + 1
        if not trainer.is_last_batch:
            _told_unfinished(epoch, trainer.global_step)
            return
        logged, before = trainer.callback_metrics, self._before
        fresh = {n: v for n, v in logged.items() if v is not before.get(n)}
        self._record(epoch, {**fresh, "step": trainer.global_step})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Let the run go."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Let the run go: what was recorded stays."""
        self._close()


class HuggingFace(_Callback):
    """Records a run while a ``transformers.Trainer`` trains: every epoch's end, and before.

    >>> words = torch.zeros(1, 16, dtype=torch.long)                        # doctest: +SKIP
    >>> recorder = cnt.callbacks.HuggingFace({"input_ids": words}, to="runs/bert")  # doctest: +SKIP
    >>> trainer = Trainer(model, args, ..., callbacks=[recorder])           # doctest: +SKIP

    ``example_input`` is what `cntgraph.trace` takes: a dict of the tensors that ``model.forward``
    is given by name, as the Trainer does, or a tensor or a tuple of tensors by position. One
    sample, (1, length) int64 for ``input_ids``, and no labels. ``to``, ``name``, ``measures``,
    ``shuffles``, ``replace`` and ``keep_weights`` are those of `cntgraph.Recorder`; ``every=5``
    records the epochs 0, 5, 10 ...; ``untrained=False`` leaves epoch 0 out.

    With each epoch go the finite numbers that the Trainer logged during it and at its end
    (``eval_loss``, what ``compute_metrics`` gives), and the number of steps as ``step``. Only
    process 0 records. An epoch that training does not reach the end of is not recorded. Training
    that resumes from a checkpoint goes on with its run: an epoch that is there with the same
    weights stays, one with others needs ``replace=True``.

    Raises `InputRefused` where transformers is not installed, and when training begins what
    `cntgraph.Recorder` raises.
    """

    _libraries = ("transformers",)
    _base = "TrainerCallback"
    _install = "'transformers[torch]'"
    _due: int | None = None
    _logged: dict[str, Any]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the model as it stands: untrained, or at the end of the epoch it resumes from."""
        self._due, self._logged = None, {} if state.global_step else {"step": 0}
        if not state.is_world_process_zero:
            return
        self._close()  # what a training that failed left open
        self._open(kwargs["model"])
        if float(state.epoch).is_integer():
            self._due = int(state.epoch)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the epoch that ended: its evaluation has come, and its weights are still there."""
        self._flush()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note that an epoch has ended, unless the training was stopped in the midst of it."""
        if self._recorder is None:
            return
        if control.should_training_stop and not float(state.epoch).is_integer():
            _told_unfinished(math.ceil(state.epoch), state.global_step)
        else:
            self._due = math.ceil(state.epoch)
            self._logged["step"] = state.global_step

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **kwargs: Any
    ) -> None:
        """Keep what is logged; the summary of the training comes before the best weights do."""
        if self._recorder is None:
            return
        if "train_runtime" in logs:
            self._flush()
        else:
            self._logged |= {name: value for name, value in logs.items() if name != "epoch"}

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the last epoch, if that is not done, and let the run go."""
        self._flush()
        self._close()

    def _flush(self) -> None:
        if self._due is not None:
            self._record(self._due, self._logged)
        self._due, self._logged = None, {}


def _rebuilt(kind: type[_Callback], state: Mapping[str, Any]) -> _Callback:
    callback = kind.__new__(kind)
    callback.__dict__.update(state)
    return callback


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The finite numbers among what was logged; tensors of one element are numbers."""
    import numpy as np

    found: dict[str, Any] = {}
    for name, value in metrics.items():
        if callable(getattr(value, "item", None)) and math.prod(getattr(value, "shape", (0,))) == 1:
            value = value.item()
        if isinstance(value, (bool, int, float, np.number)) and math.isfinite(value):
            found[str(name)] = value
    return found


def _told_unfinished(epoch: int, step: int) -> None:
    warnings.warn(
        f"training stopped at step {step}, in the midst of epoch {epoch}: it is not recorded, "
        "for a run holds whole epochs",
        CntWarning,
        stacklevel=3,
    )
