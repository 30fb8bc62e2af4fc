"""What tuning changed, in pictures: where attention goes, where the branches act, how features lie."""
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import numpy as np
import paddle
from paddle import nn

from .. import build, log
from ..build import TunedModel
from ..config import Config
from ..data import BrokenImageError, build_transforms, decode_image
from ..data.sample import look, pixels
from ..errors import UserError
from ..models.anatomy import Anatomy, find
from ..serve.infer import find_images
from ..serve.service import need_something_tuned
from ..tuning import observe
from ..tuning.rollout import rollout
from . import explain_pictures as pictures
from .explain_pictures import Shown

BATCH = 32


def explain(config: Config, folder: Path, images: Optional[str] = None, count: int = 8,
            points: int = 500) -> list[Path]:
    """Draw what the tuned network of a config does otherwise than the pretrained one. Returns the pictures' paths.

    Of each image `image-NN.png`: the attention rollout before and after, and how much the branch of each block adds to
    each patch; `grid.png` has all images. `features.png`: what the head reads of the test images, before and after, in
    two dimensions by PCA and t-SNE. What cannot be drawn of this network or method is said, with the reason.

    Args:
        folder: for the pictures.
        images: a file, folder or glob; None: test images of the classes in turn.
        count: of images.
        points: test images whose features are drawn; 0: none.

    Raises:
        UserError: for a mistake in the config, and where nothing can be drawn.
    """
    log.setup(notes=config.notes, facts=config.facts)
    build.set_device(config.Global.device)
    need_something_tuned(config)
    model = build.tuned_model(config, build.class_names(config))
    before = build.network(config, len(model.classes))[0]  # as it was published: what is tuned is not in it
    model.adaptation.eval()
    before.eval()
    shown, ready = _of_files(images, config, count) if images else _of_test_data(config, model, count)
    drawn = _draw_images(model, before, shown, ready, folder)
    if points:
        drawn += _draw_features(config, model, before, points, folder)
    if not drawn:
        raise UserError("nothing can be drawn of this network, method and data: the log says why")
    return drawn


def _of_test_data(config: Config, model: TunedModel, count: int) -> tuple[list[Shown], np.ndarray]:
    data = build.dataset(config.DataLoader.Eval, "test", config.Global.seed)
    data.keep(count)
    ready, labels = look(data, range(len(data)))
    if not len(ready):
        raise UserError("none of the test images can be read")
    return [Shown(image, str(_named(label, model.classes))) for image, label in
            zip(pixels(ready, data.transform), labels)], ready


def _named(label: Any, classes: list[str]) -> str:
    """A class, or several."""
    label = np.asarray(label)
    if label.ndim == 0 and label.dtype.kind in "iu":
        return classes[int(label)]
    return ", ".join(name for name, has in zip(classes, label.ravel()) if has > 0) or "nothing"


def _of_files(where: str, config: Config, count: int) -> tuple[list[Shown], np.ndarray]:
    transform = build_transforms(build.serving_ops(config.Infer.transforms,
                                                   config.DataLoader.Eval.dataset.get("transform_ops")))
    ready, names = [], []
    for file in find_images(where)[:count]:
        try:
            ready.append(transform.array(decode_image(file)))
            names.append(file.name)
        except BrokenImageError as error:
            log.LOGGER.warning("left out: %s", error)
    if not ready or len({image.shape for image in ready}) > 1:
        raise UserError(f"--images {where}: " + ("none can be read" if not ready else "they end in several sizes, and "
                                                 "the network takes one: add ResizeImage to Infer.transforms"))
    stacked = np.stack(ready)
    return [Shown(image, name) for image, name in zip(pixels(stacked, transform), names)], stacked


