"""Another library's weights file as a model folder, and a model as another library's weights file."""

from __future__ import annotations

import os
from pathlib import Path

from compoundnet.arch import Network
from compoundnet.base import CompoundNetError, check_output_file
from compoundnet.models import layouts
from compoundnet.models.folder import check_target, write_folder
from compoundnet.models.foreign import ForeignModel, default_labels, read_foreign
from compoundnet.models.keras_files import write_keras
from compoundnet.models.labels import read_labels
from compoundnet.models.lookup import open_folder
from compoundnet.models.model import Model, ModelFolder
from compoundnet.models.preprocess import Preprocess, default_preprocess
from compoundnet.models.tensorflow_files import write_tensorflow
from compoundnet.models.weights_files import read_safetensors, sha256_of, write_state


def convert(
    source: str | os.PathLike[str] | ForeignModel,
    folder: str | os.PathLike[str],
    *,
    layout: str | None = None,
    network: Network | None = None,
    labels: str | os.PathLike[str] | None = None,
    preprocess: Preprocess | None = None,
    raw: bool = False,
    replace: bool = False,
) -> ModelFolder:
    """Make a model folder of another library's weights. The file determines the classes (0: a trunk) and input
    channels.

    Args:
        source: A checkpoint or weights file of torch, safetensors; `.h5` or `.keras` of Keras; the prefix of a
            TensorFlow checkpoint; a folder of the Hugging Face hub, or `hf-hub:OWNER/NAME`; or what `read_foreign` made
            of one.
        folder: The model folder to write.
        layout: The library of the weights, a name of `LAYOUTS`; by default told from names and shapes.
        network: The network of the weights; its padding and batch norm become those of the layout. By default told
            from names and shapes, also where it is a network of the catalogue scaled in depth or width.
        labels: A file with one class per line; by default those of the source, or ImageNet's names if there are 1000
            classes.
        preprocess: By default the preprocessing stated in the source, otherwise `default_preprocess`.
        raw: Whether to take the trained weights where the source holds their moving average too.
        replace: Whether to write over an older model folder.

    Returns:
        The new model.

    Raises:
        CompoundNetError: The source cannot be read safely or does not hold such a network, or the folder exists.
    """
    target = Path(folder)
    check_target(target, replace)
    if isinstance(source, ForeignModel):
        found = source
    else:
        found = read_foreign(source, layout=layout, network=network, raw=raw)
    if labels is not None:
        names: tuple[str, ...] | None = read_labels(Path(labels), found.network.num_classes)
    else:
        names = found.labels or default_labels(found.network)
    return write_folder(
        target,
        found.network,
        found.state,
        preprocess or found.preprocess or default_preprocess(found.network),
        labels=names,
        postprocess=found.postprocess,
        readme=_readme(found),
        replace=replace,
    )


def convert_to(
    model: str | os.PathLike[str] | Model, file: str | os.PathLike[str], *, layout: str, replace: bool = False
) -> Path:
    """Write the weights of a model in the form that another library loads; the counterpart of `convert`.

    Args:
        model: A name of `compoundnet models list`, a model folder, or an opened one.
        file: The file to write: `.safetensors`, or `.pth` for torch.load; `.h5` for the layout keras; for tensorflow
            the prefix of a checkpoint. Only `.pth` keeps the version number that torchvision's MNASNet requires.
        layout: The library that will load it, a name of `LAYOUTS`.
        replace: Whether to write over an older file.

    Returns:
        The file.

    Raises:
        CompoundNetError: The library has no such network, its model would compute something else (padding, batch norm),
            the suffix is wrong, or the file exists.
    """
    chosen, opened, target = layouts.layout(layout), open_folder(model), Path(file)
    check_output_file(target)
    written = target.with_name(f"{target.name}.index") if layout == "tensorflow" else target
    if written.exists() and not replace:
        raise CompoundNetError(f"{written} exists already; give another place, or --force to replace it")
    state = read_safetensors(opened.weights)
    match layout:
        case "keras":
            write_keras(target, opened.network, state, opened.preprocess)
        case "tensorflow":
            write_tensorflow(target, opened.network, state)
        case _:
            write_state(target, layouts.to_layout(state, opened.network, chosen))
    return target


def _readme(found: ForeignModel) -> str:
    path = found.source
    checksum = f", sha256 {sha256_of(path)}" if path.is_file() else ""
    notes = "".join(f"- {note[0].upper()}{note[1:]}.\n" for note in found.notes)
    return f"""# {found.network.name}

A model folder of compoundnet, converted by `compoundnet models convert`.

- Weights: {path.name}{checksum}, in the layout {found.layout}.
{notes}- Accuracy and licence: those of the file it was made of. `compoundnet evaluate` measures accuracy.
"""
