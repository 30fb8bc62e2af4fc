"""What VisualDL is given of a run: in its files, through its server's interface, and as its pages show it."""
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image
from test_resume import stop_at
from test_training import plan

import ppadapt
from ppadapt import build
from ppadapt.build.observer import MISTAKES, Watching
from ppadapt.cli import curves as command
from ppadapt.data import sample
from ppadapt.engine.stopping import Stopped
from ppadapt.runs import curve_pictures, experiment
from ppadapt.tasks import MultiLabel, SingleLabel
from ppadapt.tuning import observe

LogReader = pytest.importorskip("visualdl", reason="visualdl is not installed").LogReader
BRANCHES = [f"blocks.{i}.adaptmlp" for i in range(2)]
SCALARS = {"train/loss", "train/top1", "train/top5", "train/lr", "train/ips", "eval/loss", "eval/top1", "eval/top5",
           *(f"{what}/{name}" for what in ("tuned-scale", "tuned-vs-mlp") for name in BRANCHES)}


def curves(folder):
    """{tag: [(step, value), ...]} of a run's folder, as VisualDL reads its newest file."""
    reader = LogReader(file_path=str(sorted((Path(folder) / "vdl").iterdir())[-1]))
    return reader, {tag: [(one.id, one.value) for one in reader.get_data("scalar", tag)]
                    for tag in reader.get_tags()["scalar"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs in one folder: a learnable scale, and a fixed one."""
    place = tmp_path_factory.mktemp("runs")
    learnt = {"name": "AdaptFormer", "bottleneck": 4, "scale": "learnable"}
    return place / "out", [experiment.train(plan(place, Global__use_visualdl=True, **more)) for more in (
        {"Tuning": learnt}, {"Tuning__scale": 0.5})]


def test_every_number_has_its_curve(runs):
    results = runs[1][0]
    reader, points = curves(results["folder"])
    assert set(points) == SCALARS
    assert [step for step, _ in points["eval/top1"]] == [1, 2]
    assert points["eval/loss"][-1][1] == pytest.approx(results["loss"], rel=1e-5)
    tuned = ppadapt.weights.load_tuned(f"{results['folder']}/latest.safetensors")[0]
    for name in BRANCHES:
        assert points[f"tuned-scale/{name}"][-1][1] == pytest.approx(float(tuned[f"{name}.scale"][0]), rel=1e-6)
        assert [step for step, _ in points[f"tuned-vs-mlp/{name}"]] == [1, 2]
    assert set(reader.get_tags()["image"]) == {"input/train", "eval/confusion", "eval/per_class", "eval/mistakes"}
    shown = Image.open(io.BytesIO(reader.get_data("image", "input/train")[0].image.encoded_image_string))
    assert shown.size == (8 * 66 - 2, 2 * 66 - 2)  # a batch of 16, enlarged to 64 pixels


def test_runs_are_compared_by_what_differs(runs):
    from visualdl.server.api import create_api_call

    answer = create_api_call(str(runs[0]), None, 0)
    listed = json.loads(answer("hparams/list", {})[0])["data"]
    assert len(listed) == 2
    by_folder = {one["name"].split("/")[-2]: one for one in listed}
    for results, scale in zip(runs[1], ({"scale (text)": "learnable"}, {"scale": 0.5})):
        one = by_folder[Path(results["folder"]).name]
        assert one["metrics"]["eval/top1"] == pytest.approx(results["top1"])
        assert scale.items() <= one["hparams"].items() and one["hparams"]["method"] == "AdaptFormer"
        assert one["hparams"]["lr"] == 0.01 and one["hparams"]["batch"] == 16
    tags = json.loads(answer("scalar/tags", {})[0])["data"]
    assert len(tags["runs"]) == 2 and SCALARS == set().union(*tags["tags"])
    assert json.loads(answer("hparams/indicators", {})[0])["status"] == 0


def test_a_run_that_was_cut_off_goes_on_in_a_folder_of_its_own(tmp_path, monkeypatch):
    def config(where, **more):  # without dropout, which Paddle 2.6 draws anew where a run goes on
        return plan(tmp_path / where, Global__use_visualdl=True, Global__print_batch_step=1, Global__epochs=2,
                    Tuning__dropout=0.0, **more)

    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(Stopped):
            experiment.train(config("cut"))
    _, resumed = curves(experiment.train(config("cut", Global__checkpoints="auto"))["folder"])
    _, whole = curves(experiment.train(config("whole"))["folder"])
    assert len(list((tmp_path / "cut" / "out" / "run").iterdir())) == 2
    assert resumed.keys() == whole.keys() and "tuned-vs-mlp/blocks.0.adaptmlp" in whole
    for tag, points in whole.items():
        assert [step for step, _ in resumed[tag]] == [step for step, _ in points], tag
        if tag != "train/ips":
            assert [value for _, value in resumed[tag]] == pytest.approx([value for _, value in points], rel=1e-5)


def test_the_branch_beside_the_mlp_is_what_the_layers_compute():
    paddle.seed(0)
    network = ppadapt.network("vit_micro_patch4_32", img_size=8, embed_dim=16, depth=1, num_heads=2)
    adaptation = ppadapt.attach(network, ppadapt.AdaptFormer(bottleneck=4, scale=2.0),
                                head=ppadapt.heads.batchnorm_linear(16, 3))
    block = network.blocks[0]
    block.adaptmlp.up_proj.weight.set_value(paddle.randn([4, 16]))
    images = paddle.randn([3, 3, 8, 8])
    with paddle.no_grad():
        x = network.tokens(images)
        x = x + block.attn(block.norm1(x))
        sizes = [float(np.linalg.norm(y.numpy(), axis=-1).mean())
                 for y in (block.adaptmlp(x), block.mlp(block.norm2(x)))]
    before = adaptation(images).numpy()
    found = observe.norms_to_mlp(adaptation, images)
    assert found == {"blocks.0.adaptmlp": pytest.approx(sizes[0] / sizes[1], rel=1e-4)}
    assert np.array_equal(adaptation(images).numpy(), before)  # nothing was left behind


@pytest.mark.parametrize("method, count", [("Houlsby", 4), ("Pfeiffer", 2), ("VPT", 0), ("LoRA", 0), ("Convpass", 4),
                                           ("LinearProbe", 0)])
def test_what_adds_to_the_stream_is_looked_at_and_what_does_not_is_left_out(method, count):
    network = ppadapt.network("vit_micro_patch4_32", img_size=8, embed_dim=16, depth=2, num_heads=2)
    adaptation = ppadapt.attach(network, ppadapt.METHODS[method](), head=ppadapt.heads.batchnorm_linear(16, 3))
    assert len(observe.norms_to_mlp(adaptation, paddle.randn([2, 3, 8, 8]))) == count


def test_the_worst_mistakes_are_kept_worst_first():
    draw = np.random.default_rng(0)
    logits, truth = draw.normal(size=(90, 4)).astype("float32"), draw.integers(0, 4, 90)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = sorted((-shares[i].max(), i) for i in range(90) if shares[i].argmax() != truth[i])[:MISTAKES]
    watching = Watching(None, SingleLabel(), _Shown(), None, whole=True, kept=True)
    for start in range(0, 90, 20):
        rows = slice(start, start + 20)
        watching.batch(paddle.to_tensor(logits[rows]), paddle.to_tensor(logits[rows]), paddle.to_tensor(truth[rows]))
    assert [one.order for one in watching.mistakes] == [i for _, i in expected]
    assert [int(one.image[0, 0, 0]) for one in watching.mistakes] == [i for _, i in expected]
    watching.begin()
    assert watching.mistakes == []
    wrong = MultiLabel().wrongness(np.array([[0.9, 0.1], [0.9, 0.8]]), np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert wrong.tolist() == pytest.approx([0, 1.7])


class _Shown:
    """A data set whose image i has the value i."""

    def image(self, i):
        return np.full((2, 2, 3), i, np.uint8)


def test_what_the_network_is_shown_is_what_people_see(tmp_path):
    config = plan(tmp_path)
    data = build.dataset(config.DataLoader.Eval, "test", 0)
    images, labels = sample.look(data, [3, 5])
    shown = sample.pixels(images, data.transform)
    enlarged = np.asarray(Image.fromarray(data.image(3)).resize((32, 32), Image.BILINEAR))
    assert shown.shape == (2, 32, 32, 3) and labels == [data.labels[3], data.labels[5]]
    assert np.abs(shown[0].astype(int) - enlarged).max() <= 1
    loader = build.loader(config.DataLoader.Train, "train", 0)
    first = sample.first_images(loader, 8)
    loader.set_epoch(1)
    assert np.allclose(first, next(iter(loader))[0].numpy()[:8], atol=1e-5)


def test_the_same_is_drawn_for_papers(runs, tmp_path, monkeypatch, capsys):
    place, results = runs
    shown = []
    monkeypatch.setattr(curve_pictures, "save", lambda figure, path: shown.append((figure, path)))
    command.main([str(place), "--output", str(tmp_path / "both.pdf")])
    command.main([results[0]["folder"]])
    assert [path for _, path in shown] == [tmp_path / "both.pdf", Path(results[0]["folder"]) / "curves.png"]
    both, one = ({axis.get_title(): axis for axis in figure.axes if axis.get_title()} for figure, _ in shown)
    drawn = [line.get_ydata()[-1] for line in both["eval/top1"].get_lines()]
    assert drawn == pytest.approx([run["top1"] for run in results]) and "learnable scale" not in both
    assert len(one["learnable scale"].get_lines()) == 2 and one["test loss"].get_xlabel() == "epoch"
    monkeypatch.undo()
    command.main([results[0]["folder"], "--output", str(tmp_path / "one.png")])
    assert Image.open(tmp_path / "one.png").size[0] > 1000 and capsys.readouterr().out.endswith("one.png\n")


@pytest.mark.parametrize("arguments, message", [(["nowhere"], "nowhere is no folder and has no curves"),
                                                ([".", "--output", "a.jpg"], "ends in .png, .pdf, .svg")])
def test_what_cannot_be_drawn(arguments, message, runs, monkeypatch):
    monkeypatch.chdir(runs[0])
    with pytest.raises(ppadapt.UserError, match=message):
        command.main(arguments)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def browse(command):
    """A page, or a skip: beside many other programs Chromium has been seen to wait for its own workers for minutes."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=90)
    except subprocess.TimeoutExpired:
        pytest.skip("Chromium does not finish on this machine within 90 s")


@pytest.mark.skipif(not CHROMIUM or os.name == "nt", reason="no Chromium: apt install chromium")
def test_the_pages_of_the_server_show_them(runs, tmp_path):
    code = "import sys; from visualdl.server import app; app.run(sys.argv[1], host='127.0.0.1', port=int(sys.argv[2]))"
    port = 20000 + (time.time_ns() // 1000) % 20000
    server = subprocess.Popen([sys.executable, "-c", code, str(runs[0]), str(port)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, start_new_session=True)
    address = f"http://127.0.0.1:{port}/app"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{address}/api/components", timeout=5)
                break
            except OSError as error:
                if getattr(error, "code", None):
                    break  # it answers
                time.sleep(0.2)
        # Titles of curves are drawn: the text of the page has the groups, with the number of curves in each.
        for page, texts in (("scalar", ("eval 3", "train 5", "tuned-scale 2", "tuned-vs-mlp 2")),
                            ("image", ("eval/confusion", "eval/mistakes")),
                            ("hyper-parameter", ("AdaptFormer", "bottleneck", "scale (text)", "learnable"))):
            for seconds in (5, 20):  # of the page's own clock
                done = browse([CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                               f"--user-data-dir={tmp_path / 'chromium'}", "--window-size=1500,1300",
                               f"--virtual-time-budget={seconds}000", "--dump-dom", f"{address}/{page}"])
                shown = " ".join(re.sub("<style.*?</style>|<[^>]*>", " ", done.stdout, flags=re.DOTALL).split())
                if all(text in shown for text in texts):
                    break
            else:
                raise AssertionError((page, texts, shown[:2000], done.stderr[-500:]))
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # the server works in a process of its own
        server.wait(20)
