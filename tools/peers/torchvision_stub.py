"""A stand-in for torchvision, which has no build for the pinned torch: timm and open_clip import it and, for what is
done here, call nothing of it."""
import importlib.machinery
import sys
import types

_MODULES = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.transforms.v2",
            "torchvision.models", "torchvision.models.feature_extraction", "torchvision.ops", "torchvision.ops.misc",
            "torchvision.datasets", "torchvision.io")


class _Names(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


class _Anything(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Names(name, (), {})


def install() -> None:
    """Put the stand-in where `import torchvision` finds it."""
    for name in _MODULES:
        module = _Anything(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__version__ = "0"
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
