"""A checkpoint fits a model when their names agree one to one and so do the shapes under them.

Wrappers (DataParallel, torch.compile, Lightning) put words before or into the names.  Such words
are only taken off where the rest is then exactly what the model calls its own, so a model that
has an attribute `model` or `module` keeps it.  What a training module holds beside the model is
left out where one part of the names is the whole model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cntgraph.checkpoints.dense import plain
from cntgraph.checkpoints.refusal import inspect_it
from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    import torch

__all__ = ["Expected", "match", "wrapper_words"]

Expected = Mapping[str, "torch.Tensor | Sequence[int]"]

_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# AveragedModel counts its averages beside the weights; no model has it as a weight.
_NOT_WEIGHTS = frozenset({"n_averaged"})
_AVERAGED = re.compile("ema|averag|swa|teacher|shadow|momentum|target", re.IGNORECASE)
_COUNTER = "num_batches_tracked"
_SHOWN = 4


def match(
    tensors: Mapping[str, torch.Tensor], expected: Expected, *, source: str = ""
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Give a checkpoint's tensors the model's names, in the model's order, ready to compute with.

    `expected` is the model's `state_dict()`, or its names with their shapes; `source` is the file
    that an error should name.

    >>> import torch
    >>> tensors, notes = match({"module.weight": torch.ones(1, 2)}, {"weight": (1, 2)})
    >>> list(tensors), notes
    (['weight'], ("'module' was taken off the names",))

    `num_batches_tracked` may be missing, and so may one of two names that the model ties to the
    same memory.  Raises `InputRefused` with the names that are missing, unknown or of another
    shape, and for complex tensors and tensors without data.
    """
    offered = {
        name: t for name, t in tensors.items() if name in expected or name not in _NOT_WEIGHTS
    }
    called = source or "the checkpoint"
    best: tuple[int, dict[str, str], str] | None = None
    for renamed, said in _renamings(list(offered), list(expected)):
        missing, unknown = _differences(renamed, expected)
        badness = len(missing) + len(unknown)
        if best is None or badness < best[0]:
            best = badness, renamed, said
        if not badness:
            break
    assert best is not None
    badness, renamed, said = best
    if badness and (part := _part(offered, expected, called)):
        renamed, said = part
    named = {new: offered[old] for old, new in renamed.items()}
    _refuse_misfit(named, renamed, expected, source)
    notes = [said] if said else []
    fitted: dict[str, torch.Tensor] = {}
    twins = _tied(expected)
    for name in expected:
        twin = next((other for other in twins.get(name, ()) if other in named), None)
        if name in named:
            fitted[name] = plain(named[name], name=f"{name!r} of {called}")
        elif twin is not None:
            fitted[name] = plain(named[twin], name=f"{twin!r} of {called}")
            notes.append(f"{name!r} is not in the file; the model ties it to {twin!r}")
    return fitted, tuple(notes)


def _renamings(names: list[str], expected: list[str]) -> Iterable[tuple[dict[str, str], str]]:
    """Ways to call the checkpoint's tensors, the plainest first, and what each has to say."""
    yield {name: name for name in names}, ""
    bare = {name: _unwrapped(name) for name in names}
    target = {_unwrapped(name): name for name in expected}
    if len(set(bare.values())) < len(bare) or len(target) < len(expected):
        bare, target = {name: name for name in names}, {name: name for name in expected}
    taken = sorted(_WRAPPERS & {word for name in names for word in name.split(".")})
    said = [f"{word!r}" for word in taken] if any(bare[n] != n for n in names) else []
    rest = bare
    while True:
        off = f"{' and '.join(said)} {'were' if len(said) > 1 else 'was'} taken off the names"
        back = "" if said else "the model's own wrapper words were put before the names"
        yield {n: target.get(r, r) for n, r in rest.items()}, off if said else back
        word = _shared_word(rest.values())
        if word is None:
            return
        said = [*said, f"{word!r}"]
        rest = {name: short[len(word) + 1 :] for name, short in rest.items()}


