"""A `name` that changes keeps what the new one takes and says what went; `-o` takes file names as they are."""
import pytest

from ppadapt import build, config
from ppadapt.errors import ConfigError

RECIPE = """
Arch: {name: vit_micro_patch4_32, pretrained: True, img_size: 32}
Optimizer: {name: Momentum, momentum: 0.9, weight_decay: 0.01, lr: {name: Cosine, learning_rate: 0.1, warmup_epoch: 2,
  eta_min: 0.001}}
Tuning: {name: AdaptFormer, bottleneck: 8, dropout: 0.1}
DataLoader:
  Train: {dataset: {name: CIFAR10, root: here, limit: 50}, sampler: {name: DistributedBatchSampler, batch_size: 32}}
  Eval: {dataset: {name: Digits}}
"""


@pytest.fixture
def load(tmp_path):
    def load(*overrides, over=None):
        (tmp_path / "base.yaml").write_text(RECIPE)
        (tmp_path / "a.yaml").write_text("_base_: base.yaml\n" + over if over else RECIPE)
        return config.load(tmp_path / "a.yaml", overrides)
    return load


def test_an_optimizers_name_alone_keeps_the_recipe_and_says_what_went(load):
    for loaded in (load("Optimizer.name=AdamW"), load(over="Optimizer: {name: AdamW}\n")):
        assert loaded.Optimizer == {"name": "AdamW", "weight_decay": 0.01, "lr": {
            "name": "Cosine", "learning_rate": 0.1, "warmup_epoch": 2, "eta_min": 0.001}}
        note, = loaded.notes
        assert note == ("Optimizer.name is AdamW in the place of Momentum: kept is weight_decay, lr; "
                        "dropped is its momentum")


def test_what_only_some_optimizers_can_do_goes_with_them(load):
    loaded = load("Optimizer.name=AdamW", "Optimizer.one_dim_param_no_weight_decay=True", "Optimizer.beta1=0.8")
    assert loaded.Optimizer["beta1"] == 0.8  # said for AdamW, so a mistake in it would be one
    loaded = load("Optimizer.name=AdamW", "Optimizer.one_dim_param_no_weight_decay=True", "Optimizer.name=SGD")
    assert "one_dim_param_no_weight_decay" not in loaded.Optimizer


def test_a_schedules_name_keeps_rate_and_warm_up(load):
    loaded = load("Optimizer.lr.learning_rate=0.5", "Optimizer.lr.name=Constant")
    assert loaded.Optimizer["lr"] == {"name": "Constant", "learning_rate": 0.5, "warmup_epoch": 2}
    assert "eta_min" in loaded.notes[0]
    loaded = load("Optimizer.lr={name: Piecewise, values: [0.3, 0.1], decay_epochs: [4]}")
    assert loaded.Optimizer["lr"] == {"name": "Piecewise", "values": [0.3, 0.1], "decay_epochs": [4], "warmup_epoch": 2}


def test_a_samplers_name_means_nothing_and_resets_nothing(load):
    sampler = load("DataLoader.Train.sampler.name=BatchSampler").DataLoader.Train.sampler
    assert (sampler.name, sampler.batch_size) == ("BatchSampler", 32)


def test_a_data_set_keeps_what_the_other_takes(load):
    loaded = load("DataLoader.Train.dataset.name=CIFAR100")
    assert loaded.DataLoader.Train.dataset == {"name": "CIFAR100", "root": "here", "limit": 50}
    loaded = load("DataLoader.Train.dataset.name=Digits")
    assert loaded.DataLoader.Train.dataset == {"name": "Digits", "limit": 50} and "its root" in loaded.notes[0]


def test_a_networks_name_keeps_what_the_other_takes(load):
    loaded = load("Arch.name=vit_tiny_patch16")
    assert loaded.Arch.options == {"img_size": 32} and loaded.Arch.pretrained is True


def test_a_methods_options_are_its_own(load):
    loaded = load("Tuning.name=VPT", "Tuning.num_prompts=5")
    assert loaded.Tuning == {"name": "VPT", "num_prompts": 5}
    assert loaded.notes == ("Tuning.name is VPT in the place of AdaptFormer: dropped is its bottleneck, dropout",)


def test_a_mapping_in_an_override_merges_as_in_a_file(load):
    loaded = load("Global={epochs: 3}", "Global={seed: 5}", "Optimizer={weight_decay: 0.5}")
    assert (loaded.Global.epochs, loaded.Global.seed) == (3, 5) and loaded.Optimizer["momentum"] == 0.9


@pytest.mark.parametrize("text", ["*.png", "[1].png", "#1.png", "a: b.png", "2024", "a #1.png", "{x}.png", "&.png",
                                  "!a.png", "@.png", "%.png", "it's.png", "- a", "True", "1e3", "图/*.png",
                                  "\udce9.png", "a,b.png", "'", "null.png", "-"])
