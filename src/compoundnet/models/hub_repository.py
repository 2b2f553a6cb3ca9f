"""A model folder as a repository of the Hugging Face hub: our own files, timm's form of them, and a model card."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compoundnet import arch
from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, Notify, ignore, need, whole_folder
from compoundnet.base.units import format_count
from compoundnet.models import layouts
from compoundnet.models.hub import check_reachable, hub_errors, parse_hub_name
from compoundnet.models.layouts.timm import timm_name
from compoundnet.models.lookup import open_folder
from compoundnet.models.model import Model, ModelFolder
from compoundnet.models.preprocess import Preprocess
from compoundnet.models.weights_files import read_safetensors

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_CROP_MODES = {"crop": "center", "squash": "squash", "pad": "border"}
_LISTED = 100  # classes that a model card lists
_KEPT_OUT = ("log.csv",)


def push(
    model: str | os.PathLike[str] | Model,
    repository: str,
    *,
    private: bool = False,
    message: str = "Add model",
    notify: Notify = ignore,
) -> str:
    """Write a model to the hub: a repository that `hf-hub:OWNER/NAME` opens here, and timm where it has the network.

    Args:
        model: A model folder, or a name of `compoundnet models list`.
        repository: `hf-hub:OWNER/NAME`; it is made if it does not exist.
        private: Whether a new repository is private.
        message: The message of the commit.
        notify: Called with remarks.

    Returns:
        The address of the repository's page.

    Raises:
        CompoundNetError: There is no token, or it may not write there; or the hub cannot be reached.
    """
    need("huggingface_hub", "pushing to the hub")
    from huggingface_hub import HfApi, get_token  # noqa: PLC0415  not in the base install

    opened, target = open_folder(model), parse_hub_name(repository)
    if get_token() is None:
        raise CompoundNetError(
            "pushing needs a token of the hub with the right to write: run `hf auth login`, or set HF_TOKEN;"
            f" --output FOLDER writes what would be pushed to {target} without one"
        )
    with tempfile.TemporaryDirectory() as scratch, hub_errors(target, "push"):
        folder = write_repository(opened, Path(scratch) / "repository", target.name, notify=notify)
        check_reachable()
        api = HfApi(library_name="compoundnet")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of huggingface_hub's own use of httpx
            api.create_repo(target.name, private=private, exist_ok=True)
            api.upload_folder(repo_id=target.name, folder_path=folder, revision=target.revision, commit_message=message)
    return target.page


def write_repository(
    model: str | os.PathLike[str] | Model, folder: str | os.PathLike[str], name: str, *, notify: Notify = ignore
) -> Path:
    """Write to a folder what `push` writes to the hub.

    Besides the files of the model folder these are a model card, and `config.json` and `model.safetensors` in timm's
    form if timm has a model that computes the same.

    Args:
        model: A model folder, or a name of `compoundnet models list`.
        folder: The folder to write, which must not exist.
        name: OWNER/NAME, for the model card.
        notify: Called with a remark if timm has no such model.

    Returns:
        The folder.
    """
    opened, target = open_folder(model), Path(folder)
    if target.exists():
        raise CompoundNetError(f"{target} exists already; give another place")
    theirs = timm_model(opened.network)
    if theirs is None:
        notify(f"timm has no model that computes what {opened.network.name} does, so that only compoundnet opens it")
    with whole_folder(target) as whole:
        for file in sorted(opened.folder.iterdir()):
            if file.is_file() and not file.name.startswith(".") and file.name not in _KEPT_OUT:
                shutil.copyfile(file, whole / file.name)
        if theirs is not None:
            from safetensors.torch import save_file  # noqa: PLC0415  imports torch

            architecture, layout = theirs
            state = layouts.to_layout(read_safetensors(opened.weights), opened.network, layouts.layout(layout))
            save_file(
                {key: tensor.contiguous() for key, tensor in state.items()},
                whole / "model.safetensors",
                {"format": "pt"},
            )
            (whole / "config.json").write_text(json.dumps(timm_config(opened, architecture), indent=2) + "\n")
        (whole / "README.md").write_text(_card(opened, name, theirs is not None), encoding="utf-8")
    return target


def timm_model(network: Network) -> tuple[str, str] | None:
    """Return timm's name of the model that computes the same, and its layout; None if there is none.

    timm builds its models by name, so that a network of other depth or width than those of the catalogue has none.
    """
    of = next((known for known in arch.networks().values() if _is_same(known, network)), None)
    if of is None:
        return None
    layout = "timm" if network.padding == "same" else "timm-native"
    try:
        adapted = layouts.layout(layout).adapt(network)
        layouts.layout(layout).pairs(adapted)
    except CompoundNetError:
        return None
    if (adapted.padding, adapted.norm.eps) != (network.padding, network.norm.eps):
        return None
    name = timm_name(of.name, layout)
    return (name, layout) if name else None


def _is_same(known: Network, network: Network) -> bool:
    return (known.stem, known.stages, known.head, known.activation) == (
        network.stem, network.stages, network.head, network.activation,
    )  # fmt: skip


def timm_config(model: ModelFolder, architecture: str) -> dict[str, Any]:
    """Return the content of `config.json` from which timm builds the model, with labels and preprocessing."""
    network, preprocess = model.network, model.preprocess
    resnet = not network.head.channels and architecture.startswith(("resn", "wide"))
    size = [network.in_channels, preprocess.size, preprocess.size]
    config: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": network.num_classes,
        "num_features": network.features,
    }
    if model.labels is not None:
        config["label_names"] = list(model.labels)
    if network.in_channels != 3:
        config["model_args"] = {"in_chans": network.in_channels}
    config["pretrained_cfg"] = {
        "custom_load": False,
        "input_size": size,
        "fixed_input_size": False,
        "interpolation": preprocess.interpolation,
        "crop_pct": preprocess.crop,
        "crop_mode": _CROP_MODES[preprocess.fit],
        "mean": _per_channel(preprocess.mean),
        "std": _per_channel(preprocess.std),
        "num_classes": network.num_classes,
        "pool_size": None,
        "first_conv": "conv1" if resnet else "conv_stem",
        "classifier": "fc" if resnet else "classifier",
    }
    return config


def _per_channel(values: tuple[float, ...]) -> list[float]:
    return list(values) * (3 if len(values) == 1 else 1)


def _card(model: ModelFolder, name: str, in_timm: bool) -> str:
    """The model card: metadata, what the model is, how to use it, and the folder's own README."""
    from huggingface_hub import ModelCardData  # noqa: PLC0415  not in the base install

    network, cost = model.network, arch.cost(model.network)
    measured = _measured(model)
    data = ModelCardData(
        library_name="timm" if in_timm else "compoundnet",
        pipeline_tag="image-classification",
        tags=["image-classification", "compoundnet", *(["timm"] if in_timm else [])],
        model_name=name,
        eval_results=measured,
    )
    lines = [f"---\n{data.to_yaml()}\n---", f"# {name}", ""]
    lines.append(
        f"{network.name}, {format_count(cost.params)} parameters and {format_count(cost.macs)} multiply-adds for an"
        f" image of {network.resolution} px; written by compoundnet."
    )
    lines += ["", "## Accuracy", ""]
    lines += [f"- {one.dataset_name}: top-1 {100 * one.metric_value:.2f} %" for one in measured or ()] or [
        "Not measured."
    ]
    lines += ["", "## Preprocessing", "", f"{_described(model.preprocess)}."]
    if model.labels is not None:
        listed = ", ".join(label.replace("\n", " ") for label in model.labels[:_LISTED])
        more = f" and {len(model.labels) - _LISTED} more (`labels.txt`)" if len(model.labels) > _LISTED else ""
        lines += ["", f"## Classes ({len(model.labels)})", "", f"{listed}{more}."]
    lines += ["", "## Use", "", "```sh", f"compoundnet predict hf-hub:{name} cat.jpg", "```"]
    if in_timm:
        lines += [
            "",
            "```python",
            "import timm",
            "",
            f'model = timm.create_model("hf-hub:{name}", pretrained=True)',
            "```",
        ]
    readme = model.folder / "README.md"
    if readme.is_file():
        own = re.sub(r"\A---\n.*?\n---\n", "", readme.read_text(encoding="utf-8", errors="replace"), flags=re.DOTALL)
        lines += ["", "## Origin", "", re.sub(r"^#", "##", own.strip(), flags=re.MULTILINE)]
    return "\n".join(lines) + "\n"


def _described(preprocess: Preprocess) -> str:
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (preprocess.mean, preprocess.std))
    return f"Of an image the network sees {preprocess.describe()} ({preprocess.interpolation}), mean {mean}, std {std}"


def _measured(model: ModelFolder) -> list[EvalResult] | None:
    """The accuracy in the folder's result.json, if training measured it."""
    from huggingface_hub import EvalResult  # noqa: PLC0415  not in the base install

    try:
        found = json.loads((model.folder / "result.json").read_text(encoding="utf-8"))
        top1, dataset = float(found["top1"]), str(found["dataset"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return [
        EvalResult(
            task_type="image-classification", dataset_type=re.sub(r"\W+", "-", dataset).strip("-") or "own",
            dataset_name=dataset, metric_type="accuracy", metric_value=round(top1, 6), metric_name="top-1",
        )
    ]  # fmt: skip
