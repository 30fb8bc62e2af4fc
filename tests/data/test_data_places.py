"""A root may be a list of places, with patterns: the first that holds the data counts, and is named."""
import tarfile

import numpy as np
import pytest
from PIL import Image
from test_data_cifar import make_cifar10

from ppadapt import config
from ppadapt.data import DATASETS, DataError
from ppadapt.options import check_options

CIFAR10, ImageFolder, ImageNetDataset = (DATASETS[name] for name in ("CIFAR10", "ImageFolder", "ImageNetDataset"))


@pytest.fixture
def mounted(tmp_path):
    """Data sets as AI Studio mounts them, data/data69076/..., beside others."""
    archive = tmp_path / "data" / "data69076" / "cifar-10-python.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(make_cifar10(tmp_path / "made"), "cifar-10-batches-py")
    (tmp_path / "data" / "data101").mkdir()
    for name in ("train/a/0.png", "train/b/1.png", "test/a/2.png", "test/b/3.png"):
        (tmp_path / "data" / "data7" / "flowers" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save(tmp_path / "data" / "data7" / "flowers" / name)
    return tmp_path


def test_the_first_place_that_holds_it_counts_and_is_named(mounted, caplog):
    caplog.set_level("INFO")
    pattern = str(mounted / "data" / "*")
    data = CIFAR10("test", root=[str(mounted / "nowhere"), pattern], download=False)
    assert len(data) == 3 and f"root: {mounted / 'data' / 'data69076'} is the first of 4 places" in caplog.text
    (mounted / "mine").mkdir()
    assert len(CIFAR10("test", root=[str(mounted / "mine"), str(mounted / "data/*/cifar-10-python.tar.gz")],
                       download=False)) == 3


def test_folders_and_lists_are_found_too(mounted):
    flowers = [str(mounted / "flowers"), str(mounted / "data" / "*" / "flowers")]
    assert ImageFolder("train", root=flowers).classes == ["a", "b"]
    (mounted / "list.txt").write_text("train/a/0.png 0\ntrain/b/1.png 1\n")
    listed = ImageNetDataset(image_root=flowers, cls_label_path=["none.txt", str(mounted / "list.txt")])
    assert listed.labels.tolist() == [0, 1]


def test_what_is_nowhere_names_every_place(mounted):
    with pytest.raises(DataError) as error:
        CIFAR10("test", root=[str(mounted / "a"), str(mounted / "b/*")], download=False)
    assert f"CIFAR10 is not at {mounted / 'a'} (nor at {mounted / 'b'}/*)" in str(error.value)
    with pytest.raises(DataError, match=r"is no folder \(nor at "):
        ImageFolder("train", root=[str(mounted / "a"), str(mounted / "b")])


@pytest.mark.parametrize("root", [[], [3], [None], {}])
def test_what_is_no_list_of_paths_is_refused(root):
    with pytest.raises(DataError, match="give a path, or a list of paths"):
        CIFAR10("test", root=root)


def test_a_pattern_after_the_other_would_search_the_disk():
    with pytest.raises(DataError, match="at most 3 folders of a path may be patterns"):
        CIFAR10("test", root="/*/*/*/*/cifar-10-python.tar.gz")


def test_the_environment_may_name_several(mounted, monkeypatch):
    monkeypatch.setenv("PPADAPT_DATA", f"{mounted / 'a'}:{mounted / 'data' / 'data69076'}")
    assert len(CIFAR10("test", download=False)) == 3


def test_a_config_takes_a_list(mounted):
    changed = f"[{mounted}/x, {mounted}/data/*]"
    loaded = config.load("cifar10/vit_micro_linear", [f"DataLoader.Train.dataset.root={changed}"])
    options = {key: value for key, value in loaded.DataLoader.Train.dataset.items() if key in ("root",)}
    check_options(CIFAR10.__init__, options, "here")
    assert options["root"] == [f"{mounted}/x", f"{mounted}/data/*"]
