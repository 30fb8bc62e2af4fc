"""A process of tools/train.py as ckpt-chaos watches it.

ckpt-chaos tells a process its place by torchrun's names; Paddle wants its own. Of the library that writes checkpoints'
tensors in Rust, and so raises no audit event, ckpt-chaos knows the part for PyTorch; here ours is counted as well.
"""
import atexit
import os
import runpy
import sys


def as_paddle_names_it(rank: int, count: int, port: int) -> dict:
    """The variables by which paddle.distributed.launch tells a process of its place."""
    ends = [f"127.0.0.1:{port + 1 + n}" for n in range(count)]
    return {"PADDLE_MASTER": f"127.0.0.1:{port}", "PADDLE_TRAINER_ENDPOINTS": ",".join(ends),
            "PADDLE_TRAINERS_NUM": str(count), "PADDLE_LOCAL_SIZE": str(count), "PADDLE_TRAINER_ID": str(rank),
            "PADDLE_CURRENT_ENDPOINT": ends[rank]}


def watched() -> None:
    """What ckpt-chaos does at the start of an interpreter that it watches."""
    sys.path[:0] = [folder for folder in os.environ["PYTHONPATH"].split(os.pathsep) if folder not in sys.path]
    import safetensors.numpy as native
    from ckpt_chaos import inject
    from ckpt_chaos.targets.common import arm_from_env

    from ppadapt.engine import checkpoint

    arm_from_env(int(os.environ.get("RANK", 0)), lazy=True)
    native.save_file = checkpoint.save_file = inject._wrap(
        native.save_file, "safetensors.save_file", 1, "filename")


def run() -> None:
    """Run the tool that sys.argv names, as Python would, and end."""
    if "WORLD_SIZE" in os.environ:
        place = [int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")]
        os.environ.update(as_paddle_names_it(*place))
    if "CKPT_CHAOS_WATCH" in os.environ:
        watched()
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
