"""`ppadapt`: its commands, and configs by name from any folder."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ppadapt import cli, config, log
from ppadapt.cli import COMMANDS
from ppadapt.config import shipped
from ppadapt.errors import ConfigError
from ppadapt.version import __version__

ROOT = Path(__file__).resolve().parents[2]
NAME = "digits/vit_micro_adaptformer"


def call(monkeypatch, *arguments):
    """`ppadapt ARGUMENTS` in this process: its exit code, as the shell would see it."""
    monkeypatch.setattr(sys, "argv", ["ppadapt", *arguments])
    monkeypatch.setattr(cli.common, "_started_by", lambda: [])
    try:
        cli.main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0


def test_help_names_every_command_and_imports_neither_paddle_nor_numpy():
    code = ("import sys; from ppadapt.cli import main; sys.argv = ['ppadapt', '--help']; main()\n"
            "assert not {'paddle', 'numpy', 'yaml', 'matplotlib'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_every_command_is_a_module_that_says_what_it_does(monkeypatch, capsys):
    files = {path.stem for path in (ROOT / "ppadapt" / "cli").glob("*.py")} - {"__init__", "common"}
    assert files == set(COMMANDS)
    for name in COMMANDS:
        assert call(monkeypatch, name, "--help") == 0
        said = capsys.readouterr().out
        assert said.startswith(f"usage: ppadapt {name} ") and f"ppadapt {name}" in said.partition("examples")[2]


def test_an_unknown_command_gets_the_nearest(monkeypatch, capsys):
    assert call(monkeypatch, "trian") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: command 'trian' is unknown. Did you mean 'train'?") and said.count("\n") == 1


def test_version(monkeypatch, capsys):
    assert call(monkeypatch, "--version") == 0 and capsys.readouterr().out == f"ppadapt {__version__}\n"


def test_configs_lists_what_can_be_run_with_the_first_line_of_each(monkeypatch, capsys):
    assert call(monkeypatch, "configs") == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(listed) == set(shipped.names()) and len(listed) > 50
    assert listed[NAME].startswith("scikit-learn's digits, vit_micro_patch4_32 pretrained on CIFAR-100: AdaptFormer")
    assert not any(part.startswith("_") for name in listed for part in name.split("/"))
    assert call(monkeypatch, "configs", "cifar10/", "VPT") == 0
    assert all(line.startswith("cifar10/") and "vpt" in line for line in capsys.readouterr().out.splitlines())
    assert call(monkeypatch, "configs", "nothing") == 1


def test_a_config_that_is_shown_is_a_file_of_its_own(monkeypatch, capsys, tmp_path):
    assert call(monkeypatch, "configs", "--show", NAME) == 0
    (tmp_path / "my.yaml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert config.load(tmp_path / "my.yaml") == config.load(ROOT / f"configs/{NAME}.yaml")


@pytest.mark.parametrize("name", [NAME, f"{NAME}.yaml", f"configs/{NAME}.yaml", f"configs/{NAME}"])
def test_a_config_that_ships_is_found_from_any_folder_and_said(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = config.load(name)
    assert found == config.load(ROOT / f"configs/{NAME}.yaml") and found.source == ROOT / f"configs/{NAME}.yaml"
    log.setup(facts=found.facts)
    log.setup(tmp_path / "train.log")  # a run's folder comes later than its config
    assert f"config {NAME}: {found.source}, which ships with ppadapt {__version__}" in \
        (tmp_path / "train.log").read_text(encoding="utf-8")


def test_a_path_comes_before_what_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    mine = tmp_path / "digits" / "vit_micro_adaptformer.yaml"
    mine.write_text(f"_base_: {NAME}\nGlobal: {{epochs: 77}}\n", encoding="utf-8")
    loaded = config.load("digits/vit_micro_adaptformer.yaml")
    assert loaded.Global.epochs == 77 and loaded.Tuning["name"] == "AdaptFormer"  # its base is the one that ships
    assert loaded.facts[0].startswith("config: digits/vit_micro_adaptformer.yaml, based on ")
    assert "vit_micro_adaptformer.yaml" in loaded.facts[0].partition("based on")[2]


@pytest.mark.parametrize("name, near", [("digits/vit_micro_adaptfromer", True), ("/digits/x", False),
                                        ("../configs/digits/vit_micro_adaptformer", True)])
def test_what_is_neither_gets_the_nearest(name, near, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        config.load(name)
    assert f"config file {name} does not exist" in str(error.value)
    assert str(error.value).endswith(("? `ppadapt configs` lists those", ". `ppadapt configs` lists those"))
    assert ("Did you mean 'digits/vit_micro_adaptformer'" in str(error.value)) == near


def test_a_folder_of_that_name_is_no_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir(parents=True)  # of somebody's results
    assert config.load(NAME).source == ROOT / f"configs/{NAME}.yaml"


def test_bases_are_found_where_the_wheel_has_them(tmp_path, monkeypatch):
    """A wheel has the folder inside of the package, with another path and other neighbours."""
    shutil.copytree(ROOT / "configs", tmp_path / "ppadapt" / "configs")
    monkeypatch.setattr(shipped, "folder", lambda: tmp_path / "ppadapt" / "configs")
    assert config.load("cifar100/mae_vit_base_adaptformer").Optimizer["name"] == "Momentum"


@pytest.mark.parametrize("error, says", [
    (PermissionError(13, "Permission denied", "run/ckpt"), "'run/ckpt': change its permissions, or choose"),
    (OSError(28, "No space left on device", "a.json"), "'a.json': make room, or choose another place"),
    (OSError(30, "Read-only file system", "a.json"), "'a.json': make room, or choose another place")])
def test_a_place_that_cannot_be_used_is_one_line(error, says, monkeypatch):
    def fails():
        raise error

    monkeypatch.setattr(cli.common, "_started_by", lambda: [])
    monkeypatch.setattr(cli.common, "_end_quietly", lambda: None)
    with pytest.raises(SystemExit) as end:
        cli.common.guarded(fails)
    assert says in end.value.code and end.value.code.startswith("error: ") and "\n" not in end.value.code