def _draw_images(model: TunedModel, before: nn.Layer, shown: list[Shown], ready: np.ndarray,
                 folder: Path) -> list[Path]:
    """Attention and branches of each image, as far as the network and the method have them."""
    network, anatomy, batch = model.adaptation.network, model.adaptation.anatomy, paddle.to_tensor(ready)
    try:
        first = rollout(before, anatomy, batch)
        own = observe.tokens_of(before, anatomy, batch)
        for one, old, new in zip(shown, first, rollout(network, anatomy, batch, own)):
            one.attention = old, new
    except UserError as error:
        log.LOGGER.warning("attention is not drawn: %s", error)
    try:
        norms = observe.norms_per_patch(model.adaptation, batch)
        if not norms:
            names = " + ".join(type(method).__name__ for method in model.adaptation.methods)
            log.LOGGER.warning("no branches are drawn: %s adds nothing to the residual stream", names)
        for i, one in enumerate(shown):
            one.branches = {name: maps[i] for name, maps in norms.items()}
    except UserError as error:
        log.LOGGER.warning("no branches are drawn: %s", error)
    if not any(one.attention or one.branches for one in shown):
        return []
    with paddle.no_grad():
        answers = model.task.probabilities(model.adaptation(batch).astype("float32")).numpy()
    for one, row in zip(shown, answers):
        one.answer = model.task.text(model.task.answer(row, model.classes, 1))
    return pictures.of_images(shown, folder)


def _draw_features(config: Config, model: TunedModel, before: nn.Layer, points: int, folder: Path) -> list[Path]:
    data = build.dataset(config.DataLoader.Eval, "test", config.Global.seed)
    data.keep(points)
    if data.labels.ndim != 1 or data.labels.dtype.kind not in "iu":
        log.LOGGER.warning("features are not drawn: an image of several labels has no one colour")
        return []
    ready, labels = look(data, range(len(data)))
    if len(ready) < 10:
        log.LOGGER.warning("features are not drawn: %d test images are too few", len(ready))
        return []
    anatomy = model.adaptation.anatomy
    found = {what: _features(network, anatomy, ready) for what, network in (
        ("before", before), ("after", model.adaptation.network))}
    plane = {way: {what: project(features) for what, features in found.items()}
             for way, project in (("PCA", _pca), ("t-SNE", _tsne()))}
    return [pictures.of_features(plane, np.asarray(labels), model.classes, folder / "features.png")]


def _features(network: nn.Layer, anatomy: Anatomy, images: np.ndarray) -> np.ndarray:
    """What the head reads, float32 [N, D]."""
    seen: list[np.ndarray] = []

    def head_reads(_: int, x: Any) -> None:
        seen.append(x.astype("float32").numpy().reshape(x.shape[0], -1))

    with paddle.no_grad(), observe.outputs_of([find(network, anatomy.head)], head_reads, inputs=True):
        for batch in log.progress(list(_batches(images)), "features"):
            network(paddle.to_tensor(batch))
    return np.concatenate(seen)


def _batches(images: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(images), BATCH):
        yield images[start:start + BATCH]


def _pca(features: np.ndarray) -> np.ndarray:
    """The two directions of most variance: [N, D] -> [N, 2]."""
    centred = features - features.mean(axis=0)
    _, _, directions = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    signs = np.sign(directions[:2, np.abs(directions[:2]).argmax(axis=1)].diagonal())  # svd leaves them open
    return centred @ (directions[:2] * signs[:, None]).T


def _tsne() -> Callable[[np.ndarray], np.ndarray]:
    """t-SNE of scikit-learn: [N, D] -> [N, 2]."""
    if paddle.__version__.startswith("2.") and "sklearn.manifold" not in sys.modules:
        raise UserError(f"Paddle {paddle.__version__} crashes where scikit-learn is imported after it: write `import "
                        "sklearn.manifold` above everything else, or use the command `ppadapt explain`")
    from sklearn.manifold import TSNE

    return lambda features: TSNE(init="pca", perplexity=min(30, (len(features) - 1) / 3), random_state=0).fit_transform(
        features)
