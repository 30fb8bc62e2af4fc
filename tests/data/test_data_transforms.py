"""Operators against numbers worked out by hand, and against PaddleClas's own where it is installed."""

import math

import numpy as np
import pytest
from PIL import Image

from ppadapt.data import DataError, build_transforms, timm_augment
from ppadapt.data.geometry import RandomResizedCrop


def run(image, *ops, seed=0):
    return build_transforms(list(ops))(image, np.random.default_rng(seed))


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / 17 + c) * np.cos(y / 23 - c) for c in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


def test_normalize_and_chw():
    image = picture(2, 3)
    numbers = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    for ops in ([{"NormalizeImage": {"scale": "1.0/255.0", "order": "", **numbers}}, {"ToCHWImage": None}],
                [{"ToCHWImage": None}, {"NormalizeImage": numbers}]):
        out = run(image, *ops)
        assert (out.shape, out.dtype) == ((3, 2, 3), np.float32)
        assert out[2, 1, 0] == pytest.approx((image[1, 0, 2] / 255 - 0.3) / 0.4, rel=1e-5)
        assert out[0, 0, 2] == pytest.approx((image[0, 2, 0] / 255 - 0.5) / 0.2, rel=1e-5)


def test_normalize_parses_its_scale_and_runs_nothing():
    with pytest.raises(DataError, match="scale is .__import__.*give a number or a quotient"):
        build_transforms([{"NormalizeImage": {"scale": "__import__('os').getpid()"}}])
    with pytest.raises(DataError, match="order 'chw' does not fit an image of shape .4, 4, 3."):
        run(picture(4, 4), {"NormalizeImage": {}})


def test_without_operators_the_values_stay():
    image = picture(4, 5)
    assert np.array_equal(build_transforms(None)(image, None), image.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["reflect", "edge", "symmetric", "constant"])
@pytest.mark.parametrize(("padding", "sides"), [(4, (4, 4, 4, 4)), ([1, 2], (1, 2, 1, 2)),
                                                ([1, 0, 3, 2], (1, 0, 3, 2))])
def test_pad_is_numpys(mode, padding, sides):
    left, top, right, bottom = sides
    image = picture(6, 7)
    expected = np.pad(image, ((top, bottom), (left, right), (0, 0)), mode=mode)
    assert np.array_equal(run(image, {"Pad": {"padding": padding, "padding_mode": mode}}), expected)
    flipped = image[:, ::-1]  # a view, as another operator leaves it
    expected = np.pad(flipped, ((top, bottom), (left, right), (0, 0)), mode=mode)
    assert np.array_equal(run(flipped, {"Pad": {"padding": padding, "padding_mode": mode}}), expected)


def test_pad_fill():
    out = run(picture(2, 2), {"Pad": {"padding": 1, "fill": [9, 8, 7]}})
    assert out[0, 0].tolist() == [9, 8, 7]


def test_a_random_operator_without_a_generator_is_named():
    with pytest.raises(DataError, match="RandFlipImage would draw at random"):
        build_transforms([{"RandFlipImage": None}])(picture(4, 4))


def test_random_crop_reaches_every_position_and_keeps_the_size():
    image = np.arange(40 * 40).reshape(40, 40, 1).repeat(3, -1)
    crop, rng = build_transforms([{"RandCropImageV2": {"size": 32}}]), np.random.default_rng(0)
    corners = set()
    for _ in range(3000):
        out = crop(image, rng)
        assert out.shape == (32, 32, 3)
        corners.add(divmod(int(out[0, 0, 0]), 40))
    assert corners == {(y, x) for y in range(9) for x in range(9)}


@pytest.mark.parametrize(("code", "flip"), [(1, np.s_[:, ::-1]), (0, np.s_[::-1]), (-1, np.s_[::-1, ::-1])])
def test_flip_turns_half_of_the_images(code, flip):
    image = picture(5, 6)
    op, rng = build_transforms([{"RandFlipImage": {"flip_code": code}}]), np.random.default_rng(0)
    outs = [op(image, rng) for _ in range(1000)]
    turned = [np.array_equal(out, image[flip]) for out in outs]
    assert all(t or np.array_equal(out, image) for t, out in zip(turned, outs))
    assert 450 < sum(turned) < 550


