"""The network of the usual FID: Inception v3 as TensorFlow trained it in 2015, by torch-fidelity.

Its features are not those of timm's or torchvision's Inception: FIDs are only comparable when they come from this one
(https://arxiv.org/abs/1706.08500, https://github.com/toshas/torch-fidelity).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslcurr.errors import CheckpointError, SpecError, did_you_mean

FILE_NAME = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE_NAME}"
IMAGE_SIZE = 299
LAYERS = {"pooled": "2048", "64": "64", "192": "192", "768": "768", "2048": "2048"}


def find_weights(path: Path | None, *, download: bool = False) -> Path:
    """The file with the network's weights: `path`, or where torch-fidelity keeps its own; fetched if asked for.

    Raises:
        CheckpointError: it is not there, or cannot be fetched.
    """
    if path is not None:
        if not path.is_file():
            raise CheckpointError(f"there is no file {path}", "give torch-fidelity's Inception weights")
        return path
    kept = Path(torch.hub.get_dir()) / "checkpoints" / FILE_NAME
    if kept.is_file():
        return kept
    if not download:
        raise CheckpointError(
            f"the Inception weights {FILE_NAME} are not on this machine",
            f"give --inception-weights FILE or --download (from {URL}), or --models with checkpoints of your own",
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(URL, str(kept), hash_prefix="6726825d", progress=False)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot fetch {URL} ({error})", "fetch it elsewhere and give --inception-weights FILE"
        ) from error
    return kept


def inception(weights: Path, layer: str, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The network as a function of [N, C, S, S] uint8 images: enlarged to 299 px its own way, features [N, D] out.

    Args:
        weights: torch-fidelity's file.
        layer: `pooled` (2,048 features), 64, 192 or 768.
        device: where it is computed.

    Raises:
        SpecError: no such layer, or torch-fidelity is not installed. CheckpointError: the file holds something else.
    """
    if layer not in LAYERS:
        raise SpecError(f"Inception has no layer {layer!r}", did_you_mean(layer, LAYERS))
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise SpecError("the Inception network needs torch-fidelity", "pip install 'sslcurr[fid]'") from error
    from sslcurr.backbones.foreign_read import read_state

    # It unpickles any file, which may run code; so it gets a file that holds the tensors only.
    state = read_state(weights)
    with tempfile.TemporaryDirectory() as folder:
        safe = Path(folder) / "weights.pth"
        torch.save(state, safe)
        try:
            network: Any = FeatureExtractorInceptionV3("inception", [LAYERS[layer]], str(safe))
        except RuntimeError as error:
            raise CheckpointError(
                f"{weights} does not hold the Inception weights of torch-fidelity", f"they are at {URL}"
            ) from error
    network = network.to(device)

    def features(images: Tensor) -> Tensor:
        outputs: list[Tensor] = network(images.expand(-1, 3, -1, -1))
        return outputs[0]

    return features
