"""What PaddleClas 2.6's configs say beyond ours: what it means here, or why it is not taken, all in one note."""
from __future__ import annotations

from typing import Any

# Place -> why nothing is lost where it is left out.
_NOT_TAKEN = {
    "Global.image_shape": "the size is that of Arch.img_size and of transform_ops",
    "Global.save_inference_dir": "`ppadapt export --output` says where",
    "Global.to_static": "training runs in dygraph",
    "Global.use_dali": "images are read by DataLoader's loader",
    "Global.print_mode": "there is one form of log",
    "AMP.use_fp16_test": "evaluation computes as training does",
    "AMP.use_promote": "Paddle's default",
    "AMP.use_master_grad": "what trains is float32",
    "Infer.PostProcess.name": "the task answers",
    "Infer.PostProcess.class_id_map_file": "class names are those of the data set, and go into the tuned file",
    "Infer.PostProcess.delimiter": "class names are those of the data set",
}


def translate(tree: dict) -> list[str]:
    """Take PaddleClas's keys out of a tree, in place, and put what they mean in ours; a note, if there is anything."""
    left_out, taken = [], []
    amp, infer = tree.get("AMP"), tree.get("Infer")
    if isinstance(amp, dict) and isinstance(amp.get("use_amp"), bool):
        used = amp.pop("use_amp")
        amp["level"] = amp.get("level", "O1") if used else "O0"
        taken.append(f"AMP.use_amp {used} is AMP.level {amp['level']}")
    run = tree.get("Global")
    if isinstance(run, dict) and isinstance(run.get("use_multilabel"), bool) and run.pop("use_multilabel"):
        task = tree.setdefault("Task", {})
        if isinstance(task, dict):
            taken.append(f"Global.use_multilabel True is Task.name {task.setdefault('name', 'MultiLabel')}")
    post = infer.get("PostProcess") if isinstance(infer, dict) else None
    if isinstance(post, dict) and "topk" in post:
        infer["topk"] = post.pop("topk")
        taken.append(f"Infer.PostProcess.topk is Infer.topk {infer['topk']}")
    if isinstance(post, dict) and "threshold" in post and isinstance(tree.setdefault("Task", {}), dict):
        tree["Task"]["threshold"] = post.pop("threshold")
        taken.append(f"Infer.PostProcess.threshold is Task.threshold {tree['Task']['threshold']}")
    for place, why in _NOT_TAKEN.items():
        if _take_out(tree, place.split(".")):
            left_out.append(f"{place} ({why})")
    if post == {}:
        del infer["PostProcess"]
    said = [f"not taken of PaddleClas's: {'; '.join(left_out)}"] * bool(left_out) + taken
    return ["; ".join(said)] if said else []


def _take_out(node: Any, keys: list[str]) -> bool:
    for key in keys[:-1]:
        node = node.get(key) if isinstance(node, dict) else None
    if not isinstance(node, dict) or keys[-1] not in node:
        return False
    del node[keys[-1]]
    return True
