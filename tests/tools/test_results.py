"""make results: what is left is run once, tables come from records alone, and what does not agree is named."""
import contextlib
import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from ppadapt.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
# A network that trains in a moment: other runs than the real ones, in a copy of the documents.
TINY = ["Arch.pretrained=null", "Arch.embed_dim=12", "Arch.num_heads=2", "Arch.depth=1", "Global.epochs=1",
        "DataLoader.Train.dataset.limit=40", "DataLoader.Train.sampler.batch_size=20",
        "DataLoader.Eval.dataset.limit=60", "Global.use_visualdl=False", "Optimizer.lr.warmup_epoch=0"]
PAGE = "# Page\n\n<!-- results:demo -->\n<!-- /results:demo -->\n\nBelow.\n"


@pytest.fixture(scope="module")
def results():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        import results
        yield results


@pytest.fixture(scope="module")
def call(results):
    """`call(root, "--check")`: tools/results.py on a copy of documents; (exit code, what it printed)."""
    def call(root, *arguments, tiny=True):
        changed = [word for change in TINY for word in ("-o", change)] if tiny else []
        words = ["results.py", "--root", str(root), "--folder", str(root / "runs"), *arguments, *changed]
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            patch.setattr(sys, "argv", words)
            code = results.main()
        return code, said.getvalue()
    return call


@pytest.fixture(scope="module")
def trained(call, tmp_path_factory):
    """Documents of their own, a page with the demo's table, and the demo's tiny runs."""
    root = tmp_path_factory.mktemp("results")
    (root / "docs").mkdir()
    (root / "docs" / "page.md").write_text(PAGE, encoding="utf-8")
    code, said = call(root, "--part", "demo", "--left")
    assert "demo (The demo): 3 left, 3 of them no record tells the time of" in said
    assert "demo: adaptformer, seed 0" in said
    assert page(root) == PAGE and not (root / "runs").exists()
    call(root, "--part", "demo")
    return root