def test_a_text_option_is_the_text_as_it_stands(load, text):
    assert load(f"Infer.infer_imgs={text}").Infer.infer_imgs == text


@pytest.mark.parametrize("text, value", [("null", None), ("", None), ("~", None), ("'null'", "null"), ('"a b"', "a b"),
                                         ("''", ""), ("'it''s'", "it's")])
def test_quotes_and_nothing_keep_their_meaning(load, text, value):
    assert load(f"Infer.infer_imgs={text}").Infer.infer_imgs == value


def test_where_a_text_or_a_switch_may_stand_switches_win(load):
    assert load("Arch.pretrained=True").Arch.pretrained is True
    assert load("Arch.pretrained=2024").Arch.pretrained == "2024"
    assert load("Global.cache_features=auto").Global.cache_features == "auto"


@pytest.mark.parametrize("place", ["Optimizer", "Optimizer.lr", "DataLoader.Train.dataset", "Tuning", "Arch"])
def test_a_name_that_is_none_is_left_to_whoever_builds(load, place):
    try:
        loaded = load(f"{place}.name=[1]")
    except ConfigError as error:  # of a fixed section
        assert "Arch.name is [1] (list): it must be str" in str(error)
    else:
        assert "[1]" in str(loaded.to_dict())


@pytest.mark.parametrize("override, message", [
    ("DataLoader.Train.dataset.root=*.d", """goes in quotes: -o "DataLoader.Train.dataset.root='*.d'\""""),
    ("DataLoader.Train.dataset.root=#1", """goes in quotes: -o "DataLoader.Train.dataset.root='#1'\""""),
    ("DataLoader.Train.dataset.root=[1", "goes in quotes"),
    ("Optimizer.weight_decay=1 #0", "all that follows # is a comment"),
])
def test_elsewhere_the_error_says_how_to_quote(load, override, message):
    with pytest.raises(ConfigError) as error:
        load(override)
    assert message in str(error.value)


PADDLECLAS = """
Global: {checkpoints: null, pretrained_model: null, output_dir: ./output/, device: gpu, save_interval: 1,
  eval_during_train: True, eval_interval: 1, epochs: 300, print_batch_step: 10, use_visualdl: False,
  image_shape: [3, 224, 224], save_inference_dir: ./inference, to_static: False}
AMP: {use_amp: False, use_fp16_test: False, scale_loss: 128.0, use_dynamic_loss_scaling: True, use_promote: False,
  level: O1}
Arch: {name: vit_base_patch16, class_num: 1000, drop_path_rate: 0.1}
Loss: {Train: [CELoss: {weight: 1.0, epsilon: 1e-4}], Eval: [CELoss: {weight: 1.0}]}
Optimizer: {name: AdamW, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.3,
  no_weight_decay_name: pos_embed cls_token .bias norm, one_dim_param_no_weight_decay: True,
  lr: {name: Cosine, learning_rate: 0.003, eta_min: 1e-6, warmup_epoch: 10, warmup_start_lr: 1e-6}}
DataLoader:
  Train: {dataset: {name: ImageNetDataset, image_root: ./d, cls_label_path: ./d/train_list.txt, transform_ops: [
    DecodeImage: {to_rgb: True, channel_first: False}]}, sampler: {name: DistributedBatchSampler, batch_size: 256,
    drop_last: False, shuffle: True}, loader: {num_workers: 4, use_shared_memory: True}}
  Eval: {dataset: {name: ImageNetDataset, image_root: ./d, cls_label_path: ./d/val_list.txt}}
Infer: {infer_imgs: a.jpg, batch_size: 10, PostProcess: {name: Topk, topk: 3, class_id_map_file: labels.txt}}
Metric: {Train: [TopkAcc: {topk: [1, 5]}], Eval: [TopkAcc: {topk: [1, 5]}]}
"""


def test_a_config_of_paddleclas_is_read_and_says_at_once_what_is_not_taken(tmp_path):
    (tmp_path / "a.yaml").write_text(PADDLECLAS)
    loaded = config.load(tmp_path / "a.yaml")
    assert (loaded.AMP.level, loaded.AMP.scale_loss, loaded.Infer.topk) == ("O0", 128.0, 3)
    note, = loaded.notes
    for place in ("Global.image_shape (the size", "Global.save_inference_dir", "Global.to_static", "AMP.use_fp16_test",
                  "AMP.use_promote", "Infer.PostProcess.class_id_map_file", "AMP.use_amp False is AMP.level O0",
                  "Infer.PostProcess.topk is Infer.topk 3"):
        assert place in note
    assert config.load(tmp_path / "a.yaml", ["AMP.use_amp=True"]).AMP.level == "O1"
    (tmp_path / "b.yaml").write_text(PADDLECLAS.replace("{name: Topk, topk: 3, class_id_map_file: labels.txt}", ""))
    assert config.load(tmp_path / "b.yaml").Infer.topk == 5


