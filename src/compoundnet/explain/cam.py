"""Class activation maps exactly as Zhou et al. 2016 (arXiv:1512.04150, equations 1 and 2) define them.

The classifier of these networks reads the mean of the last feature map f. So a class's logit is its bias plus the mean
over places of sum_k w_k f_k(x, y): that sum is the class's map, and it is what each place adds to the logit.
"""

from __future__ import annotations

import numpy as np

from compoundnet.explain.maps import Array, Method, Seen
from compoundnet.runtime.feature_session import FeatureSession


def cam(session: FeatureSession) -> Method:
    """Maps of a network whose classifier is linear over pooled features."""

    def see(pixels: Array) -> Seen:
        logits, maps = session.run(pixels)
        return Seen(logits, lambda index: np.tensordot(session.weight[index], maps, axes=1))

    return see
