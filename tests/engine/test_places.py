"""Where a run writes: a disk that fills up, a folder that goes. What was saved is whole, and one line says so."""
import shutil

import pytest
from safetensors import SafetensorError
from test_training import plan

from ppadapt.engine import checkpoint, loop
from ppadapt.errors import UserError
from ppadapt.runs import experiment


def test_a_disk_that_fills_up_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    """With the exception that the library of safetensors has for it."""
    write, times = checkpoint.save_file, []

    def full(tensors, path):
        times.append(path)
        if len(times) == 3:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        write(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\): make room, .* The checkpoint "
                                        r".*step-000006 is whole: go on with -o Global.checkpoints=.*step-000006$"):
        experiment.train(plan(tmp_path, Global__epochs=4))
    folder, = tmp_path.glob("out/run/*/ckpt")
    assert [path.name for path in sorted(folder.iterdir())] == ["step-000003", "step-000006"]
    assert checkpoint.read(folder / "step-000006").progress["epoch"] == 3
    monkeypatch.undo()
    resumed = experiment.train(plan(tmp_path, Global__epochs=4, Global__checkpoints=str(folder / "step-000006")))
    assert len(resumed["history"]) == 4


@pytest.mark.parametrize("saves", ["every epoch", "inside one"])
def test_a_folder_that_goes_is_not_made_anew(tmp_path, monkeypatch, saves):
    step, steps = loop._step, []

    def and_then_gone(job):
        steps.append(step(job))
        if len(steps) == 4:
            shutil.rmtree(job.folder)

    monkeypatch.setattr(loop, "_step", and_then_gone)
    options = {} if saves == "every epoch" else {"Global__save_interval_steps": 1}
    with pytest.raises(UserError, match="cannot be written .*, and the folder is not there any more: make room, or "
                                        "choose another place, Global.output_dir. No checkpoint was saved before"):
        experiment.train(plan(tmp_path, Global__epochs=3, **options))
    assert not list(tmp_path.glob("out/run/*"))
