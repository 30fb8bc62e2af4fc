"""Transforms of a whole batch at once on Paddle's device, for data sets that are one array of small images.

Every operator that moves pixels acts on rows and on columns alone, so a batch is one gather and, where it is resized,
two products of matrices. The numbers are those of the operators on one image, rounding included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Dataset
from .coordinates import Coordinates
from .errors import DataError
from .geometry import CropImage, Pad, RandCropImage, RandCropImageV2, RandFlipImage, RandomResizedCrop, ResizeImage
from .resampling import matrices
from .transforms import DecodeImage, NormalizeImage, ToCHWImage

if TYPE_CHECKING:
    import paddle

_MOVES = (ResizeImage, CropImage, RandCropImage, RandCropImageV2, RandomResizedCrop, RandFlipImage, Pad)
# Pixels a side, borders included: beyond, nearly all of a resizing matrix is zeros.
LARGEST = 128


class BatchedTransform:
    """The transform of a data set for whole batches: ``plan`` on the host, then a call on the device.

    Args:
        dataset: with ``images``, and a ``transform`` of operators that move pixels, then NormalizeImage and
            ToCHWImage in any order, each of them or not.

    Raises:
        DataError: saying what has no form for batches.
    """

    def __init__(self, dataset: Dataset) -> None:
        images = dataset.images
        if images is None:
            raise DataError(f"{type(dataset).__name__} is not one array in memory")
        self.dataset = dataset
        moves, self._normalize = _split(dataset.transform.ops)
        # What comes before the first draw is the same for every image, and is done once.
        self._start, self._moves, self._moving = Coordinates.of(*images.shape[1:3]), moves, bool(moves)
        # Where the index -1 leads: black pixels behind the last row and column.
        self._border = any(isinstance(op, Pad) and op.mode == "constant" for op in moves)
        self._tables: tuple[np.ndarray, ...] = ()
        self._constants: dict[str, tuple[list, list]] = {}  # by place
        rng, image = np.random.default_rng(0), self._start
        for number, op in enumerate(moves):
            size, image = image.shape[:2], op(image, rng)
            if image.before is not None and not self._tables:
                if max(size) > LARGEST:
                    raise DataError(f"the images are larger than {LARGEST} pixels")
                self._new_size = image.shape[:2]
                self._tables = tuple(matrices(image.filter, n, new) for n, new in zip(size, self._new_size))
            if not any(before.random for before in moves[:number + 1]):
                self._start, self._moves = image, moves[number + 1:]

    def plan(self, indices: Sequence[int]) -> list[np.ndarray]:
        """What makes the batch of these images, drawn as ``Dataset`` draws: the arguments of the call.

        Returns:
            images uint8 [N, H, W, 3]; where pixels move, rows [N, h] and columns [N, w] of those that are taken; and
            where they are resized, rows of the two tables of ``matrices``, for the rows and columns of the result.
        """
        images = self.dataset.images[indices]
        if not self._moving:
            return [images]
        if self._border:
            images = np.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)))
        ends = []
        for i in indices:
            image, rng = self._start, self.dataset.generator(i)
            for op in self._moves:
                image = op(image, rng)
            ends.append((image.rows, image.columns, image.before))
        rows, columns, before = zip(*ends)
        if not self._tables:
            return [images, _places(rows, images.shape[1]), _places(columns, images.shape[2])]
        taken = [b.rows for b in before], [b.columns for b in before]
        plan = [images]
        for lines, length, table in zip(taken, images.shape[1:3], self._tables):
            plan.append(_places(lines, length, table.shape[1]))
        for result, lines, table, new in zip((rows, columns), taken, self._tables, self._new_size):
            first = (np.array([len(line) for line in lines])[:, None] - 1) * new
            result = np.stack(result)
            plan.append(np.where(result < 0, len(table) - 1, result + first).astype(np.int32))
        return plan

    def __call__(self, images: paddle.Tensor, *plan: paddle.Tensor) -> paddle.Tensor:
        """A planned batch, float32 [N, 3, H, W], computed where ``images`` is."""
        import paddle

        tables, channels = self._constants_on(images.place)
        x = (_take(images, *plan[:2]) if plan else images).transpose([0, 3, 1, 2])
        x = _resize(x, tables, plan[2:]) if tables else x.astype("float32")
        if self._normalize:
            # (x scale - mean) / std in one pass; Paddle's operations that broadcast are slow on a CPU.
            x = paddle.nn.functional.batch_norm(x, *channels, training=False, epsilon=0.0)
        return x

    def _constants_on(self, place: Any) -> tuple[list, list]:
        """The tables of weights; and each channel's 0, 1, scale / std and -mean / std."""
        import paddle

        if str(place) not in self._constants:
            # On a GPU, Paddle multiplies float32 in TF32, which would keep 11 bits of a weight.
            dtype = "float64" if place.is_gpu_place() else "float32"
            tables = [paddle.to_tensor(table.astype(dtype), place=place) for table in self._tables]
            op, channels = self._normalize, []
            if op:
                channels = [paddle.to_tensor(value.astype("float32"), place=place) for value in (
                    np.zeros(3), np.ones(3), op.scale / op.std, -op.mean / op.std)]
            self._constants[str(place)] = tables, channels
        return self._constants[str(place)]


