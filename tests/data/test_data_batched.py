"""Whole batches on the device against the operators on one image, whose resizing is Pillow's own."""

import numpy as np
import pytest
from PIL import Image

from ppadapt.data import DATASETS, DataError, Dataset, build_loader
from ppadapt.data.batched import BatchedTransform
from ppadapt.data.resampling import matrix

paddle = pytest.importorskip("paddle")
PAPER = [{"DecodeImage": {"to_rgb": True, "channel_first": False}},
         {"RandomResizedCrop": {"size": 224, "scale": [0.08, 1.0], "interpolation": "bicubic"}},
         {"RandFlipImage": {"flip_code": 1}}]
PAPER_TEST = [{"ResizeImage": {"resize_short": 256, "interpolation": "bicubic", "backend": "pil"}},
              {"CropImage": {"size": 224}}]
NATIVE = [{"Pad": {"padding": 4, "padding_mode": "reflect"}}, {"RandCropImageV2": {"size": 32}},
          {"RandFlipImage": {"flip_code": 1}}]
NORMALIZE = {"NormalizeImage": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "order": ""}}


class Pictures(Dataset):
    """Random images: half of them noise, where the bicubic filter overshoots, half smooth."""

    def __init__(self, transform=None, size=(32, 32), count=24, **options):
        super().__init__("train", transform, **options)
        rng = np.random.default_rng(5)
        self.images = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
        for n in range(0, count, 2):
            small = Image.fromarray(self.images[n, :4, :4])
            self.images[n] = np.asarray(small.resize(size[::-1], Image.Resampling.BICUBIC))
        self.labels = np.arange(count)


def both(ops, epoch=0, batch=8, **options):
    """All images, one by one and in whole batches."""
    results = []
    for by in ("image", "batch"):
        loader = build_loader(Pictures(ops, **options), batch, transform_by=by)
        loader.set_epoch(epoch)
        results.append(np.concatenate([images.numpy() for images, _ in loader]))
    return results


@pytest.mark.parametrize("recipe", [PAPER, PAPER_TEST, NATIVE], ids=["paper", "paper's test", "native"])
def test_the_recipes_draw_and_compute_what_they_do_on_one_image(recipe):
    one, batch = both(recipe, epoch=3)
    assert batch.dtype == np.float32 and batch.shape == one.shape
    assert abs(one - batch).max() <= 1  # of 255 grey levels, where float32 ends on the other side of a half
    assert np.mean(one != batch) < 1e-4
    one, batch = both([*recipe, NORMALIZE, {"ToCHWImage": None}], epoch=3)
    assert np.mean(abs(one - batch) > 1e-6) < 1e-4
    assert np.allclose(one.mean((2, 3)), batch.mean((2, 3)), atol=1e-5)
    assert np.allclose(one.std((2, 3)), batch.std((2, 3)), atol=1e-5)
    if recipe is not PAPER_TEST:
        assert abs(batch - both([*recipe, NORMALIZE], epoch=4)[1]).mean() > 0.1


@pytest.mark.parametrize("ops", [
    [],
    [{"ToCHWImage": None}, {"NormalizeImage": {"scale": 1.0, "mean": [1, 2, 3], "std": [4, 5, 6]}}],
    [{"Pad": {"padding": [1, 2, 3, 4]}}, {"RandCropImageV2": {"size": [20, 24]}}, {"RandFlipImage": {"flip_code": -1}}],
    [{"Pad": {"padding": 4}}, {"RandomResizedCrop": {"size": 40, "interpolation": "bilinear"}}, NORMALIZE],
    [{"RandFlipImage": {"flip_code": 0}}, {"RandCropImage": {"size": [30, 50], "backend": "pil"}}],
    # The digits': enlarged, then moved.
    [{"ResizeImage": {"size": 32, "interpolation": "bicubic", "backend": "pil"}},
     {"Pad": {"padding": 4, "padding_mode": "edge"}}, {"RandCropImageV2": {"size": 32}}],
    [{"ResizeImage": {"size": [9, 7], "interpolation": "lanczos", "backend": "pil"}}, {"Pad": {"padding": 3}},
     {"RandCropImageV2": {"size": 10}}],
])
def test_other_chains_on_images_that_are_not_square(ops):
    one, batch = both(ops, size=(22, 27))
    # Bilinear ends on a half exactly at one pixel of 100, which float32 may round to the other side.
    assert np.mean(abs(one - batch) > 1e-5) < 1e-2
    assert abs(one - batch).max() <= 1


