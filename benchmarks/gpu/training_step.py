"""A training step of B0 and B4, eager and compiled, against timm's and torchvision's models in the same loop.

bfloat16 by autocast, channels last, images already on the GPU, the optimiser of the paper's recipe for all.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from contest import Case, Gate, Prepared, Values, hold
from networks import LIBRARIES, SIZES, network
from section import device, milliseconds, parse
from torch.nn import functional as F

from compoundnet.train.rmsprop import RMSPropTF

BATCHES = {"b0": 256, "b4": 64, "tiny": 4}
GIGABYTES = {"b0": 12, "b4": 22, "tiny": 1}  # `compoundnet.arch.training_memory`, and some for compiled code's trials


def prepare(case: Case, gate: Gate) -> Prepared:
    """Build the network, compile it if asked for, and do the first steps."""
    where = device()
    before = torch.cuda.memory_allocated() if where.type == "cuda" else 0  # other cases of this process
    started = time.monotonic()
    facts: dict[str, Any] = {}
    torch.manual_seed(0)
    net = network(case).train().to(memory_format=torch.channels_last).to(where)
    images = torch.randn(case.batch, 3, case.size, case.size, device=where).to(memory_format=torch.channels_last)
    labels = torch.arange(case.batch, device=where) % 1000
    optimizer = RMSPropTF(net.parameters(), lr=1e-5, weight_decay=1e-5)
    entered = False

    def inductor(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        """torch.compile's own compiler; the first step waits at the gate, behind the compiling."""
        from torch._inductor.compile_fx import compile_fx

        nonlocal entered
        compiled = compile_fx(graph, inputs)
        if not entered:
            entered = True
            facts["compile_s"] = round(time.monotonic() - started, 1)
            gate.enter(case.gigabytes)
        return compiled

    forward: Any = torch.compile(net, backend=inductor) if case.mode == "compiled" else net

    def step() -> None:
        with torch.autocast(where.type, torch.bfloat16):
            loss = F.cross_entropy(forward(images), labels, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    if case.mode != "compiled":
        gate.enter(case.gigabytes)
        entered = True
    try:
        step()
        step()
        if where.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            step()
            facts["peak_mb"] = round((torch.cuda.max_memory_allocated() - before) / 1e6)
    finally:
        if entered:
            gate.leave(case.gigabytes)

    def measure() -> Values:
        for _ in range(2):
            step()
        return {"ms": milliseconds(step, 2 if case.network == "tiny" else 6)}

    return Prepared(measure, facts)


def cases(name: str, mode: str) -> list[Case]:
    """A network in all libraries."""
    return [Case(name, library, mode, BATCHES[name], SIZES[name], GIGABYTES[name]) for library in LIBRARIES]


def main() -> None:
    section = parse(__doc__)
    if section.smoke:
        hold(section, [cases("tiny", "eager")[:2]], prepare, memory=0.5, rounds=2)
        return
    # Compiling B4 takes more time than a short run has.
    long = section.prepared_by - time.monotonic() > 150
    compiled = [*(cases("b4", "compiled") if long else []), *cases("b0", "compiled")]
    groups = [*([case] for case in compiled), cases("b0", "eager"), cases("b4", "eager")]
    hold(section, groups, prepare, memory=0.53, rounds=5)


if __name__ == "__main__":
    main()
