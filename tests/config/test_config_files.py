"""What may be wrong with a config file: one line that says where, never a traceback, a hang or another meaning."""
import os
import time

import pytest

from ppadapt import config
from ppadapt.errors import ConfigError

MINIMAL = """
Arch: {name: vit_micro_patch4_32}
DataLoader:
  Train: {dataset: {name: Digits}}
  Eval: {dataset: {name: Digits}}
"""
BOMB = "Loss:\n  Train:\n    - &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"    - &{new} [{', '.join(['*' + old] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi"))


@pytest.fixture
def load(tmp_path):
    def load(text, *overrides):
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "a.yaml").write_bytes(data)
        return config.load(tmp_path / "a.yaml", overrides)
    return load


@pytest.mark.parametrize("text, message", [
    (MINIMAL + "Global: {epochs: 1, epochs: 2}\n", "line 6, column 21: the key 'epochs' stands twice, in line 6 too"),
    (MINIMAL + "Tuning: {name: VPT}\nTuning: {name: LinearProbe}\n", "'Tuning' stands twice, in line 6 too"),
    (MINIMAL + "Tuning: &a {blocks: *a}\n", "an alias"),
    (MINIMAL + "Infer: {transforms: &a [*a]}\n", "an alias"),
    (MINIMAL + BOMB, "PPADAPT_MAX_YAML_VALUES"),
    (MINIMAL + "Global: {output_dir: !!timestamp hello}\n", "the tag tag:yaml.org,2002:timestamp is not for a config"),
    (MINIMAL + "Global: {output_dir: !!bool hello}\n", "is not for a config"),
    (MINIMAL + "Global: {output_dir: !!python/object/apply:os.system ['true']}\n", "is not for a config"),
    (MINIMAL + "Global: {output_dir: " + "[" * 3000 + "]" * 3000 + "}\n", "nested"),
    (MINIMAL + "Global: {seed: " + "1" * 5000 + "}\n", "it must be int"),
    (MINIMAL + "Global: {seed: 99999999999999999999999}\n", "no number that can be used"),
    (MINIMAL + "Global: {seed: 9000000000000}\n", "Global.seed is 9000000000000: it must be at least 0 and at most"),
    (MINIMAL + "Global: {seed: -1}\n", "Global.seed is -1"),
    (MINIMAL + "Global: {epochs: -1}\n", "Global.epochs is -1: it must be at least 0"),
    (MINIMAL + "Global: {update_freq: 0}\n", "Global.update_freq is 0: it must be at least 1"),
    (MINIMAL + "EMA: {decay: .nan}\n", "no number that can be used"),
    (MINIMAL + "AMP: {scale_loss: .inf}\n", "no number that can be used"),
    (MINIMAL + "AMP: {scale_loss: -1}\n", "AMP.scale_loss is -1.0: it must be above 0"),
    (MINIMAL + "EMA: {decay: 2.0}\n", "EMA.decay is 2.0: it must be above 0 and below 1"),
    (MINIMAL + "Global: {output_dir: 2024}\n", "(as text: '2024')"),
    (MINIMAL + "Global: {seed: 0755}\n", "it must be int"),
    (MINIMAL + "1: 2\n", "the key '1' is not text"),
    (MINIMAL + "? [a, b]\n: 2\n", "the key a list or mapping is not text"),
    ("_base_: 5\n" + MINIMAL, "_base_ is 5"),
    ("_base_: [none.yaml]\n" + MINIMAL, "none.yaml does not exist"),
    (MINIMAL.encode() + b"# r\xe9sum\xe9\n", "it is not UTF-8"),
    (MINIMAL.encode() + b"\0", "cannot be read"),
    (MINIMAL + "Arch: {name: vit_micro_patch4_32}\n", "'Arch' stands twice"),
    (MINIMAL.replace("_32}", "_32, options: {img_size: 64}}"), "key 'Arch.options' is unknown"),
    (MINIMAL + "notes: [x]\n", "section 'notes' is unknown"),
    (MINIMAL + "Tuning:\n", "Tuning is None"),
    (MINIMAL + "#" * (2 ** 20 + 1), "bytes and may have"),
])
def test_one_line_for_each(load, text, message):
    start = time.process_time()
    with pytest.raises(ConfigError) as error:
        load(text)
    assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 600
    assert time.process_time() - start < 2


def test_a_pipe_or_a_folder_in_the_place_of_a_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", tmp_path):
        with pytest.raises(ConfigError, match="a folder or a device"):
            config.load(path)


def test_dates_and_clock_times_are_text_and_a_byte_order_mark_is_none(load):
    assert load(MINIMAL + "Global: {output_dir: 2001-99-99}\n").Global.output_dir == "2001-99-99"
    assert load(MINIMAL + "Global: {output_dir: 12:30}\n").Global.output_dir == "12:30"
    assert load(b"\xef\xbb\xbf" + MINIMAL.encode()).Arch.name == "vit_micro_patch4_32"
    assert load(MINIMAL.replace("\n", "\r\n")).Arch.name == "vit_micro_patch4_32"


def test_a_section_left_empty_says_nothing(tmp_path, load):
    (tmp_path / "base.yaml").write_text(MINIMAL + "Global: {epochs: 7}\nEMA: {decay: 0.9}\n")
    loaded = load("_base_: base.yaml\nGlobal:\nEMA:\nDataLoader: {Train: {sampler:}}\n")
    assert loaded.Global.epochs == 7 and loaded.EMA.decay == 0.9 and loaded.DataLoader.Train.sampler.batch_size == 64


def test_an_alias_is_a_copy(load):
    text = MINIMAL.replace("{name: Digits}}\n  Eval: {dataset: {name: Digits}}",
                           "&d {name: Digits}}\n  Eval: {dataset: *d}")
    loaded = load(text, "DataLoader.Train.dataset.limit=5")
    assert loaded.DataLoader.Train.dataset == {"name": "Digits", "limit": 5}
    assert loaded.DataLoader.Eval.dataset == {"name": "Digits"}


def test_merge_keys_are_no_duplicates(load):
    loaded = load(MINIMAL.replace("{name: Digits}}\n  Eval: {dataset: {name: Digits}}",
                                  "&d {name: Digits, limit: 9}}\n  Eval: {dataset: {<<: *d, limit: 5}}"))
    assert loaded.DataLoader.Eval.dataset == {"name": "Digits", "limit": 5}


def test_bases_that_share_bases_are_read_once(tmp_path, load):
    (tmp_path / "b0.yaml").write_text(MINIMAL)
    for n in range(1, 40):  # 2 ** 39 readings, were each read where it is named
        (tmp_path / f"b{n}.yaml").write_text(f"_base_: [b{n - 1}.yaml, b{n - 1}.yaml]\n")
    assert load("_base_: b39.yaml\n").Arch.name == "vit_micro_patch4_32"


def test_a_run_that_lies_where_its_config_says_keeps_that_place_and_another_folder_chooses_none(tmp_path):
    """`ppadapt infer --tuned RUN/...` needs no warning; a folder that somebody gave does not say where to write."""
    for output, kept in ((tmp_path / "out", True), (tmp_path / "elsewhere", False), (tmp_path / "out" / "a-b", False)):
        run = tmp_path / "out" / "a-b" / "20260101-000000"
        run.mkdir(parents=True, exist_ok=True)
        (run / "train.log").write_text("")
        (run / "config.yaml").write_text(f"_base_: digits/vit_micro_linear\nGlobal: {{output_dir: '{output}'}}\n")
        loaded = config.load(run / "config.yaml")
        assert loaded.Global.output_dir == (str(output) if kept else "output")
        assert any("does not choose where files go" in note for note in loaded.notes) == (not kept)
