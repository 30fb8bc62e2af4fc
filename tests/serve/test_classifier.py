"""`ppadapt.save` and `ppadapt.load`: from one's own training loop to a tuned file and back to answers."""
import io

import numpy as np
import paddle
import pytest
from PIL import Image

import ppadapt
from ppadapt import UserError, weights

OPS = [{"ResizeImage": {"size": 32, "interpolation": "bicubic", "backend": "pil"}},
       {"NormalizeImage": {"mean": [0.5071, 0.4865, 0.4409], "std": [0.2673, 0.2564, 0.2762], "order": ""}},
       {"ToCHWImage": None}]
CLASSES = ["cat", "dog", "owl"]


def network(depth=2, seed=3):
    paddle.seed(seed)
    return ppadapt.network("vit_micro_patch4_32", depth=depth)


def trained(method, net=None, head=ppadapt.heads.batchnorm_linear):
    """An adaptation after three steps of a loop of one's own."""
    net = network() if net is None else net
    adaptation = ppadapt.attach(net, method, head=head(192, len(CLASSES)))
    optimizer = paddle.optimizer.AdamW(1e-2, parameters=list(adaptation.trained_parameters().values()))
    adaptation.train()
    for step in range(3):
        paddle.seed(step)
        loss = paddle.nn.functional.cross_entropy(adaptation(paddle.randn([6, 3, 32, 32])), paddle.arange(6) % 3)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    return adaptation.eval()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 40, 50, 3), np.uint8)


@pytest.mark.parametrize("method", [ppadapt.AdaptFormer(bottleneck=4), ppadapt.VPT(num_prompts=3), ppadapt.BitFit(),
                                    ppadapt.LastBlocks(), ppadapt.FullFineTuning()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("head", [ppadapt.heads.batchnorm_linear, ppadapt.heads.head_linear])
def test_what_is_loaded_answers_as_what_was_trained(method, head, tmp_path, images):
    adaptation = trained(method, head=head)
    ppadapt.save(tmp_path / "a.safetensors", adaptation, CLASSES, OPS, metrics={"top1": 50.0})
    loaded = ppadapt.load(tmp_path / "a.safetensors", network())
    # What the network reads is computed here by hand.
    ready = [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC), np.float32) / 255
             for image in images]
    ready = ((np.stack(ready) - [0.5071, 0.4865, 0.4409]) / [0.2673, 0.2564, 0.2762]).transpose(0, 3, 1, 2)
    logits = adaptation(paddle.to_tensor(ready.astype("float32"))).numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(loaded.probabilities(images), expected, atol=2e-5)
    assert loaded.classes == CLASSES and loaded.manifest["metrics"] == {"top1": 50.0}


def test_an_image_may_be_a_path_bytes_pillow_s_or_an_array(tmp_path, images):
    ppadapt.save(tmp_path / "a.safetensors", trained(ppadapt.AdaptFormer(bottleneck=4)), CLASSES, OPS)
    classifier = ppadapt.load(tmp_path / "a.safetensors", network())
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    forms = [images[0], Image.fromarray(images[0]), tmp_path / "a.png", str(tmp_path / "a.png"),
             (tmp_path / "a.png").read_bytes(), Image.fromarray(images[0]).convert("RGBA")]
    answers = classifier.predict(forms, topk=2)
    assert all(answer == answers[0] for answer in answers)
    assert [set(one) for one in answers[0]] == [{"class", "id", "probability"}] * 2
    assert answers[0][0]["probability"] >= answers[0][1]["probability"]
    assert classifier.predict(images[0]) == classifier.predict([images[0]])
    grey = classifier.probabilities(images[0, :, :, 0])
    np.testing.assert_array_equal(grey, classifier.probabilities(np.repeat(images[0, :, :, :1], 3, axis=2)))
    assert classifier.probabilities([]).shape == (0, 3)


def encoded(picture, form, **options):
    with io.BytesIO() as file:
        picture.save(file, form, **options)
        return file.getvalue()


def test_pillow_s_image_is_answered_as_its_file(tmp_path, images):
    """What was evaluated is the file: turned by its EXIF, 16 bits by their high byte."""
    ppadapt.save(tmp_path / "a.safetensors", trained(ppadapt.AdaptFormer(bottleneck=4)), CLASSES, OPS)
    classifier, turned = ppadapt.load(tmp_path / "a.safetensors", network()), Image.Exif()
    turned[0x0112] = 6
    deep = np.linspace(0, 65535, 40 * 50).astype(np.uint16).reshape(40, 50)
    for file in (encoded(Image.fromarray(images[0]), "JPEG", exif=turned), encoded(Image.fromarray(deep), "PNG"),
                 encoded(Image.fromarray(images[0]).convert("CMYK"), "JPEG"),
                 encoded(Image.fromarray(images[0]).convert("P"), "PNG")):
        np.testing.assert_array_equal(classifier.probabilities(Image.open(io.BytesIO(file))),
                                      classifier.probabilities(file))
    upright = Image.open(io.BytesIO(encoded(Image.fromarray(images[0]), "PNG")))
    deep = Image.fromarray(deep)
    np.testing.assert_array_equal(classifier.prepare([deep]),
                                  classifier.prepare([(np.asarray(deep) >> 8).astype(np.uint8)]))
    np.testing.assert_array_equal(classifier.prepare([upright]), classifier.prepare([images[0]]))