@pytest.fixture
def copy(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def page(copy):
    return (copy / "docs" / "page.md").read_text(encoding="utf-8")


def test_the_documents_of_this_checkout_agree_with_their_records(results, capsys):
    """All parts, without data: every config is there, every option fits, and no two parts write the same marker."""
    from remaking.parts import PARTS, views

    place = results.Place(data=False)
    assert results.check(place) == 0, capsys.readouterr().err
    names = [name for part, kind in PARTS.items() for name in kind.views(place, part)]
    assert len(names) == len(set(names)) == len(views(place))
    for part, kind in PARTS.items():
        if part != "performance":
            rows = kind.comparison(place, part).rows
            assert len({row.label for row in rows}) == len(rows)


def test_a_part_is_run_once_and_its_table_is_written_and_held_to_its_record(call, copy):
    table = page(copy)
    record = json.loads((copy / "docs/results/demo/runs.json").read_text(encoding="utf-8"))
    assert [run["row"] for run in record] == ["linear", "adaptformer"]
    answers = json.loads((copy / "docs/results/demo/answers.json").read_text(encoding="utf-8"))["answers"]
    assert len(answers) == 32 and all(sum(row) == pytest.approx(1, abs=1e-3) for row in answers)
    assert (copy / "docs/predictions.png").stat().st_size > 10_000
    for run in record:
        assert f"{run['top1']:.2f}" in table and run["machine"] in table
        assert run["right"]["images"] == 60 and "history" not in run and "confusion" not in run
    assert "difference to adaptformer" in table and "group" in table and table.endswith("Below.\n")
    before = sorted(path for path in (copy / "runs").rglob("*"))
    _, said = call(copy, "--part", "demo")
    assert "all is there" in said and page(copy) == table and sorted((copy / "runs").rglob("*")) == before
    assert call(copy, "--part", "demo", "--check") == (0, "documents and records agree\n")
    changed = table.replace(f"{record[0]['top1']:.2f}", "99.00")
    (copy / "docs" / "page.md").write_text(changed, encoding="utf-8")
    code, said = call(copy, "--part", "demo", "--check")
    assert code == 1 and "docs/page.md: results:demo is not what its record says" in said
    call(copy, "--part", "demo", "--tables")
    assert page(copy) == table


def test_what_was_tried_out_is_no_result(call, copy):
    code, said = call(copy, "--part", "demo", "--check", tiny=False)
    assert code == 1 and "results:demo is not what its record says" in said
    call(copy, "--part", "demo", "--tables", tiny=False)
    assert "Not run yet with the new data: `make results PART=demo`." in page(copy)
    _, said = call(copy, "--part", "demo", "--left", tiny=False)
    assert "demo (The demo): 3 left" in said


def test_what_is_left_takes_as_long_as_recorded_runs_of_its_kind_took(results, copy):
    """A pace is of the same network tuned alike; what no record tells is not guessed."""
    from remaking.parts import PARTS
    from remaking.trainings import Paces

    place = results.Place(root=copy, data=False)
    path = copy / "docs/results/demo/runs.json"
    runs = json.loads(path.read_text(encoding="utf-8"))
    real = {row.label: PARTS["demo"].comparison(place, "demo").runs(row)[0].plan
            for row in PARTS["demo"].comparison(place, "demo").rows}
    runs[0].update(config=place.identity(real["linear"])["config"], training_images=1300, seconds=26.0)
    path.write_text(json.dumps([*runs, {"config": {"Gone": 1}}, {}]), encoding="utf-8")  # what no version reads stays
    paces = Paces(results.Place(root=copy, data=False))
    assert paces.seconds(real["linear"]) == pytest.approx(26.0)
    real["linear"].Global.epochs *= 3
    assert paces.seconds(real["linear"]) == pytest.approx(78.0)
    assert paces.seconds(real["adaptformer"]) == pytest.approx(26.0)  # nothing better is known than its network's pace
    real["adaptformer"].Arch.name = "vit_base_patch16"
    assert paces.seconds(real["adaptformer"]) is None
    assert [results.clock(seconds) for seconds in (40.2, 125, 3900)] == ["40 s", "2 min", "1 h 05 min"]


def test_what_cannot_be_run_here_is_said(call, copy):
    _, said = call(copy, "--part", "mosaics", "--part", "performance", "--left", "--mosaics", str(copy / "none"),
                   "--cifar10", str(copy / "none"))
    assert "mosaics: left out: there is no folder" in said and "make it with `ppadapt mosaics`" in said
    assert "performance: left out: features: name CIFAR-10's archive" in said and "performance: startup" in said
    assert "performance: features\n" not in said


def test_trying_out_needs_a_copy_of_the_documents(results, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["results.py", "-o", "Global.epochs=1"])
    with pytest.raises(SystemExit):
        results.main()
    assert "give the copy of the documents" in capsys.readouterr().err


@pytest.mark.parametrize("change, said", [
    (lambda run: run["data"].update(Eval="0" * 64), "demo: linear, seed 0 was made on other data"),
    (lambda run: run["config"]["Arch"].update(pretrained="sha256:" + "0" * 64),
     "demo: linear, seed 0 was made on other weights")])
def test_a_record_of_other_data_or_weights_is_named_and_made_anew(call, copy, change, said):
    path = copy / "docs/results/demo/runs.json"
    runs = json.loads(path.read_text(encoding="utf-8"))
    right = json.loads(json.dumps(runs[0]))
    change(runs[0])
    path.write_text(json.dumps(runs), encoding="utf-8")
    code, told = call(copy, "--part", "demo", "--left")
    assert f"stale: {said}" in told and "demo (The demo): 1 left" in told
    call(copy, "--part", "demo")
    now = json.loads(path.read_text(encoding="utf-8"))
    assert len(now) == 2 and now[1]["config"] == right["config"] and now[1]["data"] == right["data"]
    assert now[1]["loss"] == right["loss"]


def test_a_run_that_another_part_has_is_not_run_again(call, copy):
    shutil.move(copy / "docs/results/demo", copy / "docs/results/elsewhere")
    before = sorted((copy / "runs").rglob("*"))
    _, said = call(copy, "--part", "demo", "--left")
    assert "linear, seed 0, 0 s" in said and not (copy / "docs/results/demo").exists()
    _, said = call(copy, "--part", "demo")  # the answers are asked of the run that is there
    assert "1 left" in said and "all is there" in said and sorted((copy / "runs").rglob("*")) == before
    assert len(json.loads((copy / "docs/results/demo/runs.json").read_text(encoding="utf-8"))) == 2


@pytest.mark.parametrize("side, named", [("Eval", "test images"), ("Train", "training images")])
def test_runs_of_different_images_do_not_share_a_table(call, copy, side, named):
    """Of one method the record is older than the data: no identity tells without the images, their digests do."""
    path = copy / "docs/results/demo/runs.json"
    runs = json.loads(path.read_text(encoding="utf-8"))
    runs[0]["data"][side] = "0" * 64
    path.write_text(json.dumps(runs), encoding="utf-8")
    code, said = call(copy, "--part", "demo", "--check")
    assert code == 1 and f"demo: its runs are of 2 different sets of {named}" in said


def test_a_run_of_another_part_stands_in_the_place_of_one_of_other_data(call, copy):
    """Both in the record, and the older one were found wherever the images are not at hand."""
    path = copy / "docs/results/demo/runs.json"
    shutil.copytree(path.parent, copy / "docs/results/elsewhere")
    runs = json.loads(path.read_text(encoding="utf-8"))
    wanted = runs[0]["data"]["Train"]
    runs[0]["data"]["Train"] = "0" * 64
    path.write_text(json.dumps(runs), encoding="utf-8")
    call(copy, "--part", "demo")
    now = json.loads(path.read_text(encoding="utf-8"))
    assert [run["row"] for run in now] == ["adaptformer", "linear"]
    assert {run["data"]["Train"] for run in now} == {wanted}
    assert call(copy, "--part", "demo", "--check") == (0, "documents and records agree\n")


def test_pictures_are_held_to_what_they_were_drawn_from(results, call, copy):
    picture, answers = copy / "docs/predictions.png", copy / "docs/results/demo/answers.json"
    drawn = picture.read_bytes()
    picture.write_bytes(drawn + b"0")
    code, said = call(copy, "--part", "demo", "--check")
    assert code == 1 and "predictions.png is not the picture that was drawn: `python tools/results.py --tables`" in said
    picture.unlink()
    assert call(copy, "--part", "demo", "--check")[0] == 1
    listed = copy / "docs/results/demo/pictures.json"
    listed.write_text("{", encoding="utf-8")
    code, said = call(copy, "--part", "demo", "--check")
    assert code == 1 and "is not the picture that was drawn" in said
    call(copy, "--part", "demo", "--tables")
    assert call(copy, "--part", "demo", "--check")[0] == 0
    picture.write_bytes(drawn)
    told = json.loads(answers.read_text(encoding="utf-8"))
    told["answers"] = [row[::-1] for row in told["answers"]]
    answers.write_text(json.dumps(told), encoding="utf-8")
    code, said = call(copy, "--part", "demo", "--check")
    assert code == 1 and "predictions.png was drawn from another answers.json" in said
    call(copy, "--part", "demo", "--tables")
    assert call(copy, "--part", "demo", "--check")[0] == 0 and picture.read_bytes() != drawn
    told["data"]["Eval"] = "0" * 64
    answers.write_text(json.dumps(told), encoding="utf-8")
    _, said = call(copy, "--part", "demo", "--left")
    assert "stale: demo: its answers to test images are of other data or weights: they are not taken" in said


def test_pytorchs_side_is_measured_where_an_interpreter_has_come(results, tmp_path):
    from remaking.benchmarks import Benchmarks

    from ppadapt.version import __version__

    part = Benchmarks("Speed", (("training", ()), ("startup", ())))
    place = results.Place(root=tmp_path, cifar10=tmp_path)
    place.record("speed").mkdir(parents=True)
    for name in ("training", "startup"):
        (place.record("speed") / f"{name}.json").write_text(json.dumps(
            {"ppadapt": __version__, "options": [], "versions": "paddle 3", "results": {}}), encoding="utf-8")
    assert not list(part.left(place, "speed"))
    place.torch_python = "python"
    assert [step.what for step in part.left(place, "speed")] == ["speed: training"]


def test_a_rate_is_chosen_before_the_seeds_that_train_with_it(results, tmp_path):
    """What another part has of what was chosen is taken from there."""
    from remaking.trainings import Line, Trainings, methods

    rates = ("1.0e-6", "0.1")
    line = Line("linear", "digits/vit_micro_linear", choose=(f"Optimizer.lr.learning_rate={','.join(rates)}",))
    part = Trainings("Chosen", (line,), seeds=2, drawn=False)
    other = Trainings("Fixed", methods("digits/vit_micro", "linear"), (f"Optimizer.lr.learning_rate={rates[1]}",),
                      seeds=2)
    tiny = (*TINY, "DataLoader.Train.dataset.limit=400", "Global.epochs=10")
    place = results.Place(root=tmp_path, runs=tmp_path / "runs", changes=tiny)
    next(other.left(place, "fixed")).run()
    done = []
    while steps := list(part.left(place, "chosen")):
        done.append(steps[0].what.partition(": ")[2])
        steps[0].run()
    assert done == ["linear, learning_rate=1e-06, held-out data", "linear, learning_rate=0.1, held-out data",
                    "linear, seed 1"]
    row, = part.rows(place, "chosen")
    held = {candidate["values"]["Optimizer.lr.learning_rate"]: candidate["top1"] for candidate in row["candidates"]}
    assert row["chosen"] == {"Optimizer.lr.learning_rate": 0.1} and held[0.1] > held[1e-6] and row["seeds"] == 2
    views = part.views(place, "chosen")
    assert f"| {held[0.1]:.2f} " in views["chosen.choices"]() and "learning_rate=0.1" in views["chosen"]()


def test_pytorchs_side_is_known_by_the_identity_of_ours(results, tmp_path):
    """An interpreter that answers at once stands in for PyTorch's, which the suite does not have."""
    import numpy as np
    from remaking.parity import Parity
    from remaking.trainings import methods
    from test_data_cifar import make_cifar10

    from ppadapt.tasks.metric import packed

    make_cifar10(tmp_path / "dataset", per_batch=20)
    answer = {"version": "torch 0", "top1": 25.0, "trained_parameters": 7, "seconds": 1.0,
              "right": packed(np.arange(20) % 4 == 0)}
    peer = tmp_path / "python"
    peer.write_text(f"#!/bin/sh\necho warming up\necho '{json.dumps(answer)}'\n")
    peer.chmod(0o755)
    tiny = tuple(change for change in TINY if "Eval.dataset.limit" not in change)
    part = Parity("Parity", methods("cifar10/vit_micro", "linear"), ("Global.eval_interval=0",), seeds=2)
    place = results.Place(root=tmp_path, runs=tmp_path / "runs", cifar10=tmp_path / "dataset", changes=tiny)
    assert [step.what for step in part.left(place, "parity")] == ["parity: linear, seed 0", "parity: linear, seed 1"]
    place.torch_python = str(peer)
    while steps := list(part.left(place, "parity")):
        steps[0].run()
    theirs = json.loads((tmp_path / "docs/results/parity/torch.json").read_text(encoding="utf-8"))
    ours = json.loads((tmp_path / "docs/results/parity/runs.json").read_text(encoding="utf-8"))
    assert [run["config"] for run in theirs] == [run["config"] for run in ours] and len(ours) == 2
    table = part.views(place, "parity")["parity.torch"]()
    gap = np.mean([run["top1"] for run in ours]) - 25.0
    assert "| linear | " in table and "25.00 ± 0.00" in table and f"{gap:+.2f} (" in table and "torch 0 on" in table
    for run in theirs:  # of other weights it is another comparison
        run["config"]["Arch"]["pretrained"] = "sha256:" + "0" * 64
    (tmp_path / "docs/results/parity/torch.json").write_text(json.dumps(theirs), encoding="utf-8")
    assert part.views(place, "parity")["parity.torch"]() == ""
    part.draw(place, "parity")
    assert sum("PyTorch was made on other data or weights" in line for line in part.stale(place, "parity")) == 2
    while steps := list(part.left(place, "parity")):
        steps[0].run()
    theirs = json.loads((tmp_path / "docs/results/parity/torch.json").read_text(encoding="utf-8"))
    assert len(theirs) == 2 and not part.stale(place, "parity")
    for run in theirs:
        run["data"]["Train"] = "0" * 64
    (tmp_path / "docs/results/parity/torch.json").write_text(json.dumps(theirs), encoding="utf-8")
    blind = results.Place(root=tmp_path, runs=tmp_path / "runs", changes=tiny, data=False)
    assert len(part.stale(blind, "parity")) == 2 and part.views(blind, "parity")["parity.torch"]() == ""


def test_numbers_outside_of_markers_are_found(results):
    from remaking import documents

    table = "| method | top-1 |\n|---|---|\n| linear | 61.10 |\n"
    assert list(documents.outside(f"# A\n\n{table}")) == ["method | top-1"]
    assert not list(documents.outside(f"<!-- results:demo -->\n{table}<!-- /results:demo -->\n"))
    assert not list(documents.outside(f"# Older: 0.1\n\n## Speed\n\n{table}"))
    assert list(documents.outside(f"# Older: 0.1\n\n# Now\n\n{table}")) == ["method | top-1"]
    assert not list(documents.outside(f"<!-- measured: python tools/x.py -->\n{table}"))
    assert not list(documents.outside(f"```text\n{table}```\n"))
    assert not list(documents.outside("| configuration | is |\n|---|---|\n| limit | 4 |\n"))
    assert list(documents.outside("| side | load, s |\n|---|---|\n| ours | 4.1 |\n")) == ["side | load, s"]
    assert not list(documents.outside("| option | is |\n|---|---|\n| limit | 4 |\n"))
    assert list(documents.outside("| switch | it costs |\n|---|---|\n| amp | 175 MiB |\n")) == ["switch | it costs"]


def test_markers_that_do_not_fit_are_named(results, copy):
    from remaking import documents

    views = {"demo": lambda: "said"}
    (copy / "docs" / "page.md").write_text("<!-- results:dmeo -->\n<!-- /results:dmeo -->\n", encoding="utf-8")
    assert documents.wrong(copy, views) == ["docs/page.md: there is no dmeo; there are demo"]
    with pytest.raises(UserError, match="page.md: .*'dmeo' is unknown. Did you mean 'demo'"):
        documents.write(copy, views)
    (copy / "docs" / "page.md").write_text("<!-- results:demo -->\nsaid\n", encoding="utf-8")
    assert "has no <!-- /results:NAME -->" in documents.wrong(copy, views)[0]


def test_notebooks_and_the_chinese_readme_get_theirs(results, copy):
    from remaking import documents

    book = {"cells": [{"cell_type": "markdown", "metadata": {}, "source": ["# A\n", *PAGE.splitlines(keepends=True)]},
                      {"cell_type": "code", "metadata": {}, "source": ["1"]}], "nbformat": 4, "nbformat_minor": 5}
    (copy / "notebooks").mkdir()
    (copy / "notebooks" / "a.ipynb").write_text(json.dumps(book), encoding="utf-8")
    (copy / "README_ch.md").write_text(PAGE, encoding="utf-8")
    documents.write(copy, {"demo": lambda: ""})
    assert "尚未用新数据运行：`make results PART=demo`。" in (copy / "README_ch.md").read_text(encoding="utf-8")
    documents.write(copy, {"demo": lambda: "![a](results/demo/a.png)"})
    cell = "".join(json.loads((copy / "notebooks" / "a.ipynb").read_text(encoding="utf-8"))["cells"][0]["source"])
    assert "<!-- results:demo -->\n![a](../docs/results/demo/a.png)\n<!-- /results:demo -->" in cell
    assert "![a](docs/results/demo/a.png)" in (copy / "README_ch.md").read_text(encoding="utf-8")
    assert not documents.wrong(copy, {"demo": lambda: "![a](results/demo/a.png)"})
    assert len(documents.wrong(copy, {"demo": lambda: "other"})) == 3


def test_rates_that_other_parts_take_over_are_those_that_were_chosen(results):
    from remaking.parts import CHOSEN, PARTS

    rows = {row["method"]: row for row in PARTS["methods"].rows(results.Place(data=False), "methods")}
    for name, change in CHOSEN.items():
        key, _, value = change.partition("=")
        assert rows[name]["chosen"] == {key: float(value)}


def test_few_images_are_passed_as_often_as_it_takes_for_the_same_steps(results):
    from remaking import growing

    steps = {}
    for line in growing.lines("cifar10/vit_micro", {"linear": "Loss=1"}, (100, 500, 2000, 10000), steps=390, batch=128):
        values = dict(change.split("=") for change in line.changes)
        images, batch, epochs = (int(values[key]) for key in (
            "DataLoader.Train.dataset.limit", "DataLoader.Train.sampler.batch_size", "Global.epochs"))
        steps[images] = images // batch * epochs
    assert steps == {100: 390, 500: 390, 2000: 390, 10000: 390}


def test_where_one_method_catches_up_with_another_is_said_as_far_as_it_can_be_told(results, monkeypatch):
    import numpy as np
    from remaking.growing import Growing

    from ppadapt.tasks.metric import packed

    def row(label, right_on):
        right = np.arange(1000) < right_on
        return {"method": label, "top1": right_on / 10, "std": None, "runs": [
            {"seed": 0, "top1": right_on / 10, "right": packed(right), "data": {"Eval": "a"}}]}

    made = {"adaptformer": (500, 600, 700), "linear": (600, 500, 500), "full": (300, 599, 800)}
    rows = [row(f"{method}, {size:,} images", right) for method, of in made.items()
            for size, right in zip((100, 2000, 10000), of)]
    monkeypatch.setattr(Growing, "rows", lambda self, place, name: rows)
    views = Growing("Images", ()).views(results.Place(), "images")
    assert views["images.says"]() == (
        "* linear beside adaptformer: better with 100 images; worse with 2,000, 10,000 images.\n"
        "* full beside adaptformer: worse with 100 images; not told apart with 2,000 images; "
        "better with 10,000 images.\n\n"
        "That is of one seed: how much others would change is not known.")


def test_beside_a_row_of_several_seeds_one_of_one_seed_has_no_conclusion(results):
    import numpy as np
    from remaking.trainings import says

    from ppadapt.runs import comparison
    from ppadapt.tasks.metric import packed

    def row(label, *right_on):
        return {"method": label, "runs": [
            {"seed": seed, "top1": right / 10, "right": packed(np.arange(1000) < right), "data": {"Eval": "a"}}
            for seed, right in enumerate(right_on)]}

    default = row("default", 600, 601, 602)
    letters = comparison.groups([dict(each, top1=each["runs"][0]["top1"]) for each in (
        default, row("worse", 400, 401, 402), row("lone", 900))])
    assert letters == ["a", "b", ""]
    assert says([default, row("worse", 400, 401, 402), row("lone", 900)]) == (
        "Worse than default: worse (-20.00).\n\nOf one seed, so that nothing is concluded: lone.")
    assert says([row("default", 600), row("other", 900)]) == (
        "Better than default: other (+30.00).\n\nThat is of one seed: how much others would change is not known.")
