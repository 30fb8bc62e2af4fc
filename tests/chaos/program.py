"""One process of tools/train.py as ckpt-chaos starts it: `python program.py OUT`.

ckpt-chaos tells a process its place by torchrun's names; Paddle wants its own. Of the library that writes checkpoints'
tensors in Rust, and so raises no audit event, ckpt-chaos knows the part for PyTorch; here ours is counted as well.
"""
import os
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOL = HERE.parents[1] / "tools" / "train.py"


def as_paddle_names_it(rank: int, count: int, port: int) -> dict[str, str]:
    """The variables by which paddle.distributed.launch tells a process of its place."""
    ends = [f"127.0.0.1:{port + 1 + n}" for n in range(count)]
    return {"PADDLE_MASTER": f"127.0.0.1:{port}", "PADDLE_TRAINER_ENDPOINTS": ",".join(ends),
            "PADDLE_TRAINERS_NUM": str(count), "PADDLE_LOCAL_SIZE": str(count), "PADDLE_TRAINER_ID": str(rank),
            "PADDLE_CURRENT_ENDPOINT": ends[rank]}


def count_native_writes() -> None:
    """Where ckpt-chaos watches this process, let it count, and tear, what safetensors writes."""
    inject = sys.modules.get("ckpt_chaos.inject")
    if inject is not None:
        import safetensors.numpy as native

        native.save_file = inject._wrap(native.save_file, "safetensors.save_file", 1, "filename")


if __name__ == "__main__":
    if "WORLD_SIZE" in os.environ:
        place = [int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")]
        os.environ.update(as_paddle_names_it(*place))
    count_native_writes()
    sys.argv = [str(TOOL), "-c", str(HERE / "plan.yaml"), "-o", f"Global.output_dir={sys.argv[1]}", "--resume", "auto"]
    sys.path.insert(0, str(TOOL.parent))
    runpy.run_path(str(TOOL), run_name="__main__")