def test_papers_crop_is_one_draw_clipped_to_the_image():
    """area / (H W) is uniform on the scale where nothing is clipped, the ratio uniform in its logarithm."""
    crop, boxes = RandomResizedCrop(224), []
    crop.resize = lambda image, size, box: boxes.append(box)
    rng = np.random.default_rng(1)
    for _ in range(20000):
        crop(np.empty((1000, 1000, 3), np.uint8), rng)
    left, top, right, bottom = np.array(boxes, float).T
    w, h = right - left, bottom - top
    assert min(left.min(), top.min()) >= 0
    assert max(right.max(), bottom.max()) <= 1000
    small = w * h < 0.7e6  # below 3/4 of the area no shape is clipped
    assert np.mean(small) == pytest.approx((0.7 - 0.08) / 0.92, abs=0.015)
    assert np.mean((w * h)[small]) / 1e6 == pytest.approx(0.39, abs=0.006)
    logs = np.log(w / h)[small]
    assert logs.mean() == pytest.approx(0, abs=0.006)
    assert logs.std() == pytest.approx(2 * math.log(4 / 3) / math.sqrt(12), abs=0.004)
    # Full width is what clipping gives and a retry would not: ratio r is too wide from area 1 / r on.
    assert 0.05 < np.mean(w == 1000) < 0.12
    assert np.mean(left[w < 500] / (1000 - w[w < 500])) == pytest.approx(0.5, abs=0.02)


def test_papers_crop_resizes_bicubically_with_pillow():
    from PIL import Image
    image = smooth(90, 120)
    out = run(image, {"RandomResizedCrop": {"size": 48, "scale": [1.0, 1.0], "ratio": [120 / 90, 120 / 90]}})
    assert np.array_equal(out, np.asarray(Image.fromarray(image).resize((48, 48), Image.Resampling.BICUBIC)))


def test_paddleclas_crop_always_fits():
    crop = build_transforms([{"RandCropImage": {"size": 16, "backend": "pil"}}])
    for shape in ((7, 200), (200, 7), (1, 1), (33, 40)):
        for seed in range(30):
            assert crop(picture(*shape), np.random.default_rng(seed)).shape == (16, 16, 3)


@pytest.mark.parametrize("backend", ["pil", "cv2"])
def test_resize_short_and_centre_crop(backend):
    out = run(smooth(300, 451), {"ResizeImage": {"resize_short": 256, "backend": backend}})
    assert out.shape == (256, 385, 3)
    out = run(smooth(300, 451), {"ResizeImage": {"size": [40, 30], "backend": backend}})
    assert out.shape == (30, 40, 3)
    image = picture(9, 12)
    assert np.array_equal(run(image, {"CropImage": {"size": 4}}), image[2:6, 4:8])
    assert np.array_equal(run(image, {"CropImage": {"size": [6, 3]}}), image[3:6, 3:9])


@pytest.mark.parametrize("shape", [(300, 451), (64, 48)])
@pytest.mark.parametrize(("backend", "interpolation", "close"), [
    ("pil", "bicubic", 0), ("pil", "bilinear", 0), ("cv2", None, 1), ("cv2", "bilinear", 1),
    ("cv2", "nearest", 0)])
def test_as_paddleclas_computes_them(shape, backend, interpolation, close):
    theirs = pytest.importorskip("paddleclas.deploy.python.preprocess", reason="paddleclas is not installed")
    image = smooth(*shape)
    resize = {"resize_short": 96, "interpolation": interpolation, "backend": backend}
    expected = theirs.ResizeImage(**resize)(image)
    out = run(image, {"ResizeImage": resize})
    assert out.shape == expected.shape
    assert abs(out - expected.astype(float)).max() <= close
    norm = {"scale": "1.0/255.0", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "order": ""}
    whole = run(image, {"CropImage": {"size": 48}}, {"NormalizeImage": norm}, {"ToCHWImage": None})
    expected = theirs.CropImage(48)(image)
    expected = theirs.ToCHWImage()(theirs.NormalizeImage(**norm)(expected))
    assert np.array_equal(whole, expected)


