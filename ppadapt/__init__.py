"""AdaptFormer for PaddlePaddle: many tasks on one frozen vision transformer.

    import ppadapt
    network = ppadapt.network("vit_micro_patch4_32", pretrained=True)
    head = ppadapt.heads.batchnorm_linear(network.embed_dim, 10)
    adaptation = ppadapt.attach(network, ppadapt.AdaptFormer(bottleneck=64), head=head)
    adaptation.train()
    optimizer = paddle.optimizer.AdamW(2e-3, parameters=list(adaptation.trained_parameters().values()))
    ...                                                     # your loop
    ppadapt.save("birds.safetensors", adaptation, classes, preprocess)
    ppadapt.load("birds.safetensors", network_of_the_same_weights).predict(["a.jpg"])
"""
import warnings as _warnings

from . import cpu
from .version import __version__  # noqa: F401

cpu.prepare()  # before Paddle is imported, by whatever below does it first
# Paddle looks for ccache at every import, though only building extensions would need it.
_warnings.filterwarnings("ignore", message="No ccache found")

# Name -> where it is. The tuning methods beside them are those of `tuning.METHODS`.
_PUBLIC = {
    "attach": "tuning", "Adaptation": "tuning", "Method": "tuning", "METHODS": "tuning",
    "Anatomy": "models.anatomy", "anatomy_of": "models.catalogue", "catalogue": "models.catalogue",
    "Bank": "tuning.bank", **dict.fromkeys(("save", "load", "Classifier"), "serve.classifier"),
    "network": "networks", "vit": "networks", "heads": "models.heads", "UserError": "errors",
    "DATASETS": "data", "TRANSFORMS": "data", **dict.fromkeys(("TASKS", "Task", "Loss", "Metric"), "tasks"),
}


def __getattr__(name):
    """Import on first use: `import ppadapt` itself stays quick."""
    if name in _PUBLIC:
        module = _module(_PUBLIC[name])
        return module if _PUBLIC[name].endswith("." + name) else getattr(module, name)
    if name == "__all__":
        return sorted([*_PUBLIC, *_methods()])
    if name[:1].isupper() and name in _methods():
        return _methods()[name]
    raise AttributeError(f"module 'ppadapt' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_PUBLIC, *_methods()])


def _methods():
    return _module("tuning").METHODS


def _module(path):
    import importlib

    return importlib.import_module("." + path, __name__)
