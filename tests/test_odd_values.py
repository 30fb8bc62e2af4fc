"""Values that nobody means, in every option of everything that a config can name. The list makes itself."""
import dataclasses
import math
import typing
from functools import partial

import numpy as np
import paddle
import pytest

from ppadapt import build, config, options
from ppadapt.build.names import options_for
from ppadapt.config import sections
from ppadapt.data import BATCH_TRANSFORMS, DATASETS, TRANSFORMS
from ppadapt.data.options import build_op
from ppadapt.engine.optim import OPTIMIZERS, build_optimizer, check_optimizer, optimizer_options
from ppadapt.engine.schedules import SCHEDULES, Schedule, check_schedule, schedule_options
from ppadapt.errors import UserError
from ppadapt.models.catalogue import NETWORKS
from ppadapt.networks import network_options
from ppadapt.tasks import TASKS
from ppadapt.tuning import METHODS

NUMBERS = [-1, -0.5, math.nan, math.inf, -math.inf, 1e308, -1e308, 2 ** 70, 10 ** 400, 1e-308, True]
ODD = [*NUMBERS, "x", "", [], [None], [-1, math.nan], [True, True], [[[1]]], {}, {"a": 1}, None]
MINIMAL = {"Arch": {"name": "vit_micro_patch4_32"}, "DataLoader": {
    "Train": {"dataset": {"name": "Digits"}}, "Eval": {"dataset": {"name": "Digits"}}}}
# Needed to build each: beside the option that is tried.
NEEDED = {**{name: {"size": 4} for name in ("CropImage", "RandCropImage", "RandCropImageV2", "RandomResizedCrop")},
          **{name: {"max_learning_rate": 1.0, "step_size_up": 2} for name in ("Cyclic", "CyclicLR")},
          "ResizeImage": {"size": 4}, "Pad": {"padding": 1}, "Step": {"step_size": 1},
          "MultiStepDecay": {"milestones": [1]},
          "CosineFixmatch": {"num_warmup_steps": 1}, "NoamDecay": {"d_model": 4, "warmup_steps": 2},
          "PiecewiseDecay": {"boundaries": [1], "values": [0.1, 0.01]}, "NaturalExpDecay": {"gamma": 0.5},
          "InverseTimeDecay": {"gamma": 0.5}, "ExponentialDecay": {"gamma": 0.5}, "StepDecay": {"step_size": 2},
          "CosineAnnealingWarmRestarts": {"T_0": 2}}
MEANT = {("RandFlipImage", "flip_code"): [-1]}  # both ways


def sections_of(cls=sections.Config, path=()):
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from sections_of(hints[field.name], (*path, field.name))
        elif field.name != "options":
            yield ".".join(path), field.name, partial(parsed, (*path, field.name))


def parsed(path, value):
    tree = node = {name: dict(section) for name, section in MINIMAL.items()}
    for key in path[:-1]:
        node[key] = node = dict(node.get(key, {}))
    node[path[-1]] = value
    config.parse(tree)


def constructed(table, names):
    for name in names:
        for option in options.options_of(table[name]):
            yield name, option, partial(lambda name, option, value: options.construct(
                table, {"name": name, option: value}, "it"), name, option)


def asked(family):
    for task in (kind() for kind in TASKS.values()):
        for name, make in getattr(task, family).items():
            for option in options.options_of(make):
                yield name, option, partial(lambda task, name, option, value: build.entries(
                    task, family, [{name: {option: value}}], "it"), task, name, option)


def operators():
    for name in TRANSFORMS:
        for option in options.options_of(TRANSFORMS[name]):
            yield name, option, partial(operated, name, option)


def operated(name, option, value):
    given = {**NEEDED.get(name, {}), option: value}
    if option == "resize_short":
        del given["size"]
    op = build_op({name: given}, TRANSFORMS, "it")
    image = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)
    for seed in range(4):
        made = op(image.transpose(2, 0, 1) if getattr(op, "chw", False) else image, np.random.default_rng(seed))
        assert np.isfinite(np.asarray(made, np.float32)).all()


def batch_operators():
    images, labels, rng = paddle.ones([3, 3, 4, 4]), paddle.arange(3), np.random.default_rng(0)
    for name in ("MixupOperator", "CutmixOperator"):
        for option in options.options_of(BATCH_TRANSFORMS[name]):
            yield name, option, partial(lambda name, option, value: build_op(
                {name: {option: value}}, BATCH_TRANSFORMS, "it")(images, labels, rng), name, option)
    yield "OpSampler", "prob", lambda value: build_op(
        {"OpSampler": {"MixupOperator": {"prob": value}}}, BATCH_TRANSFORMS, "it")


def optimizers():
    layer = paddle.nn.Linear(2, 2)
    for name in OPTIMIZERS:
        for option in optimizer_options(name):
            if option != "lr":
                yield name, option, partial(stepped, layer, name, option)


def stepped(layer, name, option, value):
    check_optimizer(name, {option: value})
    optimizer = build_optimizer(dict(layer.named_parameters()), Schedule(1, 1), name, **{option: value})
    layer(paddle.ones([1, 2])).sum().backward()
    optimizer.step()
    optimizer.clear_grad()
    assert bool(paddle.isfinite(layer.weight).all())


