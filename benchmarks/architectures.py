"""Every classification model of torchvision, proven and timed; and what does not grow with links.

    python benchmarks/architectures.py             all of it, written to benchmarks/architectures.md
    python benchmarks/architectures.py models      one section, printed: models, scale, streaming,
                                                   growth
    python benchmarks/architectures.py models resnet18 vit_b_16      only these models

Every model is measured in a process of its own. Times are CPU seconds of that process, memory its
largest resident size. A verification compares the network with the module in float64 on random
input, with running statistics that are not those of a fresh model.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "architectures.md"
SIDES = {"inception_v3": 96, "vit_h_14": 56} | dict.fromkeys(
    ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "maxvit_t"), 224
)
LARGEST = ("regnet_y_128gf", "vit_h_14")


def trained_like(name: str) -> Any:
    """A model of torchvision, untrained, with running statistics drawn at random."""
    import torch
    import torchvision

    torch.manual_seed(0)
    # a table of the 139 M neurons of the largest transformer at 224 would not fit here
    size = {"image_size": SIDES[name]} if name == "vit_h_14" else {}
    model = torchvision.models.get_model(name, weights=None, **size).eval()
    generator = torch.Generator().manual_seed(1)
    for key, buffer in model.named_buffers():
        if key.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
        if key.endswith("running_var"):
            buffer.copy_(0.8 + 0.4 * torch.rand(buffer.shape, generator=generator))
    return model


def peak() -> float:
    """Largest resident size so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives and the CPU seconds it took."""
    start = time.process_time()
    return call(), time.process_time() - start


# -- in a process of its own --------------------------------------------------------------------


def prove(name: str) -> dict[str, Any]:
    """Trace, strength and verification of one model; links are listed where they are few enough."""
    import cntgraph as cnt

    side = SIDES.get(name, 64)
    shape = (1, 3, side, side)
    model = trained_like(name)
    network, tracing = timed(lambda: cnt.trace(model, shape))
    table, strengths = timed(lambda: cnt.strength(network))
    memory = peak()
    into, out = table["strength_in"].sum(), table["strength_out"].sum()
    handshake = abs(into - out) / table["strength_absolute"].sum()
    lost = network.coverage.query("status == 'unmapped'")["reason"]
    unread = int(lost.str.contains("no output depends").sum())
    counts = network.neuron_count, network.link_count
    proof, proving = timed(lambda: cnt.verify(model, shape, samples=2))
    return {
        "model": name,
        "input": f"{side} x {side}",
        "neurons": f"{counts[0]:,}",
        "links": f"{counts[1] / 1e6:,.1f} M",
        "trace": f"{tracing:.1f} s",
        "strength": f"{strengths:.1f} s",
        "memory": f"{memory:.1f} GB",
        "error": f"{proof.error_operators:.1e}",
        "error by links": "-" if proof.error_links is None else f"{proof.error_links:.1e}",
        "largest output": f"{proof.largest_output:.3g}",
        "in - out": f"{handshake:.0e}",
        "unmapped": f"{len(lost) - unread} (+ {unread} unread)",
        "verify": f"{proving:.1f} s",
    }


def scale(name: str) -> dict[str, Any]:
    """Trace and strength of one model on images of 224 x 224, imports included."""
    model = trained_like(name)
    start = time.process_time()
    import cntgraph as cnt

    network = cnt.trace(model, (1, 3, 224, 224))
    table = cnt.strength(network)
    seconds, memory = time.process_time() - start, peak()
    channels, channel_seconds = timed(network.by_channel)
    return {
        "model": name,
        "links": f"{network.link_count / 1e9:.2f} G",
        "neurons": f"{len(table):,}",
        "trace and strength": f"{seconds:.1f} s",
        "memory": f"{memory:.2f} GB",
        "links by channel": f"{channels.link_count / 1e6:.2f} M",
        "by channel": f"{channel_seconds:.1f} s",
    }


def stream(name: str) -> dict[str, Any]:
    """Links listed a second on one core, as batches of Arrow columns."""
    import torch

    import cntgraph as cnt

    torch.set_num_threads(1)
    network = cnt.trace(trained_like(name), (1, 3, 64, 64))
    before = peak()

    def listed() -> int:
        count = 0
        for batch in network.links():
            count += batch.num_rows
            if count > 60_000_000:
                break
        return count

    count, seconds = timed(listed)
    return {
        "model": name,
        "listed": f"{count / 1e6:.0f} M of {network.link_count / 1e6:.0f} M",
        "links a second": f"{count / seconds / 1e6:.0f} M",
        "memory it added": f"{1000 * (peak() - before):.0f} MB",
    }


def growth(name: str) -> dict[str, Any]:
    """Strength of one 3 x 3 convolution, ``channels x side`` in size, with and without links."""
    import statistics

    import numpy as np
    import torch

    import cntgraph as cnt

    torch.set_num_threads(1)
    channels, side = (int(part) for part in name.split("x"))
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1)
    network = cnt.trace(layer, (1, channels, side, side))
    cnt.strength(network)
    state = layer.state_dict()
    runs = [timed(lambda: cnt.strength(network.with_weights(state))) for _ in range(5)]
    table = runs[0][0]
    row = {
        "convolution": f"{channels} -> {channels}, {side} x {side}",
        "links": f"{network.link_count / 1e6:,.1f} M",
        "parameters": f"{layer.weight.numel():,}",
        "neurons": f"{network.neuron_count:,}",
        "cnt.strength": f"{1000 * statistics.median(s for _, s in runs):.1f} ms",
        "listing links and adding": "-",
    }
    if network.link_count < 100_000_000:

        def listed() -> Any:
            total = np.zeros(network.neuron_count)
            for batch in network.links():
                weight = batch.column("weight").to_numpy()
                for end in ("source", "target"):
                    ids = batch.column(end).to_numpy()
                    total += np.bincount(ids, weight, minlength=len(total))
            return total

        total, seconds = timed(listed)
        np.testing.assert_allclose(table["strength"], total, atol=1e-8)
        row["listing links and adding"] = f"{1000 * seconds:,.0f} ms"
    return row


# -- the whole run ------------------------------------------------------------------------------

SECTIONS: dict[str, tuple[Callable[[str], dict[str, Any]], str, list[str]]] = {
    "models": (
        prove,
        "Every classification model of torchvision. `error` is the largest absolute difference "
        "between the network's forward and the module's, in float64; `in - out` is the handshake, "
        "relative to the sum of |strength|; unread parameters are heads that serve training only. "
        "Two samples, the second with weights moved at random.",
        [],
    ),
    "scale": (
        scale,
        "Images of 224 x 224, PyTorch's and torchvision's imports not counted. Wanted: ResNet-18 "
        "under 15 s and 2 GB, VGG-16 under 60 s and 6 GB.",
        ["resnet18", "vgg16"],
    ),
    "streaming": (
        stream,
        "Links listed in batches of a million on one core, wanted 5 M a second.",
        ["resnet18", "vgg11", "mobilenet_v2"],
    ),
    "growth": (
        growth,
        "One convolution of 3 x 3: the time follows parameters and neurons, not links.",
        [f"{c}x{s}" for c in (16, 64, 256) for s in (8, 32, 128)],
    ),
}


def measured(section: str, names: list[str]) -> list[dict[str, Any]]:
    """A row for each name, each from a fresh process of one thread.

    Models run side by side, a process for each core; the largest alone, for the sake of memory.
    """
    side_by_side = [n for n in names if section == "models" and n not in LARGEST]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = dict(zip(side_by_side, pool.map(partial(one, section), side_by_side), strict=True))
    return [rows[n] if n in rows else one(section, n) for n in names]


def one(section: str, name: str) -> dict[str, Any]:
    print(f"{section}: {name}", file=sys.stderr, flush=True)
    command = [sys.executable, __file__, "--one", section, name]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        return {"model": name, "input": last[0][:120]}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def as_table(rows: list[dict[str, Any]]) -> str:
    columns = list(max(rows, key=len))
    lines = [columns, ["---"] * len(columns)]
    lines += [[str(row.get(c, "")) for c in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def named(section: str, given: list[str]) -> list[str]:
    if given or section != "models":
        return given or SECTIONS[section][2]
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def main(words: list[str]) -> None:
    if words[:1] == ["--one"]:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        print(json.dumps(SECTIONS[words[1]][0](words[2])))
        return
    if words:
        print(as_table(measured(words[0], named(words[0], words[1:]))))
        return
    packages = ", ".join(f"{p} {version(p)}" for p in ("cntgraph", "torch", "torchvision", "numpy"))
    parts = [
        "# Architectures",
        f"`python benchmarks/architectures.py` on {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; {packages}. CPU seconds.",
    ]
    for section, (_, what, _) in SECTIONS.items():
        parts += [what, as_table(measured(section, named(section, [])))]
    RESULTS.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
