"""int8 files on a microcontroller: SRAM of `cost` against the arenas that runtimes plan, flash against the file."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_net import random_net, reduced, small_network

from compoundnet import arch, runtime

if importlib.util.find_spec("litert_torch") is None:
    pytest.skip("litert-torch is not installed (compoundnet[litert])", allow_module_level=True)


def int8_file(network: arch.Network, folder: Path) -> Path:
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "images" / "0.png")
    file = folder / "int8.tflite"
    runtime.export(random_net(network), file, precision="int8", calibrate=folder / "images")
    return file


def planned_arena(file: Path) -> int:
    """The bytes between the first and the last activation that LiteRT has placed in memory, without the input, which it
    keeps until the end, as a microcontroller does not."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    opened = Interpreter(str(file), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    opened.allocate_tensors()
    (given,) = opened.get_input_details()
    outputs = {int(tensor) for operation in opened._get_ops_details() for tensor in operation["outputs"]}
    first, last = sys.maxsize, 0
    for tensor in outputs | {given["index"]}:
        view = opened.tensor(tensor)()
        start = view.__array_interface__["data"][0]
        first, last = min(first, start), max(last, start + view.nbytes)
        del view  # the interpreter refuses to run while one lives
    return last - first - int(np.prod(given["shape"]))


def stored(file: Path) -> int:
    """The bytes of weights, biases and scales in a file."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(file))
    total = 0
    for tensor in model.subgraphs[0].tensors:
        constant = model.buffers[tensor.buffer].data
        if constant is not None and len(constant) and len(tensor.shape) and tensor.quantization is not None:
            scales = tensor.quantization.scale
            # A bias has the scale of its weights and its input, and needs none of its own.
            total += len(constant) + (4 * len(scales) if scales is not None and len(tensor.shape) > 1 else 0)
    return total


@pytest.mark.slow
def test_sram_is_the_arena_and_flash_the_weights(tmp_path: Path) -> None:
    network = reduced("efficientnet-lite0")
    cost, file = arch.cost(network), int8_file(network, tmp_path)
    assert planned_arena(file) == pytest.approx(cost.sram_bytes, rel=0.15)
    assert stored(file) == pytest.approx(cost.flash_bytes, rel=0.05)
    assert file.stat().st_size > cost.flash_bytes


MICRO = """
import sys
import numpy
from tflite_micro.python.tflite_micro import runtime

interpreter = runtime.Interpreter.from_file(sys.argv[1], arena_size=30_000_000)
given = interpreter.get_input_details(0)
interpreter.set_input(numpy.zeros(given["shape"], given["dtype"]), 0)
interpreter.invoke()
interpreter.print_allocations()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-b0", "mobilenet-v2", "resnet-18", "small"])
def test_sram_is_the_arena_of_tensorflow_lite_micro(name: str, tmp_path: Path) -> None:
    """The package tflite-micro, which runs the code of a microcontroller, with SiLU and squeeze-excitation too."""
    target = tmp_path / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), "--no-deps", "tflite-micro"]
    if subprocess.run(pip, check=False, capture_output=True).returncode != 0:
        pytest.skip("tflite-micro is not to be had for this Python")
    network = small_network() if name == "small" else arch.network(name)
    file = int8_file(network, tmp_path)
    command = [sys.executable, "-c", MICRO, str(file)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    head = re.search(r"allocation head (\d+) bytes", done.stdout + done.stderr)
    assert head is not None, done.stdout + done.stderr
    assert int(head[1]) == pytest.approx(arch.cost(network).sram_bytes, rel=0.15)
