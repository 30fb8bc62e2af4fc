"""`ppadapt.notebook` in made-up homes that look like AI Studio's."""
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ppadapt import config, notebook
from ppadapt.engine.stopping import Stopped
from ppadapt.errors import UserError
from ppadapt.runs import experiment

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """/home/aistudio with two mounted data sets, as the current folder."""
    home = tmp_path / "home" / "aistudio"
    for folder in ("work", "data/data101", "data/data69076"):
        (home / folder).mkdir(parents=True)
    (home / "data" / "data69076" / "cifar-10-python.tar.gz").write_bytes(b"x")
    (home / "data" / "data101" / "mae_pretrain_vit_base.pth").write_bytes(b"x")
    monkeypatch.delenv("PPADAPT_DATA", raising=False)
    monkeypatch.setenv("PIP_USER", "yes")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(home)
    return home


def test_a_notebook_of_ai_studio(home, capsys):
    here = notebook.setup(home)
    assert here.kind == notebook.NOTEBOOK and here.output == home / "work" / "output"
    assert sys.path[-1] == str(home / "external-libraries")  # the kernel's own packages come first
    assert notebook.os.environ["PIP_USER"] == "0"
    said = capsys.readouterr().out
    assert all(str(place) in said for place in (here.output, home / "data", home / "external-libraries"))
    assert here.scratch == home / "data"  # many small files are kept out of the project
    notebook.setup(home)
    assert sys.path.count(str(home / "external-libraries")) == 1


def test_a_script_task_of_ai_studio(tmp_path):
    data = tmp_path / "paddlejob" / "workspace" / "train_data" / "datasets" / "data69076"
    data.mkdir(parents=True)
    (data / "cifar-10-python.tar.gz").write_bytes(b"x")
    here = notebook.here(tmp_path)
    assert here.kind == notebook.TASK and here.output == tmp_path / "paddlejob" / "workspace" / "output"
    assert here.find("cifar-10-python.tar.gz") == data / "cifar-10-python.tar.gz"


def test_anywhere_else_it_is_as_for_the_commands(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_USER", "yes")
    monkeypatch.delenv("PPADAPT_DATA", raising=False)
    here = notebook.setup(tmp_path)
    assert here == notebook.Here(notebook.PLAIN, Path("output"), ()) and notebook.os.environ["PIP_USER"] == "yes"
    assert here.overrides() == ["Global.output_dir=output"] and here.scratch == Path()
    assert here.install_command("x") == [sys.executable, "-m", "pip", "install", "--no-deps", "x"]


def test_data_is_found_by_the_archives_name(home):
    here = notebook.here(home)
    assert here.find("mae_pretrain_vit_base.pth") == home / "data" / "data101" / "mae_pretrain_vit_base.pth"
    with pytest.raises(UserError) as error:
        here.find("birds[1].zip")
    assert "birds[1].zip is in none of" in str(error.value) and "data69076 (cifar-10-python.tar.gz)" in str(error.value)
    (home / "dataset").mkdir()
    (home / "dataset" / "mae_pretrain_vit_base.pth").write_bytes(b"mine")
    assert here.find("mae_pretrain_vit_base.pth") == Path("dataset/mae_pretrain_vit_base.pth")


def test_a_config_writes_where_it_lasts_and_looks_where_data_is_mounted(home):
    here = notebook.here(home)
    plan = config.load("cifar10/vit_micro_linear", here.overrides("cifar-10-python.tar.gz"))
    assert plan.Global.output_dir == str(home / "work" / "output")
    assert plan.DataLoader.Eval.dataset["root"] == [
        "dataset/cifar-10-python.tar.gz", str(home / "data/cifar-10-python.tar.gz"),
        str(home / "data/*/cifar-10-python.tar.gz")]
    with pytest.raises(UserError, match="data69076/cifar-10-python.tar.gz is damaged"):  # it was opened
        notebook.train(plan)


@pytest.mark.parametrize("package", ["paddleclas", "PaddleClas==2.6.0", "ppadapt[cpu,zoo]", "./ppadapt.whl[zoo]"])
def test_paddleclas_never_goes_into_the_kernel(home, package):
    with pytest.raises(UserError, match=r"numpy 1\.24\.4"):
        notebook.here(home).install(package)


@pytest.mark.parametrize("given, name", [
    ("Safetensors>=0.4", "safetensors"), ("a_b.c", "a-b-c"), ("work/ppadapt-0.2.0-py3-none-any.whl[cpu]", "ppadapt"),
    ("visualdl", "visualdl"), ("x (>=1)", "x")])
def test_names_of_packages(given, name):
    assert notebook._name(given) == name


def test_a_package_goes_where_it_lasts_and_what_is_there_is_not_installed_again(home, tmp_path, monkeypatch):
    """Real pip, without a network: a package that needs numpy and one that there is not."""
    wheel, about = tmp_path / "tiny_pkg-1.0-py3-none-any.whl", "tiny_pkg-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("tiny_pkg/__init__.py", "x = 5\n")
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-pkg\nVersion: 1.0\n"
                      "Requires-Dist: numpy\nRequires-Dist: surely-not-there>=2\nRequires-Dist: no; extra == 'a'\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    here = notebook.setup(home)
    with pytest.raises(UserError, match="ERROR: No matching distribution found for surely-not-there"):
        here.install(str(wheel))
    assert (home / "external-libraries" / "tiny_pkg" / "__init__.py").is_file()
    assert not (home / "external-libraries" / "numpy").exists()
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path.append({str(here.libraries)!r}); "
                           "import tiny_pkg; print(tiny_pkg.x)"], capture_output=True, text=True)
    assert done.stdout == "5\n", done.stderr


def test_a_cell_that_is_run_again_goes_on_and_then_only_reads(home, monkeypatch):
    changes = [*notebook.here(home).overrides(), "Global.epochs=2", "Global.use_visualdl=False", "Global.device=cpu",
               "DataLoader.Train.dataset.limit=32", "DataLoader.Train.sampler.batch_size=16", "Arch.pretrained=null",
               "DataLoader.Eval.dataset.limit=8", "Arch.embed_dim=12", "Arch.depth=1", "Optimizer.lr.warmup_epoch=0"]

    def cell():
        return notebook.train(config.load("digits/vit_micro_adaptformer", changes))

    def cut(*_):
        raise Stopped(15)

    with monkeypatch.context() as patch:  # the kernel is lost in the second epoch
        train_epoch = experiment.run_training.__globals__["_train_epoch"]
        patch.setitem(experiment.run_training.__globals__, "_train_epoch",
                      lambda job, now, *rest: train_epoch(job, now, *rest) if now.epoch == 1 else cut())
        with pytest.raises(KeyboardInterrupt):
            cell()
    first = cell()
    runs = sorted((home / "work" / "output" / "digits-vit_micro_adaptformer").iterdir())
    assert len(runs) == 2 and [row["epoch"] for row in first["history"]] == [1, 2]
    log = (runs[1] / "train.log").read_text(encoding="utf-8")
    assert "resumed after epoch 1" in log and "[Train][Epoch 1/2]" not in log
    assert cell() == json.loads((runs[1] / "results.json").read_text(encoding="utf-8"))
    assert len(list((home / "work" / "output" / "digits-vit_micro_adaptformer").iterdir())) == 2
