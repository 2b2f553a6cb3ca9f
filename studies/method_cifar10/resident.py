"""Training of small networks with all images on the device, several networks at once.

On images of 32 px a step of a small network takes less time than reading its images, or than launching its kernels one
by one. So the decoded images stay on the device, crops and flips are computed there, a whole step is recorded as a CUDA
graph, and the steps of several networks run side by side. On a CPU the same steps run one after another.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError
from compoundnet.data.dataset import Split
from compoundnet.data.randomness import epoch_order
from compoundnet.nn import ConvNet, build
from compoundnet.train.optimizer import make_optimizer
from compoundnet.train.recipe import Recipe
from compoundnet.train.recipe_parts import RMSProp
from compoundnet.train.schedule import learning_rate, peak_lr
from studies.method_cifar10.trainings import FOLLOWED

# Fields of a recipe that change no weights: names, and when a run is saved and judged.
_FREE = {
    "name", "about", "source", "save_minutes", "save_epochs", "keep", "keep_finished", "max_bad", "evaluate_epochs",
}  # fmt: skip
_ASPECT = (3 / 4, 4 / 3)  # of a crop, as in compoundnet.data.training_transform
_EVALUATED = 2000  # images in a batch of evaluation
_EAGER = 3  # steps before a CUDA graph is recorded: libraries choose their algorithms in the first ones


class Images(msgspec.Struct, frozen=True, eq=False):
    """Decoded images of one size on the device: uint8[N, H, W, 3], and int64[N] labels."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Images:
        """Return them on a device."""
        return Images(self.pixels.to(device), self.labels.to(device))


class Trained(msgspec.Struct, frozen=True):
    """A finished training.

    Attributes:
        held: Top-1 accuracy on the held-out training images, a fraction.
        test: Top-1 accuracy on the test images, a fraction.
        loss: Mean training loss of the last epoch.
        seconds: From the first step to the last evaluation; other trainings ran at the same time.
    """

    held: float
    test: float
    loss: float
    seconds: float

    @property
    def diverged(self) -> bool:
        """Whether the loss is not finite."""
        return not math.isfinite(self.loss)


def load(split: Split) -> Images:
    """Decode all images of a split. All must have the same size."""
    parts = [part for part in np.array_split(np.arange(len(split)), 64) if len(part)]
    # Forked, so that no process imports torch again; before the first use of the GPU, which forbids it afterwards.
    with ProcessPoolExecutor(mp_context=get_context("fork")) as pool:
        decoded = list(pool.map(_decode, [split.subset(part) for part in parts]))
    if len({part.shape[1:] for part in decoded}) != 1:
        raise CompoundNetError(f"{split.name}: the images differ in size, and this study needs one size")
    labels = torch.as_tensor(split.labels, dtype=torch.int64)
    return Images(torch.from_numpy(np.concatenate(decoded)), labels)


def _decode(split: Split) -> NDArray[np.uint8]:
    images = [np.asarray(split.image(index)) for index in range(len(split))]
    if len({image.shape for image in images}) != 1:
        raise CompoundNetError(f"{split.name}: the images differ in size, and this study needs one size")
    return np.stack(images)


def check_recipe(recipe: Recipe) -> None:
    """Raise if the recipe asks for something that is not done here."""
    neutral = Recipe(
        name="", about="", source="", batch=1, lr=1, optimizer=recipe.optimizer, schedule=recipe.schedule, epochs=1
    )
    other = [
        name for name in recipe.__struct_fields__
        if name not in FOLLOWED | _FREE and getattr(recipe, name) != getattr(neutral, name)
    ]  # fmt: skip
    other += ["optimizer rmsprop"] * isinstance(recipe.optimizer, RMSProp)
    other += ["precision fp16"] * (recipe.precision == "fp16")
    other += ["norm_momentum kornblith"] * (recipe.norm_momentum == "kornblith")
    if other:
        raise CompoundNetError(
            f"recipe {recipe.name}: training with all images on the device has no {', '.join(other)}"
        )