def test_the_bank_takes_the_file(tmp_path, images):
    ppadapt.save(tmp_path / "a.safetensors", trained(ppadapt.AdaptFormer(bottleneck=4)), CLASSES, OPS)
    classifier = ppadapt.load(tmp_path / "a.safetensors", network())
    bank = ppadapt.Bank(network())
    bank.add("a", tmp_path / "a.safetensors")
    ready = classifier.prepare(images)
    np.testing.assert_allclose(bank(ready, "a"), classifier.adaptation(paddle.to_tensor(ready)).numpy(), atol=1e-4)


def test_another_network_is_refused_and_left_as_it_was(tmp_path):
    ppadapt.save(tmp_path / "a.safetensors", trained(ppadapt.AdaptFormer(bottleneck=4)), CLASSES, OPS)
    for other, message in ((network(seed=4), "digest"), (network(depth=3), "depth: 2 in the file, 3 here")):
        names = list(other.state_dict())
        with pytest.raises(UserError, match=message):
            ppadapt.load(tmp_path / "a.safetensors", other)
        assert list(other.state_dict()) == names
        ppadapt.attach(other, ppadapt.LoRA(), head=ppadapt.heads.head_linear(192, 3))  # nothing is in the way


def test_mistakes_of_saving_are_one_line(tmp_path):
    adaptation, path = trained(ppadapt.AdaptFormer(bottleneck=4)), tmp_path / "a.safetensors"
    with pytest.raises(UserError, match="2 classes and the head has 3 outputs"):
        ppadapt.save(path, adaptation, CLASSES[:2], OPS)
    with pytest.raises(UserError, match="Did you mean 'ResizeImage'"):
        ppadapt.save(path, adaptation, CLASSES, [{"ResizeImag": {"size": 32}}])
    for classes, message in ((["a", "b", "a"], "'a' stands for several"), (["a", "b", "\udc80"], "UTF-8"),
                             ("abc", "give a list of names")):
        with pytest.raises(UserError, match=message):
            ppadapt.save(path, adaptation, classes, OPS)
    with pytest.raises(UserError, match=r"at random \(RandFlipImage\)"):
        ppadapt.save(path, adaptation, CLASSES, [{"RandFlipImage": None}, *OPS])
    odd = trained(ppadapt.AdaptFormer(bottleneck=4), head=lambda d, n: paddle.nn.Sequential(
        paddle.nn.Linear(d, n), paddle.nn.Linear(n, n)))
    with pytest.raises(UserError, match="none of ppadapt.heads"):
        ppadapt.save(path, odd, CLASSES, OPS)
    bias = adaptation.trained_parameters()["head.1.bias"]
    bias.set_value(paddle.full(bias.shape, float("nan")))
    with pytest.raises(UserError, match=r"head.1.bias \(3 of 3 NaN\)"):
        ppadapt.save(path, adaptation, CLASSES, OPS)
    assert not path.exists()


def test_what_is_no_image_is_named(tmp_path, images):
    ppadapt.save(tmp_path / "a.safetensors", trained(ppadapt.AdaptFormer(bottleneck=4)), CLASSES, OPS[1:])
    classifier = ppadapt.load(tmp_path / "a.safetensors", network())
    for image, message in ((images[0].astype("float32"), r"float32 \[40, 50, 3\]"), (tmp_path / "no.png", "no.png"),
                           (images[0].transpose(2, 0, 1), r"uint8 \[3, 40, 50\]"),  # of three grey images, or of one?
                           (images[0][..., :1], r"\[40, 50, 1\]"), (images[0][:0], r"\[0, 50, 3\]"),
                           (Image.fromarray(images[0, :, :, 0].astype("float32")), "mode F"),
                           (Image.fromarray(images[0, :, :, 0].astype("int32")), "mode I"),
                           (paddle.to_tensor(images[0]), "Tensor"), (None, "NoneType"), (7, "int")):
        for given in (image, [image]):
            with pytest.raises(UserError, match=message):
                classifier.predict(given)
    for given in ({"topk": 0}, {"topk": -1}):
        with pytest.raises(UserError, match="topk is"):
            classifier.predict(images[0], **given)
    with pytest.raises(UserError, match="batch_size is 0"):
        classifier.probabilities(images[0], batch_size=0)
    with pytest.raises(UserError, match="several sizes"):
        classifier.predict([images[0], images[0][:20]])
    bias = classifier.adaptation.trained_parameters()["head.1.bias"]
    bias.set_value(paddle.full(bias.shape, float("nan")))
    with pytest.raises(UserError, match="answer to image 0 is NaN"):
        classifier.probabilities([*images[:, :32, :32]][:3], batch_size=2)
    tensors, manifest = weights.load_tuned(tmp_path / "a.safetensors")
    weights.save_tuned(tmp_path / "b.safetensors", tensors, {**manifest, "head": "Odd"})
    with pytest.raises(UserError, match="Odd"):
        ppadapt.load(tmp_path / "b.safetensors", network())
