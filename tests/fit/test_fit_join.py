"""A machine that joins the race of another on a PostgreSQL server."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from grey_images import images, write_models
from postgresql import PASSWORD, USER

from compoundnet.base import CompoundNetError
from compoundnet.fit import join_fit
from compoundnet.fit.candidates import measured
from compoundnet.fit.race import RungStudy
from compoundnet.models import open_folder
from compoundnet.models.weights_files import sha256_of
from compoundnet.trials.outcomes import data_identity
from compoundnet.trials.studies import create_study


def test_rungs_of_an_earlier_race_are_left_alone_and_models_must_be_the_same(tmp_path: Path, server: str) -> None:
    """The first rung is of other images, and its time was up an hour ago."""
    url = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@{server}/postgres"
    model, said = write_models(tmp_path)[0], list[str]()
    one, weights = measured(model, open_folder(model).network, 32, 3), sha256_of(open_folder(model).weights)
    rung = RungStudy("greys", (), {model: weights}, (one,), (1,), 0.1, 0.2, 0, last=True)

    def begin(number: int, settings: RungStudy, data: str, until: float) -> None:
        opened = create_study(settings, data, tmp_path / f"best-rung-{number}", url)
        opened.study.set_user_attr("until", until)
        opened.close()

    begin(1, rung, "other images", time.time() - 3600)
    begin(2, msgspec.structs.replace(rung, weights={"elsewhere": weights}), data_identity(images()), time.time() + 60)
    with pytest.raises(CompoundNetError, match="the fit starts from elsewhere, which is not among the models here"):
        join_fit(images(), tmp_path / "here" / "best", url, models=[model], notify=said.append)


def test_a_machine_that_joins_ends_with_the_last_rung(tmp_path: Path, server: str) -> None:
    url = f"postgresql://{USER}:{quote(PASSWORD, safe='')}@{server}/postgres"
    model, said = write_models(tmp_path)[0], list[str]()
    one, weights = measured(model, open_folder(model).network, 32, 3), sha256_of(open_folder(model).weights)
    rung = RungStudy("greys", (), {model: weights}, (one,), (1,), 0.1, 0.2, 0, last=True)
    opened = create_study(rung, data_identity(images()), tmp_path / "last-rung-1", url)
    opened.study.set_user_attr("until", time.time() + 60)
    opened.close()
    assert join_fit(images(), tmp_path / "here" / "last", url, models=[model], notify=said.append) == 1
    assert any("on the held-out images" in line for line in said)