def schedules():
    for name in SCHEDULES:
        for option in schedule_options(name, {}):
            if option != "name":
                yield name, option, partial(scheduled, name, option)


def scheduled(name, option, value):
    given = {"name": name, **NEEDED.get(name, {}), option: value}
    check_schedule(given)
    schedule = Schedule(4, 6, 32, **given)
    for _ in range(24):
        assert 0 <= schedule.get_lr() <= 1e5
        schedule.step()


def named(section, name, option, value):
    """As a whole config is looked at, where a thing cannot be made at once: a network, a data set on a disk."""
    tree = {**MINIMAL, "Arch": {"name": name, option: value}} if section == "Arch" else {
        **MINIMAL, "DataLoader": {"Train": {"dataset": {"name": name, option: value}}}}
    about = [said for said in build.complaints(tree, training=section != "Arch") if option in said]
    if about:
        raise UserError("; ".join(about))


def networks():
    for name in ("vit_micro_patch4_32", "SwinTransformer_tiny_patch4_window7_224"):
        try:
            taken = network_options(name)
        except UserError:  # no PaddleClas here
            continue
        for option in taken:
            if not option.startswith("pretrained") and option not in ("class_num", "head", "norm_layer"):
                yield name, option, partial(named, "Arch", name, option)


def data_sets():
    for name in DATASETS:
        for option in options_for("DataLoader.Train.dataset", {"name": name}):
            yield name, option, partial(named, "DataLoader", name, option)


@pytest.mark.parametrize("tried", [
    sections_of, partial(constructed, METHODS, METHODS), partial(constructed, TASKS, TASKS), partial(asked, "losses"),
    partial(asked, "metrics"), operators, batch_operators, optimizers, schedules, networks, data_sets])
def test_numbers_out_of_range_and_values_of_another_kind_are_refused_in_one_line(tried):
    count = 0
    for name, option, make in tried():
        allowed = []
        for value in ODD:
            count += 1
            try:
                make(value)
            except UserError as error:
                assert "\n" not in str(error)
                continue
            except Exception as error:
                raise AssertionError(f"{name}.{option} = {str(value)[:40]}: {type(error).__name__}: {error}") from error
            allowed.append(value)
        takes_truth = any(value is True for value in allowed)
        meant = MEANT.get((name, option), ())
        numbers = [value for value in allowed if type(value) in (int, float) and value not in meant]
        assert all(value == 1e-308 for value in numbers), f"{name}.{option} takes {numbers}"
        # What is smaller than float32 can say is 0, and is taken where 0 is.
        if numbers:
            make(0)
        assert not (takes_truth and numbers), f"{name}.{option} takes True for a number"
        if tried is not sections_of and option not in LOOKED_AT_LATER:
            assert [True, True] not in allowed and [[[1]]] not in allowed, f"{name}.{option} takes lists"
    assert count > 20


# With a network, with data, and where a file is opened.
LOOKED_AT_LATER = ("blocks", "class_weight", "depths", "num_heads", "root", "image_root", "cls_label_path",
                   "class_id_map_file")


@pytest.mark.parametrize("blocks", ["x", "", [], [None], [-1, math.nan], [True], [[[1]]], {}, [99], "1:0", "::0"])
def test_blocks_that_there_are_not(blocks):
    from ppadapt import AdaptFormer, attach, network

    net = network("vit_micro_patch4_32", depth=2, embed_dim=12, num_heads=2)
    with pytest.raises(UserError, match="blocks"):
        attach(net, AdaptFormer(4, blocks=blocks))


def test_hints_are_those_that_every_python_can_evaluate():
    makers = [*METHODS.values(), *TASKS.values(), *DATASETS.values(), *TRANSFORMS.values(), *BATCH_TRANSFORMS.values()]
    for make in makers:
        if make.__init__ is object.__init__:
            continue
        written = {name: text for name, text in make.__init__.__annotations__.items() if name != "return"}
        assert not [text for text in written.values() if "|" in str(text)], make
        assert set(options.options_of(make)) <= {*options.hints_of(make), "mean", "std"}, make


def test_a_network_of_paddleclas_runs_no_text_of_a_config(tmp_path):
    pytest.importorskip("paddleclas")
    code = f"__import__('pathlib').Path({str(tmp_path / 'run')!r}).touch() or __import__('paddle').nn.LayerNorm"
    for name in ("ViT_base_patch16_224", "MAE_vit_base_patch16", "SwinTransformer_tiny_patch4_window7_224"):
        with pytest.raises(UserError, match="norm_layer is .*PaddleClas takes code here"):
            NETWORKS[name].build(norm_layer=code)
    assert not (tmp_path / "run").exists()


def test_randaugment_of_every_magnitude():
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    for magnitude in np.arange(0, 10.5, 0.5):
        op = build_op({"RandAugment": {"magnitude": float(magnitude)}}, TRANSFORMS, "it")
        for seed in range(30):
            assert op(image, np.random.default_rng(seed)).shape == image.shape