def test_erasing_hides_a_box_and_spares_the_dataset():
    image = picture(40, 50).astype(np.float32) + 1
    before = image.copy()
    op = build_transforms([{"RandomErasing": {"EPSILON": 1.0, "sl": 0.1, "sh": "1.0/5.0", "r1": 0.5}}])
    for seed in range(20):
        gone = (op(image, np.random.default_rng(seed)) == 0).all(-1)
        rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
        h, w = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert gone.sum() == h * w
        assert 0.09 < gone.mean() < 0.21
        assert 0.45 < h / w < 2.2
    assert np.array_equal(image, before)
    assert np.array_equal(run(image, {"RandomErasing": {"EPSILON": 0}}), image)


def test_colour_jitter_moves_what_it_says():
    image = np.full((4, 4, 3), (100, 50, 50), np.uint8)
    outs = [run(image, {"ColorJitter": {"brightness": 0.5}}, seed=s)[0, 0, 0] for s in range(200)]
    assert min(outs) < 60
    assert max(outs) > 140
    assert 50 <= min(outs) <= max(outs) <= 150
    turned = [run(image, {"ColorJitter": {"hue": 0.5}}, seed=s)[0, 0] for s in range(50)]
    assert {int(np.argmax(t)) for t in turned} == {0, 1, 2}
    assert all(t.max() == 100 for t in turned)
    assert np.array_equal(run(image, {"ColorJitter": {"brightness": 0.5, "prob": 0}}), image)


# What timm 1.0.31's changes make of the picture below at level 7, the sum of values times their index modulo 97: in one
# direction and in the other, of the plain set and of the increasing one.
TIMM = {
    "AutoContrast": ([14439884, 14439884], [14439884, 14439884]),
    "Equalize": ([19346410, 19346410], [19346410, 19346410]),
    "Invert": ([13449163, 13449163], [13449163, 13449163]),
    "Rotate": ([14095083, 13730634], [14095083, 13730634]),
    "Posterize": ([11126144, 11126144], [11126144, 11126144]),
    "Solarize": ([8626045, 8626045], [8551293, 8551293]),
    "SolarizeAdd": ([18396358, 18396358], [18396358, 18396358]),
    "Color": ([14667748, 14667748], [14809747, 14251352]),
    "Contrast": ([14815183, 14815183], [15007649, 13821355]),
    "Brightness": ([18411594, 18411594], [20240513, 5322016]),
    "Sharpness": ([14445686, 14445686], [14394783, 14564589]),
    "ShearX": ([14178659, 14170570], [14178659, 14170570]),
    "ShearY": ([14857497, 13076516], [14857497, 13076516]),
    "TranslateXRel": ([14308569, 12163942], [14308569, 12163942]),
    "TranslateYRel": ([15400859, 12329348], [15400859, 12329348]),
}


@pytest.mark.parametrize("name", TIMM)
def test_timms_changes_are_timms(name):
    y, x = np.mgrid[:24, :32]
    image = np.stack([8 * x, 10 * y, 4 * x + 5 * y], -1).astype(np.uint8)
    image[::5, ::7] = 255
    for increasing, expected in zip((False, True), TIMM[name]):
        for sign, value in zip((1, -1), expected):
            strength = timm_augment._strength(name, 7.0, increasing, sign)
            made = timm_augment._CHANGES[name](Image.fromarray(image), strength, Image.Resampling.BICUBIC,
                                               (124, 116, 104))
            weighed = np.asarray(made, np.int64).reshape(-1) * (np.arange(made.width * made.height * 3) % 97)
            assert weighed.sum() == pytest.approx(value, rel=1e-4), (increasing, sign)


def test_timm_auto_augment_draws_as_its_string_says():
    image = smooth(32, 40)
    whole = {"TimmAutoAugment": {"prob": 0.5, "config_str": "rand-m9-mstd0.5-inc1", "interpolation": "bicubic",
                                 "img_size": 224, "mean": [0.5, 0.5, 0.5]}}  # as in PaddleClas's files
    same = [np.array_equal(run(image, whole, seed=s), image) for s in range(400)]
    # A half is left alone, of the rest a quarter (two changes with a chance of a half each), and what changes nothing.
    assert 0.5 + 0.125 - 0.06 < np.mean(same) < 0.5 + 0.125 + 0.12
    op = build_transforms([{"TimmAutoAugment": {"config_str": "rand-m3-n4"}}]).ops[0]
    assert (op.magnitude, op.layers, op.deviation, op.increasing) == (3, 4, 0, False)


