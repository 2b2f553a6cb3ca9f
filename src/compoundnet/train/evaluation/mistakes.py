"""The sheet of an evaluation's worst mistakes: each image with the maps of the classes that were confused."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from compoundnet.base import CompoundNetError
from compoundnet.explain import ROWS, Explainer, Explanation, Page, sheet
from compoundnet.explain.sheets import tell_illegible
from compoundnet.train.evaluation.evaluate import Evaluation

# A page of more images would be long to look through.
MISTAKES = 12


def mistakes_sheet(evaluation: Evaluation, explainer: Explainer, most: int = MISTAKES) -> Page | None:
    """Draw the worst mistakes of an evaluation, with class activation maps of the predicted and the true class.

    The worst mistakes are the wrong predictions of the highest probability: wrong labels of the data set are often
    among them.

    Args:
        evaluation: From `evaluate`.
        explainer: Of the same model.
        most: The largest number of images, 1 to 50.

    Returns:
        The page; None if there are no mistakes.
    """
    if not 1 <= most <= ROWS:
        raise CompoundNetError(f"a sheet shows 1 to {ROWS} images, got {most}")
    worst = evaluation.report.mistakes(most)
    if not worst:
        return None

    tell_illegible(explainer)

    def explained() -> Iterator[Explanation]:
        for mistake in worst:
            classes = [number for _, number in mistake.classes]  # labels may repeat
            found = explainer(evaluation.split.image(mistake.image), classes=classes)
            yield msgspec.structs.replace(found, path=evaluation.split.image_name(mistake.image))

    return sheet(explained(), [[role for role, _ in mistake.classes] for mistake in worst])