def _part(
    tensors: Mapping[str, torch.Tensor], expected: Expected, called: str
) -> tuple[dict[str, str], str] | None:
    """The one part of a checkpoint that is exactly the model: names and shapes, none over.

    A training module holds the model as an attribute, beside its loss, and often its running
    average; a part that is called so gives way to the one that was trained.
    """
    fitting = {
        prefix: renamed
        for prefix, renamed in _prefixed(tensors, expected).items()
        if not any(_differences(renamed, expected))
        and all(_shape(tensors[old]) == _shape(expected[new]) for old, new in renamed.items())
    }
    trained = [prefix for prefix in fitting if not _AVERAGED.search(prefix)] or list(fitting)
    if not trained:
        return None
    if len(trained) > 1:
        raise InputRefused(
            f"{called} holds the model {len(trained)} times: under {_few(trained)}",
            why="each of them has every name and shape of the model",
            fix="save the state_dict of the one that is meant by itself",
        )
    chosen = trained[0]
    left = len(tensors) - len(fitting[chosen])
    others = [repr(prefix) for prefix in fitting if prefix != chosen]
    also = f", among them {_few(others)}, which fits too" if others else ""
    said = f"{chosen!r} was taken off the names; {left} tensors besides were left out{also}"
    return fitting[chosen], said


def _prefixed(tensors: Mapping[str, torch.Tensor], expected: Expected) -> dict[str, dict[str, str]]:
    """By the words that names begin with: the names below them, as the model calls them."""
    target = {_unwrapped(name): name for name in expected}
    below: dict[str, dict[str, str]] = {}
    hits: set[str] = set()
    for name in tensors:
        words = _unwrapped(name).split(".")
        for length in range(1, len(words)):
            prefix, rest = ".".join(words[:length]), ".".join(words[length:])
            below.setdefault(prefix, {})[name] = target.get(rest, rest)
            if rest in target:
                hits.add(prefix)
    return {prefix: names for prefix, names in below.items() if prefix in hits}


def wrapper_words(names: Iterable[str]) -> tuple[str, ...]:
    """Words that wrappers put into names, and those that all names begin with.

    >>> wrapper_words(["module.net.0.weight", "module.net.0.bias"])
    ('module', 'net', '0')
    """
    names = list(names)
    found = sorted(_WRAPPERS & {word for name in names for word in name.split(".")})
    rest = [_unwrapped(name) for name in names if name not in _NOT_WEIGHTS]
    while (word := _shared_word(rest)) is not None:
        found.append(word)
        rest = [name[len(word) + 1 :] for name in rest]
    return tuple(found)


def _unwrapped(name: str) -> str:
    return ".".join(word for word in name.split(".") if word not in _WRAPPERS)


def _shared_word(names: Iterable[str]) -> str | None:
    """The first word that all dotted names begin with and none consists of."""
    firsts = {name.partition(".")[0] if "." in name else "" for name in names}
    word = firsts.pop() if len(firsts) == 1 else ""
    return word or None


def _differences(renamed: dict[str, str], expected: Expected) -> tuple[list[str], list[str]]:
    """Names of the model that are not given, and names of the file that the model does not have."""
    given = set(renamed.values())
    twins = _tied(expected)
    missing = [
        name
        for name in expected
        if name not in given
        and name.rpartition(".")[2] != _COUNTER
        and not any(other in given for other in twins.get(name, ()))
    ]
    return missing, [old for old, new in renamed.items() if new not in expected]


def _tied(expected: Expected) -> dict[str, list[str]]:
    """For each name of the model, the other names of the very same memory."""
    import torch

    groups: dict[tuple[object, ...], list[str]] = {}
    for name, tensor in expected.items():
        if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided and tensor.numel():
            memory = tensor.untyped_storage()._cdata
            key = (memory, tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
            groups.setdefault(key, []).append(name)
    return {name: [n for n in names if n != name] for names in groups.values() for name in names}


def _refuse_misfit(
    named: Mapping[str, torch.Tensor], renamed: dict[str, str], expected: Expected, source: str
) -> None:
    missing, unknown = _differences(renamed, expected)
    shapes = {name: _shape(facts) for name, facts in expected.items()}
    other = [
        f"{name} is {_spell(_shape(tensor))} in the file and {_spell(shapes[name])} in the model"
        for name, tensor in named.items()
        if name in shapes and _shape(tensor) != shapes[name]
    ]
    lists = (
        ("the file lacks", [f"{name} {_spell(shapes[name])}" for name in missing]),
        ("the model has no", [f"{o} {_spell(_shape(named[renamed[o]]))}" for o in unknown]),
        ("of another shape:", other),
    )
    why = "; ".join(f"{head} {_few(items)}" for head, items in lists if items)
    if why:
        raise InputRefused(
            f"{source or 'the checkpoint'} does not fit the model",
            why=why,
            fix="build the model as it was when this was saved"
            + (f"; what the file holds: {inspect_it(source)}" if source else ""),
        )


def _shape(facts: torch.Tensor | Sequence[int]) -> tuple[int, ...]:
    import torch

    return tuple(facts.shape) if isinstance(facts, torch.Tensor) else tuple(facts)


def _spell(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _few(items: list[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
