"""What PaddleClas 2.6's configs say beyond ours: what it means here, why it is left out, or why it cannot be had."""
from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Optional

from ..errors import brief

# Place -> why nothing is lost where it is left out.
LEFT_OUT = {
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
    "DataLoader.Train.dataset.backend": "images are decoded by Pillow",
    "DataLoader.Eval.dataset.backend": "images are decoded by Pillow",
}
# Place -> values that say nothing.
_NEUTRAL: dict[str, tuple] = {
    "Global.eval_mode": ("classification",), "Optimizer.lr.last_epoch": (-1,), "Optimizer.clip_grad": (None, "None"),
    **dict.fromkeys(("Arch.use_ssld", "Arch.use_sync_bn", "Arch.use_fused_attn", "Arch.use_fused_linear"), (False,))}
_RETRIEVAL = "retrieval compares embeddings, and a Task here answers with classes"
# Place, or its beginning with a *, -> why it is refused.
REFUSED = {
    "Arch.Backbone": _RETRIEVAL, "Arch.BackboneStopLayer": _RETRIEVAL, "Arch.Neck": _RETRIEVAL,
    "Arch.Head": _RETRIEVAL, "Arch.is_rec": _RETRIEVAL, "Arch.infer_output_key": _RETRIEVAL,
    "Arch.infer_add_softmax": "exports answer with what the Task makes of the logits",
    "Arch.models": "distillation trains a second network, and one is trained here",
    "Arch.use_ssld": "give the file of the SSLD weights as Arch.pretrained",
    "Arch.use_sync_bn": "Global.sync_batchnorm says it of the head; what is frozen has no statistics to take",
    **dict.fromkeys(("Arch.use_fused_attn", "Arch.use_fused_linear"), "kernels are chosen by themselves"),
    "Global.start_eval_epoch": "Global.eval_interval says when to evaluate",
    "Global.eval_mode": _RETRIEVAL, "Global.feature_normalize": _RETRIEVAL, "Global.feature_binarize": _RETRIEVAL,
    "Global.retrieval_feature_from": _RETRIEVAL, "Global.re_ranking": _RETRIEVAL,
    "Global.train_mode": "there is one training loop, that of one network on labelled images",
    "Global.iter_per_epoch": "an epoch is the training images once",
    "DataLoader.Eval.Query": _RETRIEVAL, "DataLoader.Eval.Gallery": _RETRIEVAL,
    "DataLoader.UnLabelTrain": "there is no training on unlabelled images",
    "UnLabelLoss": "there is no training on unlabelled images", "SSL": "there is no training on unlabelled images",
    "Infer.PostProcess": "an answer is what the Task makes of it", "MLDecoder": "its head is not built here",
    "Slim": "networks are not quantised or pruned here",
    "Optimizer.clip_grad": "PaddleClas's AdamW drops it without a word; write clip_norm",
    "Optimizer.lr.last_epoch": "a run goes on with Global.checkpoints", "Optimizer.lr.verbose": "the log says the rate",
    "Optimizer.lr.step_each_epoch": "that is known from the data", "Optimizer.lr.epochs": "Global.epochs says it",
}
# Names of PaddleClas (patterns) -> why there is no such thing here, or what is in its place.
NAMES = {
    "MixCELoss": "CELoss takes the labels of mixed images", "SoftTarget*": "CELoss takes the labels of mixed images",
    "Distillation*": "distillation trains a second network, and one is trained here",
    "*DMLLoss": "distillation trains a second network, and one is trained here", "AFDLoss": "distillation, as above",
    "Triplet*": _RETRIEVAL, "Contrastive*": _RETRIEVAL, "*CenterLoss": _RETRIEVAL, "*hash*": _RETRIEVAL,
    "SupConLoss": _RETRIEVAL, "PairwiseCosface": _RETRIEVAL, "*DSH*": _RETRIEVAL, "DCHLoss": _RETRIEVAL,
    "EmlLoss": _RETRIEVAL, "MSMLoss": _RETRIEVAL, "NpairsLoss": _RETRIEVAL, "TriHardLoss": _RETRIEVAL,
    "GoogLeNet*": "it is for a network with several outputs",
    "Recallk": _RETRIEVAL, "mAP": f"{_RETRIEVAL}; of several labels it is MultiLabelMAP", "mINP": _RETRIEVAL,
    "Precisionk": _RETRIEVAL, "TprAtFpr": "it is not built; TopkAcc and the table of classes are",
    "ATTRMetric": "MultiLabelF1, HammingDistance and AccuracyScore say it of several labels",
    "RandAugmentV*": "take RandAugment",
    "AugMix": "take RandAugment", "Cutout": "take RandomErasing", "HideAndSeek": "take RandomErasing",
    "GridMask": "take RandomErasing", "RandomHorizontalFlip": "take RandFlipImage",
    "RandomCropImage": "take RandCropImageV2", "CropWithPadding": "take RandCropImage", "Padv2": "take Pad",
    "CenterCrop": "take CropImage", "Resize": "take ResizeImage", "Normalize": "take NormalizeImage",
    "ToTensor": "take NormalizeImage with ToCHWImage", "FmixOperator": "take CutmixOperator",
    "MixupCutmixHybrid": "take OpSampler with both",
    "RandomRotation": "take RandAugment", "RandomRot90": "take RandFlipImage",
    "AdamWDL": "its rates fall with depth, and what trains here lies in all blocks; take AdamW",
    "PKSampler": _RETRIEVAL, "*IdentitySampler": _RETRIEVAL, "*IdentityBatchSampler": _RETRIEVAL,
    "MultiScaleSampler": "images have one size", "MultiScaleDataset": "images have one size: ImageNetDataset",
    "RASampler": "each image comes once an epoch: DistributedBatchSampler",
    "Market1501": _RETRIEVAL, "VeriWild": _RETRIEVAL, "MSMT17": _RETRIEVAL, "DukeMTMC": _RETRIEVAL,
    "CustomLabelDataset": "take MultiLabelDataset",
}


