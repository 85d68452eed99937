"""A training script saves a dictionary; somewhere in it lies the state dict, beside it the facts.

Tensors are still descriptions here: what is not wanted is never read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cntgraph.checkpoints.inert import StandIn
from cntgraph.checkpoints.tensors import Described

if TYPE_CHECKING:
    import torch

    Wanted = Described | torch.Tensor
    Builder = Callable[[Wanted, str], torch.Tensor]

__all__ = ["beside", "epoch_inside", "find_weights", "metrics_inside"]

# The order in which a dictionary's words are believed to be the model.  What was trained comes
# before its running average, which scripts keep beside it.
_MODEL_WORDS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "params_ema",
    "ema_model",
    "ema",
)
_NEVER_MODEL = ("optim", "sched", "scaler", "rng_", "callbacks", "hyper_parameters")
_EPOCH_WORDS = ("epoch", "current_epoch")
_DEPTH = 5
_FEW = 5
_LONG = 60

Place = tuple[str, ...]


def find_weights(root: object) -> tuple[dict[str, Wanted], Place, tuple[str, ...]]:
    """The state dict in what was loaded, the words that lead to it, and what a reader should know.

    The words state_dict, model_state_dict, model_state, model, module, net, network, weights,
    params are tried in this order, then a moving average (ema), then any other word, then tensors
    among other things; optimisers and schedulers are left alone.  An empty dictionary comes back
    where there are no weights.
    """
    found = list(_state_dicts(root))
    if not found:
        return {}, (), ()
    place, taken = found[0]
    tensors = {_text(name): t for name, t in taken.items() if _is_tensor(t)}
    notes = [f"weights taken from {_spell(place)}"] if place else []
    for other, values in found[1:]:
        count = sum(map(_is_tensor, values.values()))
        notes.append(f"{_spell(other)} was not taken, though it holds tensors too ({count})")
    dropped = [_said(name) for name, value in taken.items() if not _is_tensor(value)]
    if place and dropped:
        notes.append(f"entries that are no tensors were left out: {', '.join(dropped[:5])}")
    return tensors, place, tuple(notes)


def epoch_inside(root: object, build: Builder) -> int | None:
    """The epoch that a training dictionary states, if it does."""
    if isinstance(root, Mapping):
        for word in _EPOCH_WORDS:
            value = _number(root.get(word), build)
            if value is not None:
                return int(value) if value >= 0 and value == value // 1 else None
    return None


def metrics_inside(root: object, place: Place, build: Builder) -> dict[str, float]:
    """The numbers at the top of a training dictionary and under its word "metrics".

    Tensors of no dimension count as numbers where the state dict lies deeper; at the top of a
    bare state dict they are weights.
    """
    metrics: dict[str, float] = {}
    if not isinstance(root, Mapping):
        return metrics
    inner = root.get("metrics")
    for table in (inner if isinstance(inner, Mapping) else {}, root):
        for name, value in table.items():
            if not isinstance(name, str) or name in _EPOCH_WORDS:
                continue
            if place or not _is_tensor(value):
                figure = _number(value, build)
                if figure is not None:
                    metrics[name] = figure
    return metrics


def beside(root: object, place: Place) -> dict[str, str]:
    """What else a training dictionary holds, in words, by the words that lead there.

    >>> beside({"state_dict": {}, "epoch": 3, "hparams": {"lr": 0.1}}, ("state_dict",))
    {'epoch': '3', 'hparams': "a dict of 1: 'lr'"}
    """
    if not isinstance(root, Mapping):
        return {}
    found: dict[str, str] = {}
    for word, value in root.items():
        if (_text(word),) == place or (not place and _is_tensor(value)):
            continue
        if place[:1] == (_text(word),) and isinstance(value, Mapping):
            inner = beside(value, place[1:])
            found |= {f"{_said(word)} > {name}": said for name, said in inner.items()}
        else:
            found[_said(word)] = _told(value)
    return found


def _told(value: object) -> str:
    """A value in a few words: numbers and texts themselves, containers by their contents."""
    if isinstance(value, StandIn):
        whose = "NumPy" if value.path.startswith("numpy.") else value.path
        return f"an object of {whose}, left unread"
    if isinstance(value, type):
        return f"the name {getattr(value, 'path', value.__name__)}"
    if _is_tensor(value):
        shape: tuple[int, ...] = tuple(value.shape)  # type: ignore[attr-defined]
        return f"a tensor of {'x'.join(map(str, shape)) or 'no dimensions'}"
    if isinstance(value, Mapping):
        names = ", ".join(repr(_text(word))[:_LONG] for word in list(value)[:_FEW])
        more = ", ..." if len(value) > _FEW else ""
        return f"a dict of {len(value)}" + (f": {names}{more}" if names else "")
    if isinstance(value, list | tuple | set | bytes):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def _text(word: object) -> str:
    """A key as text; a class among the keys by the name the file has for it."""
    return str(getattr(word, "path", word)) if isinstance(word, type) else str(word)


def _said(word: object) -> str:
    """A key as text for a terminal, without what would move its cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in _text(word))


def _number(value: Any, build: Builder) -> float | None:
    """A real number as a float, from Python or a tensor of one element without dimensions."""
    if _is_tensor(value):
        if value.ndim:
            return None
        value = build(value, "a number")
        if value.ndim or value.is_complex() or value.is_meta or value.layout is not _strided():
            return None
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _state_dicts(root: object) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Every dictionary of tensors, the likeliest first; each object is looked at once."""
    seen: set[int] = set()

    def walk(value: object, place: Place) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        if id(value) in seen or len(place) > _DEPTH:
            return
        seen.add(id(value))
        if isinstance(value, list | tuple):
            value = {str(index): item for index, item in enumerate(value) if _is_container(item)}
        if not isinstance(value, Mapping):
            return
        nested = [word for word in value if isinstance(word, str) and _is_container(value[word])]
        known = [word for word in _MODEL_WORDS if word in nested]
        for word in known:
            yield from walk(value[word], (*place, word))
        pure = all(map(_is_tensor, value.values()))
        if pure and value:
            yield place, value
        for word in nested:
            if word not in known and not any(part in word.lower() for part in _NEVER_MODEL):
                yield from walk(value[word], (*place, word))
        if not pure and _has_weights(value):
            yield place, value

    yield from walk(root, ())


def _has_weights(value: Mapping[Any, Any]) -> bool:
    """A dictionary of mixed contents counts by a tensor with dimensions; scalars are facts."""
    return any(isinstance(name, str) and _is_tensor(t) and t.ndim for name, t in value.items())


def _is_container(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, Described | torch.Tensor)


def _strided() -> object:
    import torch

    return torch.strided


def _spell(place: Place) -> str:
    return " > ".join(repr(word) for word in place) or "the top of the file"