@pytest.mark.parametrize("op", [{"RandAugment": {"num_layers": 2, "magnitude": 7}}, {"AutoAugment": None},
                                {"AutoAugment": {"policy": "cifar10"}},
                                {"TimmAutoAugment": {"interpolation": "random"}}])
def test_augmentations_keep_the_shape_vary_and_repeat(op):
    image = smooth(32, 40)
    outs = [run(image, op, seed=s) for s in range(60)]
    assert all(out.shape == image.shape for out in outs)
    assert len({out.tobytes() for out in outs}) > 20
    assert np.array_equal(run(image, op, seed=5), outs[5])


@pytest.mark.parametrize(("ops", "message"), [
    ([{"RandFlip": None}], "'RandFlip' is unknown. Did you mean 'RandFlipImage'.*Choose from: DecodeImage"),
    ([{"RandFlipImage": {"flip": 1}}], "Transform .RandFlipImage.: 'flip' is unknown. Did you mean 'flip_code'"),
    ([{"RandFlipImage": {"flip_code": 2}}], "flip_code is 2: give 1 "),
    ([{"CropImage": None}], "Transform .CropImage. needs a value for: size"),
    ([{"CropImage": {"size": "224"}}], "CropImage., size is '224' .str.: it must be int or list"),
    ([{"CropImage": 224}], "CropImage: 224 is not a table of options"),
    ([{"A": None, "B": None}], "is not one operator"),
    ({"CropImage": {"size": 3}}, "transform_ops is .* give a list"),
    ([{"ResizeImage": {"size": 3, "interpolation": "area", "backend": "pil"}}], "'area' is unknown"),
    ([{"ResizeImage": {"size": 3, "backend": "dali"}}], "backend 'dali' is unknown. Choose from: pil, cv2"),
    ([{"ResizeImage": {}}], "ResizeImage needs size or resize_short"),
    ([{"Pad": {"padding": 4, "padding_mode": "mirror"}}], "padding_mode 'mirror' is unknown"),
    ([{"RandCropImage": {"size": 3, "scale": [1.0, 0.1]}}], "the smaller one first"),
    ([{"NormalizeImage": {"std": [1, 0, 1]}}], "no channel may be 0"),
    ([{"RandAugment": {"magnitude": 11}}], "magnitude is 11"),
    ([{"TimmAutoAugment": {"config_str": "rand-m11"}}], "config_str is 'rand-m11': give rand-m9"),
    ([{"TimmAutoAugment": {"config_str": "augmix-m5"}}], "for timm's original and augmix policies take AutoAugment"),
    ([{"TimmAutoAugment": {"interpolation": "lanczos"}}], "interpolation 'lanczos' is unknown"),
])
def test_wrong_options_are_one_clear_line(ops, message):
    with pytest.raises(DataError, match=message) as error:
        build_transforms(ops)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("op, message", [
    ({"RandomErasing": {"EPSILON": 5}}, "EPSILON is 5.*at least 0 and at most 1"),
    ({"RandomErasing": {"sl": 0.1, "sh": 2}}, "the largest may be 1"),
    ({"RandomErasing": {"attempt": 10 ** 9}}, "attempt is 1000000000"),
    ({"ColorJitter": {"brightness": 0.1, "prob": -1}}, "prob is -1"),
    ({"ResizeImage": {"size": 10 ** 6}}, "at most 16,384"),
    ({"CropImage": {"size": -1}}, "positive whole number"),
    ({"Pad": {"padding": 10 ** 7}}, "from 0 to 16,384"),
    ({"NormalizeImage": {"std": [0.5, -0.5, 0.5]}}, "no channel may be 0 or below"),
    ({"NormalizeImage": {"scale": 0}}, "must be above 0"),
    ({"RandomResizedCrop": {"size": 8, "scale": [0.1, 3]}}, "the largest may be 1"),
    ({"RandAugment": {"num_layers": 10 ** 6}}, "from 1 to 100")])
def test_every_number_has_its_range(op, message):
    with pytest.raises(DataError, match=message):
        build_transforms([op])