def test_all_that_is_wrong_with_the_sections_is_said_at_once(tmp_path):
    (tmp_path / "a.yaml").write_text(PADDLECLAS + "Slim: {}\n")
    with pytest.raises(ConfigError) as error:
        config.load(tmp_path / "a.yaml", ["Global.epochs=-1", "Infer.batchsize=3", "DataLoader.Eval.sampler.shufle=1"])
    for part in ("Global.epochs is -1", "Did you mean 'Infer.batch_size'", "'DataLoader.Eval.sampler.shuffle'",
                 "Slim of PaddleClas is not taken: networks are not quantised"):
        assert part in str(error.value)


def test_names_of_all_kinds_that_there_are_not_are_said_at_once_with_the_reason(tmp_path):
    (tmp_path / "a.yaml").write_text(PADDLECLAS)
    wrong = ["DataLoader.Train.dataset.transform_ops=[{RandAugmentV2: {prob: 0.5}}, {RandFlipImag: null}, AugMix, 7]",
             "DataLoader.Train.dataset.batch_transform_ops=[{FmixOperator: {}}]", "Loss.Train=[{TripletLossV2: {}}]",
             "Loss.Eval=[{MixCELoss: {}}, {CELoss: {weigt: 1}}]", "Metric.Eval=[{Recallk: {topk: 1}}]",
             "Optimizer.name=AdamWDL", "Optimizer.layerwise_decay=0.6", "Optimizer.lr.warmup_epoc=3",
             "DataLoader.Train.sampler.name=PKSampler", "DataLoader.Train.dataset.name=MultiScaleDataset",
             "Arch.qk_bias=True", "Tuning.name=Adaptformr"]
    parts = ["RandAugmentV2 of PaddleClas is not here: take RandAugment", "'RandFlipImag' is unknown. Did you mean",
             "AugMix of PaddleClas", "Transform 7 is not one operator", "FmixOperator of PaddleClas is not here",
             "Loss.Train.0: TripletLossV2 of PaddleClas is not here: retrieval", "MixCELoss of PaddleClas is not here",
             "option of Loss.Eval.1 (CELoss): 'weigt' is unknown. Did you mean 'weight'", "Recallk of PaddleClas",
             "AdamWDL of PaddleClas is not here", "'warmup_epoc' is unknown. Did you mean 'warmup_epoch'",
             "PKSampler of PaddleClas", "MultiScaleDataset of PaddleClas", "'qk_bias' is unknown",
             "Did you mean 'AdaptFormer'"]
    for override, more in ((None, ()), ("Global.epoch=3", ["key 'Global.epoch' is unknown. Did you mean"]),
                           ("Arch.Backbone={}", ["Arch.Backbone of PaddleClas is not taken: retrieval"])):
        with pytest.raises(ConfigError) as error:
            build.check_names(config.load(tmp_path / "a.yaml", [*wrong, override] if override else wrong))
        for part in (*parts, *more):
            assert part in str(error.value)
        listed = [sentence for sentence in str(error.value).split("Choose from: ")[1:]]
        assert len({text.split(";")[0] for text in listed}) == len(listed)  # each list of choices once


def test_what_an_evaluation_does_not_need_is_not_asked_of_it(tmp_path):
    (tmp_path / "a.yaml").write_text(PADDLECLAS)
    loaded = config.load(tmp_path / "a.yaml", ["Optimizer.name=AdamWDL", "Loss.Train=[{TripletLossV2: {}}]"])
    build.check_names(loaded, training=False)
    loaded.Metric.Eval = [{"Recallk": {}}]
    with pytest.raises(ConfigError, match="Recallk"):
        build.check_names(loaded, training=False)


@pytest.mark.parametrize("change", ["Global.eval_mode=classification", "Optimizer.lr.last_epoch=-1",
                                    "Optimizer.clip_grad=null", "Arch.use_fused_attn=False"])
def test_what_says_nothing_is_left_out_with_a_note(tmp_path, change):
    (tmp_path / "a.yaml").write_text(PADDLECLAS)
    loaded = config.load(tmp_path / "a.yaml", [change])
    assert f"{change.split('=')[0]} (it says nothing)" in loaded.notes[0]
    build.check_names(loaded)


def test_a_key_that_is_given_several_times_is_said(load):
    loaded = load("Global.epochs=5", "Global.seed=1", "Global.epochs=6")
    assert loaded.Global.epochs == 6 and loaded.notes == ("Global.epochs is given several times: '6' counts, not '5'",)
    assert not load("Global.epochs=5", "Global.epochs=5").notes


def test_sweeps_take_yaml_lists():
    assert config.values("A.b=1,2.5,[3, 4],'x,y'") == ("A.b", [1, 2.5, [3, 4], "x,y"])
    for wrong in ("A.b", "A.b=", "=1", "A.b=[1"):
        with pytest.raises(ConfigError, match="not of the form"):
            config.values(wrong)