def _take(images: paddle.Tensor, rows: paddle.Tensor, columns: paddle.Tensor) -> paddle.Tensor:
    """[N, H, W, 3] at rows [N, h] and columns [N, w] -> [N, h, w, 3]."""
    import paddle

    count, height, width = images.shape[:3]
    place = paddle.arange(count, dtype="int32").reshape([-1, 1, 1]) * height + rows.unsqueeze(2)
    place = place * width + columns.unsqueeze(1)
    return paddle.gather(images.reshape([-1, 3]), place.flatten()).reshape([*place.shape, 3])


def _resize(x: paddle.Tensor, tables: Sequence[paddle.Tensor], plan: Sequence[paddle.Tensor]) -> paddle.Tensor:
    """Pillow's resize: along the rows, then along the columns, each rounded to 0..255. [N, 3, h, w] -> [N, 3, H, W]."""
    import paddle

    down, across = (paddle.gather(table, index.flatten()).reshape([*index.shape, -1])
                    for table, index in zip(tables, plan))
    count, _, height, width = x.shape
    # The weights of a pixel add up to 1: half a level more before the product makes floor round after it.
    x = x.astype(down.dtype).reshape([count, 3 * height, width]) + 0.5
    x = paddle.matmul(x, across, transpose_y=True).floor_().clip_(0, 255) + 0.5
    x = paddle.matmul(down.unsqueeze(1), x.reshape([count, 3, height, -1])).floor_().clip_(0, 255)
    return x.astype("float32")


def _places(lines: Sequence[np.ndarray], length: int, longest: int | None = None) -> np.ndarray:
    """int32 [N, longest]: the places of each line, -1 counted from the end; 0 behind a line, where no weight is."""
    table = np.zeros((len(lines), longest or len(lines[0])), np.int32)
    for row, line in zip(table, lines):
        row[:len(line)] = line
    return table % length


def _split(ops: Sequence) -> tuple[list, NormalizeImage | None]:
    """The operators that move pixels, and the one that normalizes.

    Raises:
        DataError: naming an operator of another kind, or one out of order.
    """
    moves = [op for op in ops if isinstance(op, _MOVES)]
    rest = [op for op in ops if not isinstance(op, (*_MOVES, DecodeImage))]
    decode = [op for op in ops if isinstance(op, DecodeImage)]
    for op in rest:
        if not isinstance(op, (NormalizeImage, ToCHWImage)):
            raise DataError(f"{type(op).__name__} has no form for batches")
    kinds = ["Normalize" + "CHW" * op.chw if isinstance(op, NormalizeImage) else "CHW" for op in rest]
    ordered = kinds in ([], ["CHW"], ["Normalize"], ["Normalize", "CHW"], ["CHW", "NormalizeCHW"])
    if list(ops) != [*decode[:1], *moves, *rest] or not ordered:
        raise DataError("transform_ops are not DecodeImage, operators that move pixels, NormalizeImage, ToCHWImage")
    if decode and (not decode[0].to_rgb or decode[0].channel_first):
        raise DataError("DecodeImage changes the channels")
    return moves, next((op for op in rest if isinstance(op, NormalizeImage)), None)
