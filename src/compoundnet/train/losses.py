"""The losses of images with one class each, besides cross-entropy: binary cross-entropy, and what a teacher adds."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from compoundnet.train.recipe_parts import Distillation


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy of each class, summed over the classes and averaged over images.

    Where images are mixed, all of their classes are present, whatever their shares (Wightman et al. 2021,
    arXiv:2110.00476). The sum over the classes gives gradients of the size of cross-entropy's, however many classes
    there are; the paper's code takes the mean, which AdamW and LAMB do not notice.

    Args:
        label_smoothing: Fraction of a target that is spread evenly over all classes, as in cross-entropy.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of logits float32[N, classes], and classes int64[N] or probabilities float32[N,
        classes]."""
        classes = logits.shape[1]
        present = F.one_hot(targets, classes) if targets.ndim == 1 else targets > 0
        wanted = present.float() * (1 - self.label_smoothing) + self.label_smoothing / classes
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1).mean()


def teacher_loss(logits: Tensor, taught: Tensor, how: Distillation) -> Tensor:
    """Return temperature^2 times the divergence of the student's probabilities from the teacher's, a scalar.

    Args:
        logits: float32[N, classes], the student's.
        taught: float32[N, classes], the teacher's probabilities at that temperature.
        how: The temperature.
    """
    student = F.log_softmax(logits / how.temperature, 1)
    return F.kl_div(student, taught, reduction="batchmean") * how.temperature**2


def similarity_loss(features: Tensor, taught: Tensor) -> Tensor:
    """Compare how alike the images of a batch are to student and teacher (Tung and Mori 2019, arXiv:1907.09682).

    Needs no layer that translates features, so nothing is trained besides the network.

    Args:
        features: float[N, F], the student's.
        taught: float[N, G], the teacher's.

    Returns:
        The squared distance of the rows of both matrices of scalar products, each row of length 1, averaged over the
        images: from 0 to 4.
    """
    mine, theirs = (
        F.normalize(flat @ flat.T, dim=1) for flat in (features.float().flatten(1), taught.float().flatten(1))
    )
    return (mine - theirs).square().sum(1).mean()
