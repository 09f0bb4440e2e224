"""Class activation maps of a classifier: where in an image the evidence for a class lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sslcurr.errors import SpecError


def class_maps(
    classifier: nn.Module,
    layer: nn.Module,
    images: Tensor,
    method: str,
    classes: Tensor | None = None,
    to_map: Callable[[Tensor], Tensor] = lambda output: output,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What of each image speaks for a class, as the papers define it: 0 or more, in the size of the layer's maps.

    The package grad-cam (https://github.com/jacobgil/pytorch-grad-cam) stretches every map from 0 to 1, and so takes
    off its lowest value. Shares of a map's mass need the map as it is, so nothing is stretched here. The sign of
    EigenCAM's component is arbitrary; the side that reaches further from 0 is positive here
    (https://doi.org/10.3390/app15137562).

    Args:
        classifier: gives [N, C] logits; it is used in evaluation mode.
        layer: the part of it whose output, [N, channels, h, w], is weighted.
        to_map: makes such an output of what the layer gives.
        images: [N, channels, H, W] views.
        method: one of `measures.attention.CAM_METHODS`.
        classes: [N] the class that each map is for; None: the predicted one.

    Returns:
        [N, h, w] maps, and the [N] predicted classes.

    Raises:
        SpecError: the layer gives no maps, or is not used.
    """
    tensors: dict[str, Tensor] = {}

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim < 3:
            raise SpecError("the layer gives no [N, channels, h, w] maps", "name another with --layer, such as layer4")
        tensors["activations"] = to_map(output.detach()).clone()  # what follows may write over it
        if output.requires_grad:
            output.register_hook(lambda gradient: tensors.update(gradients=to_map(gradient.detach())))

    modes = {part: part.training for part in classifier.modules()}
    classifier.eval()
    hook = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            # A view that needs a gradient: so do then all maps, whether or not the weights are frozen.
            logits = classifier(images.detach().requires_grad_())
            predicted = logits.argmax(dim=1)
            if "activations" not in tensors:
                raise SpecError("the layer is not used by the network", "name another with --layer")
            if method != "eigencam":
                wanted = predicted if classes is None else classes.to(logits.device)
                logits.gather(1, wanted[:, None]).sum().backward()
        activations = tensors["activations"].float().cpu().numpy()
        if method == "eigencam":
            maps = first_components(activations)
        else:
            gradients = tensors["gradients"].float().cpu().numpy()
            plain = method == "gradcam"
            weights = gradcam_weights(gradients) if plain else gradcam_plus_plus_weights(activations, gradients)
            maps = (weights[:, :, None, None] * activations).sum(axis=1)
    finally:
        hook.remove()
        for part, mode in modes.items():
            part.training = mode
        classifier.zero_grad(set_to_none=True)
    return np.maximum(maps, 0).astype(np.float32), predicted.cpu().numpy()


def gradcam_weights(gradients: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, C]: Grad-CAM's weight of each map, the mean of its gradients [N, C, h, w] over its cells.

    Equation 1 of https://arxiv.org/abs/1610.02391.
    """
    weights: NDArray[np.float32] = gradients.mean(axis=(2, 3))
    return weights


def gradcam_plus_plus_weights(activations: NDArray[np.float32], gradients: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, C]: Grad-CAM++'s weight of each map, the sum of its positive gradients over its cells, each with a factor.

    The factor of a cell is g^2 / (2 g^2 + S g^3), where g is its gradient and S the sum of its map's [N, C, h, w]
    activations: equation 19 of https://arxiv.org/abs/1710.11063, where powers of g stand for the higher derivatives.
    """
    squares = gradients**2
    sums = activations.sum(axis=(2, 3), keepdims=True)
    factors = squares / (2 * squares + sums * (squares * gradients) + 1e-6)  # 0 where there is no gradient
    weights: NDArray[np.float32] = (np.maximum(gradients, 0) * factors).sum(axis=(2, 3))
    return weights


def first_components(activations: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """[N, h, w]: the centred [N, C, h, w] activations of each image along their first principal component.

    The side that reaches further from 0 is the positive one.
    """
    num_images, _, height, width = activations.shape
    rows = activations.reshape(num_images, -1, height * width).transpose(0, 2, 1).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)
    _, _, right = np.linalg.svd(rows, full_matrices=False)
    along = (rows @ right[:, 0, :, None])[..., 0]
    turned = np.abs(along.min(axis=1)) > np.abs(along.max(axis=1))
    along[turned] *= -1
    return along.reshape(num_images, height, width)


def enlarged(maps: NDArray[np.floating[Any]], size: int) -> NDArray[np.float32]:
    """[N, h, w] maps at [N, size, size], bilinear, in the geometry of the view."""
    tensor = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[:, None]
    return F.interpolate(tensor, size=(size, size), mode="bilinear", align_corners=False)[:, 0].numpy()
