"""Other services for bench_serve.py: `python service_peers.py ENGINE PREDICTOR PORT`, in the environment of the peers.

ENGINE is fastapi, litserve or bentoml, each in its documented form with two worker processes; PREDICTOR is `timm`, its
eager model with one thread, or `ours`. The variable MODEL names our model; TIMM and WEIGHTS timm's and its file.
"""

import io
import os
import sys
from collections.abc import Callable
from typing import Any

import bentoml
import litserve
from fastapi import FastAPI, File, UploadFile
from PIL import Image

_WORKERS = 2


def predictor() -> Callable[[Image.Image], int]:
    """A function that returns the index of an image's most probable class."""
    if os.environ["PREDICTOR"] == "ours":
        from compoundnet.runtime import Predictor

        ours = Predictor(os.environ["MODEL"], threads=1, top=1)
        return lambda image: ours(image).predictions[0].index
    import timm
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    module = timm.create_model(os.environ["TIMM"]).eval()
    module.load_state_dict(load_file(os.environ["WEIGHTS"]))
    module = module.to(memory_format=torch.channels_last)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=module))

    def predict(image: Image.Image) -> int:
        with torch.inference_mode():
            pixels = transform(image.convert("RGB"))[None].to(memory_format=torch.channels_last)
            return int(module(pixels).argmax())

    return predict


def fastapi_app() -> Any:
    """An app of one endpoint; each process runs one image at a time."""
    predict, app = predictor(), FastAPI()

    async def classify(image: bytes = File()) -> dict[str, int]:
        return {"index": predict(Image.open(io.BytesIO(image)))}

    app.post("/predict")(classify)
    return app


class LitServePeer(litserve.LitAPI):  # type: ignore[misc]
    """The same for LitServe."""

    def setup(self, device: str) -> None:  # noqa: ARG002  its name for the argument
        self._run = predictor()

    def decode_request(self, request: UploadFile) -> Image.Image:
        return Image.open(io.BytesIO(request.file.read()))

    def predict(self, image: Image.Image) -> int:
        return self._run(image)

    def encode_response(self, output: int) -> dict[str, int]:
        return {"index": output}


class BentoPeer:
    """The same for BentoML."""

    def __init__(self) -> None:
        self._run = predictor()

    def predict(self, image: Image.Image) -> dict[str, int]:
        return {"index": self._run(image)}

    predict = bentoml.api(predict)


bento = bentoml.service(BentoPeer, workers=_WORKERS, logging={"access": {"enabled": False}})


def main() -> None:
    engine, os.environ["PREDICTOR"], port = sys.argv[1:]
    match engine:
        case "fastapi":
            import uvicorn

            uvicorn.run(
                "service_peers:fastapi_app", factory=True, port=int(port), workers=_WORKERS, log_level="error",
                access_log=False,
            )  # fmt: skip
        case "litserve":
            server = litserve.LitServer(LitServePeer(), accelerator="cpu", workers_per_device=_WORKERS)
            server.run(port=int(port), log_level="error", generate_client_file=False)
        case "bentoml":
            words = ["-m", "bentoml", "serve", "service_peers:bento", "--port", port, "--host", "127.0.0.1"]
            os.execve(sys.executable, [sys.executable, *words], {**os.environ, "BENTOML_DO_NOT_TRACK": "1"})


if __name__ == "__main__":
    main()