class Training:
    """The training of one network, a step at a time.

    Args:
        network: The network; its resolution is the side to which crops are resized, pixels.
        recipe: The recipe. An epoch has whole batches only.
        seed: The seed of weights, order and crops.
        images: The training images.
    """

    def __init__(self, network: Network, recipe: Recipe, seed: int, images: Images) -> None:
        device = images.pixels.device
        self.network, self.recipe, self._seed, self._images = network, recipe, seed, images
        self.epoch_steps = len(images) // recipe.batch
        if not self.epoch_steps:
            raise CompoundNetError(f"{len(images)} training images do not fill a batch of {recipe.batch}; give fewer")
        self.steps = round(recipe.epochs * self.epoch_steps)
        self.step, self._device = 0, device
        self.started = time.monotonic()
        torch.manual_seed(seed)
        self._net: ConvNet = build(network).to(device).to(memory_format=torch.channels_last)
        for layer in self._net.modules():
            if isinstance(layer, nn.BatchNorm2d) and recipe.norm_momentum:
                layer.momentum = float(recipe.norm_momentum)
        self._optimizer = self._make_optimizer()
        rates = [learning_rate(recipe, step, self.steps, self.epoch_steps) for step in range(self.steps)]
        self._rates = torch.tensor(rates, device=device)
        # What a step reads: its number in the run and in the epoch, and the epoch's order and crops.
        self._number = torch.zeros(1, dtype=torch.int64, device=device)
        self._within = torch.zeros(1, dtype=torch.int64, device=device)
        self._order = torch.zeros(self.epoch_steps, recipe.batch, dtype=torch.int64, device=device)
        self._crops = torch.zeros(self.epoch_steps, recipe.batch, 2, 3, device=device)
        self._loss = torch.zeros(1, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._queued: list[torch.cuda.Event] = []
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))

    @property
    def done(self) -> bool:
        """Whether all steps are queued."""
        return self.step >= self.steps

    def ready(self) -> bool:
        """Return whether the next step may be queued: at most two wait, so that all trainings advance alike."""
        self._queued = [event for event in self._queued if not event.query()]
        return len(self._queued) < 2

    def advance(self) -> None:
        """Queue the next step."""
        if self._stream is None:
            self._begin_epoch()
            self._compute()
        else:
            with torch.cuda.stream(self._stream):
                self._begin_epoch()
                if self._graph is None and self.step == _EAGER:
                    self._record()
                if self._graph is None:
                    self._compute()
                else:
                    self._graph.replay()
                event = torch.cuda.Event()
                event.record(self._stream)
                self._queued.append(event)
        self.step += 1

    def finish(self, held: Images, test: Images) -> Trained:
        """Wait for the steps and evaluate the last weights."""
        with torch.cuda.stream(self._stream) if self._stream is not None else torch.no_grad():
            loss = float(self._loss) / self.epoch_steps
            self._graph = None  # and gigabytes in which it ran
            on_held, on_test = self._accuracy(held), self._accuracy(test)
        return Trained(on_held, on_test, loss, time.monotonic() - self.started)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        optimizer = make_optimizer(self._net, self.recipe)
        for group in optimizer.param_groups:  # a recorded step must read the learning rate from the device
            group["lr"] = torch.tensor(peak_lr(self.recipe), device=self._device)
            if "capturable" in group:
                group["capturable"] = self._device.type == "cuda"
            group["fused"] = True
        return optimizer

    def _begin_epoch(self) -> None:
        epoch, within = divmod(self.step, self.epoch_steps)
        if within:
            return
        used = self.epoch_steps * self.recipe.batch
        order = epoch_order(len(self._images), self._seed, epoch)[:used]
        self._order.copy_(torch.from_numpy(order).view_as(self._order))
        crops = random_crops(used, self.recipe, np.random.default_rng([self._seed, epoch]))
        self._crops.copy_(torch.from_numpy(crops).view_as(self._crops))
        self._within.zero_()
        self._loss.zero_()

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        # The work space of matrix products belongs to a stream: each graph is recorded on the stream that replays it.
        with torch.cuda.graph(graph, stream=self._stream):
            self._compute()
        self._graph = graph

    def _compute(self) -> None:
        """Do one step, with numbers that lie on the device alone."""
        self._optimizer.zero_grad(set_to_none=True)
        index = self._order.index_select(0, self._within)[0]
        crops = self._crops.index_select(0, self._within)[0]
        x = resample(self._images.pixels[index], crops, self.network.resolution)
        with self._autocast():
            logits = self._net(x)
        loss = F.cross_entropy(logits.float(), self._images.labels[index], label_smoothing=self.recipe.label_smoothing)
        loss.backward()
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self._net.parameters(), self.recipe.clip_norm, foreach=True)
        rate = self._rates.index_select(0, self._number)[0]
        for group in self._optimizer.param_groups:
            group["lr"].copy_(rate)
        self._optimizer.step()
        self._loss += loss.detach()
        self._number += 1
        self._within += 1

    def _autocast(self) -> torch.autocast:
        # Without a cache of cast weights: a graph would replay with the weights of the step that recorded it.
        return torch.autocast(
            self._device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16", cache_enabled=False
        )

    @torch.no_grad()
    def _accuracy(self, images: Images) -> float:
        self._net.eval()
        whole = torch.tensor([[1.0, 0, 0], [0, 1, 0]], device=self._device)
        right = torch.zeros((), dtype=torch.int64, device=self._device)
        for pixels, labels in zip(images.pixels.split(_EVALUATED), images.labels.split(_EVALUATED), strict=True):
            x = resample(pixels, whole.expand(len(pixels), 2, 3), self.network.resolution)
            with self._autocast():
                right += (self._net(x).argmax(1) == labels).sum()
        return int(right) / len(images)


