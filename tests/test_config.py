"""Configs: inheritance, overrides, and one clear line for each mistake."""
import pytest
import yaml

from ppadapt import config
from ppadapt.config import reading
from ppadapt.errors import ConfigError

MINIMAL = """
Arch: {name: vit_micro_patch4_32}
DataLoader:
  Train: {dataset: {name: Digits}}
  Eval: {dataset: {name: Digits}}
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="a.yaml"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name
    return write


def test_defaults_and_sections(write):
    loaded = config.load(write(MINIMAL))
    assert loaded.Global.epochs == 100 and loaded.Tuning == {"name": "AdaptFormer"}
    assert loaded.DataLoader.Train.sampler.batch_size == 64


def test_what_was_resolved_reads_back_the_same(write):
    loaded = config.load(write(MINIMAL), ["Arch.img_size=32", "Tuning.bottleneck=8"])
    again = config.parse(loaded.to_dict())
    assert again == loaded and again.Arch.options == {"img_size": 32}


def test_base_files_merge_and_later_ones_win(write):
    write("Global: {epochs: 3, seed: 1}\n", "one.yaml")
    write("Global: {epochs: 4}\n", "two.yaml")
    loaded = config.load(write("_base_: [one.yaml, two.yaml]\nGlobal: {print_batch_step: 7}\n" + MINIMAL))
    assert (loaded.Global.epochs, loaded.Global.seed, loaded.Global.print_batch_step) == (4, 1, 7)


def test_another_name_starts_its_options_anew(write):
    write(MINIMAL + "Tuning: {name: AdaptFormer, bottleneck: 8}\n", "base.yaml")
    path = write("_base_: base.yaml\nTuning: {name: VPT}\n")
    assert config.load(path).Tuning == {"name": "VPT"}
    changed = config.load(path, ["Tuning.name=AdaptFormer", "Tuning.scale=1"])
    assert changed.Tuning == {"name": "AdaptFormer", "scale": 1}


def test_base_files_that_lead_back_are_refused(write):
    write("_base_: a.yaml\n", "b.yaml")
    with pytest.raises(ConfigError, match="leads back"):
        config.load(write("_base_: b.yaml\n" + MINIMAL))


def test_overrides_reach_into_lists_and_new_mappings(write):
    path = write(MINIMAL + "Tuning: [{name: AdaptFormer, bottleneck: 8}, {name: VPT}]\n")
    loaded = config.load(path, ["Tuning.0.bottleneck=16", "DataLoader.Train.sampler.batch_size=5", "EMA.decay=0.9"])
    assert loaded.Tuning[0]["bottleneck"] == 16
    assert loaded.DataLoader.Train.sampler.batch_size == 5 and loaded.EMA.decay == 0.9


def test_numbers_with_exponents_are_numbers(write):
    assert config.load(write(MINIMAL), ["EMA.decay=1e-3"]).EMA.decay == 1e-3
    assert config.load(write(MINIMAL + "AMP: {scale_loss: 1e3}\n")).AMP.scale_loss == 1000.0


@pytest.mark.parametrize("override, message", [
    ("Global.epoch=2", "'Global.epoch' is unknown. Did you mean 'Global.epochs'?"),
    ("Globl.epochs=2", "section 'Globl' is unknown. Did you mean 'Global'?"),
    ("Global.epochs=many", "Global.epochs is 'many' (str): it must be int"),
    ("Global.epochs=True", "Global.epochs is True (bool): it must be int"),
    ("Global.epochs", "not of the form"),
    ("Global.epochs.deep=1", "Global.epochs is 5 and has no 'deep'"),
    ("DataLoader.Train.sampler.batch=1", "Did you mean 'DataLoader.Train.sampler.batch_size'?"),
    ("Loss.Train.3.CELoss=1", "a list of 1: give an index"),
    ("AMP=3", "AMP is 3: it must hold level"),
])
def test_mistakes_get_one_line(write, override, message):
    path = write(MINIMAL + "Global: {epochs: 5}\nLoss: {Train: [{CELoss: {}}]}\n")
    with pytest.raises(ConfigError) as error:
        config.load(path, [override])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_files_that_cannot_be_read(write, tmp_path):
    write(MINIMAL)
    with pytest.raises(ConfigError, match=r"b\.yaml does not exist\. There are: .*a\.yaml"):
        config.load(tmp_path / "b.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(write("Global: [1, 2\n"))
    with pytest.raises(ConfigError, match="holds a list"):
        config.load(write("- 1\n"))
    with pytest.raises(ConfigError, match="Arch is missing|DataLoader is missing"):
        config.load(write("Global: {seed: 1}\n"))


def test_construct_checks_options_by_their_signature():
    def thing(width: int, rate: float = 0.5, label: str = "x"):
        return width, rate, label

    choices = {"Thing": thing}
    assert config.construct(choices, {"name": "Thing", "width": 3, "rate": 1}, "T") == (3, 1.0, "x")
    for options, message in (({"width": "3"}, "width is '3' (str): it must be int"), ({}, "needs a value for: width"),
                             ({"width": 1, "raet": 2}, "Did you mean 'rate'?")):
        with pytest.raises(ConfigError) as error:
            config.construct(choices, {"name": "Thing", **options}, "T")
        assert message in str(error.value)
    with pytest.raises(ConfigError, match="Did you mean 'Thing'"):
        config.construct(choices, {"name": "thing"}, "T")
    with pytest.raises(ConfigError, match="needs a `name`"):
        config.construct(choices, {}, "T")


def test_yaml_reads_back_as_what_was_written():
    """Of the names of classes in an export: U+0085 was read back as a blank."""
    names = ["a\x85b", "\x85", "a\u2028b", " a ", "名", "null", "1.0", "a: b", "#1", "a\nb\n", "'\"\\", "x y " * 90]
    text = reading.yaml_text({"label_list": names})
    assert yaml.safe_load(text) == {"label_list": names} and "名" in text