@pytest.mark.parametrize("name", ["BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS"])
@pytest.mark.parametrize(("size", "new_size"), [(1, 5), (8, 32), (27, 224), (32, 32), (32, 13), (100, 7)])
def test_matrices_are_pillows_filters(name, size, new_size):
    filter_ = Image.Resampling[name]
    column = np.random.default_rng(0).integers(0, 256, (size, 1), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(column).resize((1, new_size), filter_))
    assert np.array_equal(np.clip(np.floor(matrix(filter_, size, new_size) @ column + 0.5), 0, 255), expected)


def test_on_a_gpu_float64_gives_pillows_pixels(monkeypatch):
    """There is none here: the tables are what they would be there."""
    constants = BatchedTransform._constants_on

    def doubled(self, place):
        tables, channels = constants(self, place)
        return [table.astype("float64") for table in tables], channels

    monkeypatch.setattr(BatchedTransform, "_constants_on", doubled)
    one, batch = both(PAPER)
    assert batch.dtype == np.float32 and np.array_equal(one, batch)


@pytest.mark.parametrize("recipe", [PAPER, NATIVE])
def test_the_size_of_a_batch_changes_nothing(recipe):
    assert np.array_equal(both([*recipe, NORMALIZE], batch=24)[1], both([*recipe, NORMALIZE], batch=5)[1])


@pytest.mark.parametrize("op", [{"MixupOperator": {"alpha": 0.8}}, {"CutmixOperator": {"alpha": 1.0}}])
def test_mixing_is_the_same_on_both_paths(op):
    loaders = [build_loader(Pictures([*NATIVE, NORMALIZE], seed=2), 8, shuffle=True, batch_transforms=[op], seed=2,
                            transform_by=by) for by in ("image", "batch")]
    shares = []
    for (x, (a, b, share)), (u, (c, d, other)) in zip(*loaders):
        assert np.allclose(x, u, atol=1e-5)
        assert a.tolist() == c.tolist() and b.tolist() == d.tolist() and a.tolist() != b.tolist()
        assert share == other and 0 <= share <= 1
        shares.append(share)
    assert len(set(shares)) == 3


def test_auto_takes_whole_batches_and_needs_no_workers():
    loader = build_loader(Pictures(NATIVE), 8, num_workers=2)
    assert loader.how == "transformed in whole batches on the device; the 2 workers are not needed"
    assert loader.num_workers == 0
    assert build_loader(Pictures(NATIVE), 8, num_workers=2, transform_by="image").num_workers == 2


@pytest.mark.parametrize(("ops", "reason"), [
    ([{"ColorJitter": None}], "ColorJitter has no form for batches"),
    ([NORMALIZE, {"RandFlipImage": None}], "transform_ops are not DecodeImage, operators that move pixels"),
    ([{"DecodeImage": {"to_rgb": False}}], "DecodeImage changes the channels"),
    ([{"Pad": {"padding": 4, "fill": 128}}], "Pad with a fill other than 0"),
    ([{"ResizeImage": {"size": 40}}], "OpenCV's nearest and bilinear resizing"),
    ([{"RandomResizedCrop": {"size": 40, "interpolation": "nearest"}}], "nearest interpolation is no weighted sum"),
    ([*PAPER, *PAPER_TEST], "the image is resized twice"),
])
def test_what_has_no_form_for_batches_goes_one_by_one_and_says_why(ops, reason):
    loader = build_loader(Pictures(ops), 8)
    assert loader.how.startswith("transformed one by one (") and reason in loader.how
    assert next(iter(loader))[0].shape[0] == 8
    with pytest.raises(DataError, match=f"transform_by is 'batch', but .*{reason}.*: set it to auto") as error:
        build_loader(Pictures(ops), 8, transform_by="batch")
    assert "\n" not in str(error.value)


def test_files_and_large_images_keep_the_workers(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (300, 200)).save(tmp_path / "a" / "1.png")
    folder = build_loader(DATASETS["ImageFolder"]("train", PAPER, root=tmp_path), 1, num_workers=1)
    assert folder.how == "transformed one by one (ImageFolder is not one array in memory)"
    assert (folder.num_workers, next(iter(folder))[0].shape) == (1, [1, 3, 224, 224])
    assert "larger than 128 pixels" in build_loader(Pictures(PAPER, (200, 40), count=2), 1).how


def test_a_wrong_choice_is_named():
    with pytest.raises(DataError, match="transform_by 'batches' is unknown. Did you mean 'batch'"):
        build_loader(Pictures(), 8, transform_by="batches")
