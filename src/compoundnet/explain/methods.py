"""The two methods: class activation maps of networks with a linear head, and Grad-CAM of any torch classifier."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from compoundnet.base import CompoundNetError
from compoundnet.base.extras import need
from compoundnet.base.machine import torch_threads
from compoundnet.explain.maps import Array, Method, NetworkOutput
from compoundnet.runtime.feature_session import FeatureSession
from compoundnet.runtime.session_source import for_inference

if TYPE_CHECKING:
    from torch import nn


def cam(session: FeatureSession) -> Method:
    """Class activation maps as Zhou et al. 2016 (arXiv:1512.04150, equations 1 and 2) define them.

    The input of the classifier is the mean of the last feature map f. The logit of a class is therefore its bias plus
    the mean over positions of sum_k w_k f_k(x, y). That sum is the map of the class: the contribution of each position
    to the logit.
    """

    def run(pixels: Array) -> NetworkOutput:
        logits, maps = session.run(pixels)
        return NetworkOutput(logits, lambda index: np.tensordot(session.weight[index], maps, axes=1))

    return run


def gradcam(module: nn.Module, size: int, threads: int) -> Method:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391), through the library pytorch-grad-cam.

    The map is the sum of the channels of the last feature map, weighted by the mean gradient of the logit, with
    negative values set to 0. Its unit is arbitrary.

    Raises:
        CompoundNetError: the library is not installed, or the module makes no feature map.
    """
    need("pytorch_grad_cam", "the method gradcam")
    import torch  # noqa: PLC0415  class activation maps of an exported file need no torch
    from pytorch_grad_cam import GradCAM  # noqa: PLC0415  an extra
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: PLC0415

    net = copy.deepcopy(for_inference(module))  # the library leaves gradients in it
    layer = last_map(net, size)

    def run(pixels: Array) -> NetworkOutput:
        batch = torch.from_numpy(pixels)[None]
        with torch_threads(threads), torch.inference_mode():
            logits = net(batch)[0].numpy()

        @torch_threads(threads)
        def map_of(index: int) -> Array:
            maker = GradCAM(model=net, target_layers=[layer])
            targets = [ClassifierOutputTarget(index)]
            try:
                maker(batch, targets)
                # The result of the library is resized to the input and scaled to 0..1; this is the map before that.
                kept = maker.activations_and_grads
                activations, gradients = kept.activations[0].numpy(), kept.gradients[0].numpy()
                found: Any = maker.get_cam_image(batch, layer, targets, activations, gradients)
            finally:
                maker.activations_and_grads.release()
            positive: Array = np.maximum(found[0], 0)
            return positive

        return NetworkOutput(logits, map_of)

    return run


def last_map(net: nn.Module, size: int) -> nn.Module:
    """Return the module whose output is the last feature map, float32[N, C, h, w] with more than one position."""
    import torch  # noqa: PLC0415  as above

    found: list[nn.Module] = []

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            found.append(module)

    handles = [module.register_forward_hook(note) for module in net.modules()]
    try:
        with torch.inference_mode():
            net(torch.zeros(1, 3, size, size))
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise CompoundNetError(f"{type(net).__name__} makes no feature map of {size} px images; Grad-CAM needs one")
    return found[-1]
