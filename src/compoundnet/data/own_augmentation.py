"""Augmentation by a function of the user, made reproducible."""

from __future__ import annotations

import pickle
import random as python_random
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from compoundnet.base import CompoundNetError, first_line
from compoundnet.data.randomness import below


class OwnAugmentation:
    """Any callable from one PIL image to another, such as a torchvision transform, as a training transform's `augment`.

    Before each call the global generators of Python, NumPy and torch are seeded for that image and epoch, and restored
    afterwards. A callable that draws from them therefore returns the same image in any worker, and after resuming.

    Args:
        transform: From an RGB image to one of the same size. It is sent to worker processes, so it must be picklable: a
            function of a module or an object, not a lambda.
    """

    def __init__(self, transform: Callable[[Image.Image], Image.Image]) -> None:
        self.transform = transform

    def apply(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """Augment an RGB image. Raises CompoundNetError if the result is not an RGB image of the same size."""
        seed = below(random, 1 << 32)
        # Legacy seeding of NumPy's global generator: it is the one that transforms of other libraries draw from.
        states = python_random.getstate(), np.random.get_state(), torch.default_generator.get_state()
        python_random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        try:
            result = self.transform(image)
        finally:
            python_random.setstate(states[0])
            np.random.set_state(states[1])
            torch.default_generator.set_state(states[2])
        if not isinstance(result, Image.Image) or result.mode != "RGB" or result.size != image.size:
            raise CompoundNetError(
                f"an augmentation must return an RGB PIL image of the size it was given, {image.width} x"
                f" {image.height} px, got {_described(result)}"
            )
        return result

    def check(self, size: int) -> None:
        """Test it on a grey image of `size` px. Raises CompoundNetError if it fails or cannot be pickled."""
        try:
            pickle.dumps(self.transform)
        except Exception as error:  # pickle raises several types, and the code of an object may raise any
            raise CompoundNetError(
                f"the augmentation cannot be sent to worker processes ({first_line(error)}); make it a function of a"
                " module, or an object of a class, instead of a lambda or a nested function"
            ) from error
        try:
            self.apply(Image.new("RGB", (size, size), (128, 128, 128)), np.random.default_rng(0))
        except CompoundNetError:
            raise
        except Exception as error:  # the user's code
            raise CompoundNetError(f"the augmentation fails on an image of {size} px: {error!r}") from error


def _described(value: object) -> str:
    if isinstance(value, Image.Image):
        return f"mode {value.mode}, {value.width} x {value.height} px"
    return type(value).__name__