def random_crops(count: int, recipe: Recipe, random: np.random.Generator) -> NDArray[np.float32]:
    """Draw crops as affine maps from the crop to the image, both from -1 to 1: float32[count, 2, 3].

    As in the project's training transform: an aspect, then a height, each uniform over what fits; a place; a flip.
    """
    aspect = random.uniform(*_ASPECT, count)
    lowest, highest = (np.sqrt(area / aspect) for area in recipe.area)
    highest = np.minimum(highest, np.minimum(1, 1 / aspect))
    height = lowest + random.random(count) * np.maximum(0, highest - lowest)
    height = np.minimum(height, np.minimum(1, 1 / aspect))
    width = height * aspect
    maps = np.zeros((count, 2, 3), np.float32)
    maps[:, 0, 0] = width * (np.where(random.random(count) < 0.5, -1, 1) if recipe.flip else 1)
    maps[:, 1, 1] = height
    maps[:, 0, 2] = (1 - width) * random.uniform(-1, 1, count)
    maps[:, 1, 2] = (1 - height) * random.uniform(-1, 1, count)
    return maps


def resample(pixels: Tensor, maps: Tensor, size: int) -> Tensor:
    """Crop and resize by bicubic interpolation: uint8[N, H, W, 3] to float32[N, 3, size, size], about -2 to 2."""
    x = (pixels.permute(0, 3, 1, 2).float() - 127.5) / 64
    grid = F.affine_grid(maps, [len(pixels), 3, size, size], align_corners=False)
    x = F.grid_sample(x, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return x.contiguous(memory_format=torch.channels_last)


def run(trainings: Mapping[int, Training], held: Images, test: Images) -> list[tuple[int, Trained]]:
    """Run trainings side by side; return (key, result) of each, in the order in which they end."""
    active, finished = dict(trainings), []
    while active:
        idle = True
        for key, training in list(active.items()):
            if training.ready():
                training.advance()
                idle = False
            if training.done:
                finished.append((key, training.finish(held, test)))
                del active[key]
        if idle:
            time.sleep(2e-5)
    return finished
