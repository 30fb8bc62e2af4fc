"""A tuned file from one's own training loop, and answers from one, without a config: `ppadapt.save`, `ppadapt.load`."""
from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Mapping, Optional, Sequence, Union

import numpy as np
import paddle
from paddle import nn
from PIL import Image

from .. import weights
from ..build.manifests import check_fits, described
from ..data import BrokenImageError, build_transforms, decode_image
from ..data.decode import picture_pixels
from ..data.labels import check_names
from ..errors import ConfigError, UserError, brief, choose
from ..models.anatomy import Anatomy
from ..models.catalogue import anatomy_of
from ..models.heads import HEADS
from ..options import construct, typed
from ..ranges import Count
from ..tasks import SingleLabel, Task, from_manifest
from ..tuning import METHODS, Adaptation, attach

# An image as people have it: a path, encoded bytes, Pillow's, or uint8 [H, W, 3] (or [H, W], grey). Pillow's is taken
# as its file would be: turned as its EXIF says, 16 bits brought to 8.
Picture = Union[str, os.PathLike, bytes, Image.Image, np.ndarray]
_NO_ARRAYS = (str, os.PathLike, bytes, Image.Image)
_GIVE = ("a path, the bytes of an image file, an image of Pillow's, or an array of uint8, [H, W, 3] in RGB or [H, W] "
         "in grey")


def save(path: Union[str, os.PathLike], adaptation: Adaptation, classes: Sequence[str], preprocess: Sequence[Any],
         task: Optional[Task] = None, metrics: Optional[Mapping[str, Any]] = None) -> None:
    """Write what was trained as a tuned file, which `load`, `ppadapt.Bank` and `ppadapt infer` take.

    Args:
        path: of the `.safetensors`.
        classes: their names, in the order of the head's outputs.
        preprocess: what makes an image ready, as `transform_ops` of a config: `[{"ResizeImage": {"size": 32}}, ...]`.
        task: one label per image when absent.
        metrics: what it reached, to be told by the file.

    Raises:
        UserError: for a network or head that the file could not name, another number of classes than outputs, names
            that stand twice, operators that are unknown or draw at random, and values that are NaN or infinite.
    """
    if isinstance(classes, str):
        raise ConfigError(f"classes is the text {brief(classes)}: give a list of names")
    classes = list(map(str, classes))
    check_names(classes, os.fspath(path))
    drawing = [type(op).__name__ for op in build_transforms(list(preprocess)).ops if op.random]
    if drawing:
        raise ConfigError(f"preprocess draws at random ({', '.join(drawing)}), so that each answer would be another: "
                          "give what the evaluation does")
    network, task = adaptation.network, task or SingleLabel()
    built_as = getattr(network, "built_as", None)
    if built_as is None:
        raise ConfigError(f"{type(network).__name__} was not built by ppadapt.network, so that the file could not say "
                          "of which network it is: keep adaptation.state() by your own means")
    name, outputs = _head_of(network, adaptation.anatomy)
    if outputs != len(classes):
        raise ConfigError(f"there are {len(classes)} classes and the head has {outputs} outputs: name each of them")
    weights.save_tuned(path, adaptation.state(), {
        "tuning": [{"name": type(m).__name__, **m.options} for m in adaptation.methods],
        "backbone": {**built_as, "frozen_dtype": "float32", "digest": adaptation.backbone_digest},
        "head": name, "preprocess": described(list(preprocess)), "classes": classes,
        "task": task.manifest(), "metrics": dict(metrics or {})})


class Classifier:
    """A network with a tuned file: answers for images as people have them, by the file's own preprocessing.

    Attributes:
        adaptation: the network with what was tuned, in eval mode.
        classes: names, in the order of the outputs.
        task: what is asked of an image.
        transform: makes uint8 [H, W, 3] ready.
        manifest: what the file says of itself.
    """

    def __init__(self, adaptation: Adaptation, manifest: Mapping[str, Any]):
        self.adaptation, self.manifest = adaptation, manifest
        self.classes: list[str] = list(manifest["classes"])
        self.task: Task = from_manifest(manifest.get("task"))
        self.transform = build_transforms(manifest.get("preprocess"))

    def prepare(self, images: Sequence[Picture]) -> np.ndarray:
        """What the network reads, float32 [N, C, H, W]. Raises UserError for no image, and for several sizes."""
        ready = [self.transform.array(pixels(image)) for image in images]
        shapes = sorted({array.shape for array in ready})
        if len(shapes) > 1:
            raise ConfigError(f"the images end in several sizes ({', '.join(map(str, shapes[:3]))}): the file's "
                              "preprocessing does not bring them to one, so give images of one size")
        return np.stack(ready)

    @paddle.no_grad()
    def probabilities(self, images: Union[Picture, Sequence[Picture]], batch_size: int = 32) -> np.ndarray:
        """float32 [N, classes] of one image or several.

        Raises:
            UserError: for what is no image, and for an answer that is NaN or infinite.
        """
        images, batch_size = _several(images), typed(batch_size, Count, "batch_size")
        found = []
        for start in range(0, len(images), batch_size):
            logits = self.adaptation(paddle.to_tensor(self.prepare(images[start:start + batch_size])))
            found.append(self.task.probabilities(logits.astype("float32")).numpy())
            broken = np.flatnonzero(~np.isfinite(found[-1]).all(axis=1))
            if len(broken):
                raise UserError(f"the network's answer to image {start + broken[0]} is NaN or infinite: its weights "
                                "are damaged, or half precision overflowed")
        return np.concatenate(found) if found else np.zeros([0, len(self.classes)], np.float32)

    def predict(self, images: Union[Picture, Sequence[Picture]], topk: int = 5) -> list[list[dict[str, Any]]]:
        """An answer an image, best first: `[{"class": "cat", "id": 3, "probability": 0.98}, ...]`."""
        topk = typed(topk, Count, "topk")
        return [self.task.answer(row, self.classes, topk) for row in self.probabilities(images)]