def why_not(name: Any) -> Optional[str]:
    """Why something that PaddleClas has by this name is not here, or what is; None for other names."""
    return next((why for pattern, why in NAMES.items() if isinstance(name, str) and fnmatchcase(name, pattern)), None)


def translate(tree: dict) -> tuple[list[str], list[str]]:
    """Take PaddleClas's keys out of a tree, in place, and put what they mean in ours.

    Returns:
        Notes: of what was taken or left out, all in one, if there is anything. And what is refused, with the reason.
    """
    left_out, taken, refused = [], [], []
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
    task = tree.get("Task")
    if isinstance(post, dict) and "threshold" in post and isinstance(task, dict) and task.get("name") == "MultiLabel":
        task["threshold"] = post.pop("threshold")
        taken.append(f"Infer.PostProcess.threshold is Task.threshold {task['threshold']}")
    for place, why in LEFT_OUT.items():
        if _take_out(tree, place):
            left_out.append(f"{place} ({why})")
    for place, values in _NEUTRAL.items():
        if _take_out(tree, place, values):
            left_out.append(f"{place} (it says nothing)")
    if isinstance(infer, dict) and not infer.get("PostProcess"):  # all of it was taken, or it was empty
        infer.pop("PostProcess", None)
    for place, why in REFUSED.items():
        for found in _take_out(tree, place):
            value = "" if isinstance(found, (dict, list)) else f" {brief(found)}"
            refused.append(f"{place}{value} of PaddleClas is not taken: {why}")
    if isinstance(tree.get("Optimizer"), list):
        tree.pop("Optimizer")
        refused.append("Optimizer is a list, one for each part of the network: give one, for what trains")
    said = [f"not taken of PaddleClas's: {'; '.join(left_out)}"] * bool(left_out) + taken
    return ["; ".join(said)] if said else [], refused


def _take_out(tree: Any, place: str, values: Optional[tuple] = None) -> list:
    """Remove what stands at a place (if it is one of `values`), in place; a list of it, or of nothing."""
    *above, key = place.split(".")
    node = tree
    for name in above:
        node = node.get(name) if isinstance(node, dict) else None
    if not isinstance(node, dict) or key not in node or values is not None and node[key] not in values:
        return []
    return [node.pop(key)]