def load(path: Union[str, os.PathLike], network: nn.Layer, anatomy: Optional[Anatomy] = None) -> Classifier:
    """Put a tuned file on a network, in place.

    Args:
        network: the one that it was trained on, with its pretrained weights and without a tuning method.
        anatomy: where the network keeps its parts; None: known for our networks and PaddleClas's.

    Raises:
        UserError: for a file that is damaged or of another network, naming both sides. The network is then as before.
    """
    tensors, manifest = weights.load_tuned(path)
    if not manifest.get("classes"):
        raise ConfigError(f"{path} names no classes: it cannot answer")
    anatomy = anatomy_of(network) if anatomy is None else anatomy
    methods = [construct(METHODS, dict(options), f"{path}: tuning") for options in manifest.get("tuning") or ()]
    name = manifest.get("head")
    if name not in HEADS:
        raise ConfigError(f"{path}: " + choose("head", name, HEADS))
    head = HEADS[name](anatomy.feature_dim(network), len(manifest["classes"]))
    own = {n for n, _ in network.named_parameters() if not anatomy.is_head(n)}
    adaptation = attach(network, *methods, anatomy=anatomy, head=head, also_train=sorted(own & tensors.keys()))
    try:
        dtype = manifest["backbone"].get("frozen_dtype", "float32")
        wanted = {**getattr(network, "built_as", {}), "frozen_dtype": dtype, "digest": adaptation.backbone_digest}
        if all(not p.stop_gradient for p in network.parameters()):
            del wanted["digest"]  # the file holds all of the network
        check_fits(os.fspath(path), manifest, {"backbone": wanted})
        adaptation.load_state(tensors)
        if dtype != "float32":
            adaptation.store_frozen(dtype)
    except UserError:
        adaptation.detach()
        raise
    return Classifier(adaptation.eval(), manifest)


def pixels(image: Picture) -> np.ndarray:
    """uint8 [H, W, 3] RGB, as the data sets decode it. Raises UserError for what is no image."""
    if isinstance(image, Image.Image):
        try:
            return picture_pixels(image, getattr(image, "filename", "") or "of Pillow's")
        except OSError as error:  # it reads the file only now
            raise BrokenImageError(f"Image {getattr(image, 'filename', '')} cannot be read ({error}).") from None
    if isinstance(image, _NO_ARRAYS):
        return decode_image(image)
    if not isinstance(image, np.ndarray):
        raise ConfigError(f"an image is {brief(type(image).__name__)}: give {_GIVE}")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.ndim == 3 and image.shape[2] != 3 or not image.size:
        raise ConfigError(f"an image is {image.dtype} {list(image.shape)}: give uint8 [H, W, 3] in RGB or [H, W] in "
                          "grey, as it was before any preprocessing")
    return np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image


def _several(images: Union[Picture, Sequence[Picture]]) -> list[Picture]:
    """Each image of what may be one. Of arrays only [N, H, W, 3] is several: [3, H, W] might be one, or three."""
    if isinstance(images, np.ndarray) and images.ndim != 4 or isinstance(images, _NO_ARRAYS):
        return [images]
    if not isinstance(images, (np.ndarray, list, tuple, Iterator)):
        raise ConfigError(f"images are {brief(type(images).__name__)}: give {_GIVE}; or a list of them")
    return list(images)


def _head_of(network: nn.Layer, anatomy: Anatomy) -> tuple[str, int]:
    """The name of a network's head in `HEADS`, and its outputs. Raises ConfigError for one of another kind."""
    head = dict(network.named_sublayers()).get(anatomy.head)
    for name, make in HEADS.items():
        last = head[-1] if isinstance(head, nn.Sequential) and len(head) else head
        if head is not None and isinstance(last, nn.Linear):
            width, outputs = last.weight.shape
            made, found = (layer.sublayers(include_self=True) for layer in (make(width, outputs), head))
            if len(made) == len(found) and all(isinstance(b, type(a)) for a, b in zip(made, found)):
                return name, outputs
    raise ConfigError(f"the head at {anatomy.head!r} is none of ppadapt.heads ({', '.join(HEADS)}), which a tuned file "
                      "could name: attach one of those, or keep adaptation.state() by your own means")
