"""PaddleClas's transformers. The only file that imports paddleclas, and only when one of its networks is built.

A factory of PaddleClas (`SwinTransformer_tiny_patch4_window7_224`) fixes a constructor's options. We ask it
which, and call the constructor with them and the user's own: any option can be changed, and nothing is
downloaded behind our back. Which networks there are, and what fits them, is in `families.py`.
"""
from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Mapping, Union

from paddle import nn

from ...errors import ConfigError, brief
from ...ranges import Amount, Below1, Positive, Range
from .families import Family
from .swin_v2 import mend_swin_v2

_BACKBONE = "paddleclas.ppcls.arch.backbone"
_OURS = ("self", "class_num", "model_name")  # ours to give, not the user's


class Builder:
    """Builds one network of PaddleClas; its signature is that of PaddleClas's constructor, with the factory's values.

    Called with the constructor's options by name, `img_size` among them, it returns a network with random weights:
    images [N, 3, S, S] -> logits [N, class_num], or features [N, D] where `class_num` is 0.

    Raises:
        ConfigError: in one line, when PaddleClas cannot be imported or an option does not fit.
    """

    def __init__(self, family: Family, name: str):
        self.family, self.name = family, name

    @property
    def __signature__(self) -> inspect.Signature:
        kind, fixed = self._recipe()
        parameters = {}
        for layer in kind.__mro__[:kind.__mro__.index(nn.Layer)]:  # one hands its **kwargs to the next
            for p in inspect.signature(layer.__init__).parameters.values():
                option = "img_size" if p.name == self.family.size_option else p.name
                if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in _OURS and option not in parameters:
                    default = fixed.get(p.name, p.default)
                    parameters[option] = p.replace(name=option, kind=p.KEYWORD_ONLY, default=default,
                                                   annotation=_hint(option, default))
        class_num = inspect.Parameter("class_num", inspect.Parameter.KEYWORD_ONLY, default=0)
        return inspect.Signature([class_num, *parameters.values()])

    def __call__(self, class_num: int = 0, **options: Any) -> nn.Layer:
        (kind, fixed), family = self._recipe(), self.family
        self._refuse_code(options)
        if family.size_option and "img_size" in options:
            options[family.size_option] = options.pop("img_size")
        try:
            # One class is the least that every constructor takes.
            network = kind(**{**fixed, **options, "class_num": max(class_num, 1)})
        except Exception as error:  # whatever its constructors raise
            said = f"PaddleClas says: {' '.join(str(error).split())}"
            raise ConfigError(f"Arch ({self.name}) with {options or 'its own options'}: {said}") from error
        if family.title == "Swin v2":
            mend_swin_v2(network)
        for path in (family.anatomy.head, *family.anatomy.head_twins):
            if class_num == 0:
                setattr(network, path, nn.Identity())
            elif self.name in family.headless:
                setattr(network, path, nn.Linear(family.anatomy.feature_dim(network), class_num))
        return network

    def _refuse_code(self, options: Mapping[str, Any]) -> None:
        """Raises ConfigError for what PaddleClas would run: it evaluates the text of options such as `norm_layer`."""
        for option, value in options.items():
            parameter = self.__signature__.parameters.get(option)
            default = parameter.default if parameter else None
            if value != default and (isinstance(value, str) or isinstance(default, (str, type))):
                raise ConfigError(f"Arch ({self.name}), {option} is {brief(value)}: PaddleClas takes code here, which "
                                  f"is nothing for a config. Leave it out (it is {brief(default)})")

    def _recipe(self) -> tuple[type, dict[str, Any]]:
        """The class, and the options that the factory gives it; nothing is built."""
        module, family = _module(self.family, self.name), self.family
        calls: list[dict[str, Any]] = []
        factory = getattr(module, self.name)
        names = {**vars(module), family.layer: lambda **options: calls.append(options)}
        types.FunctionType(factory.__code__, names, self.name, factory.__defaults__)(pretrained=False)
        return getattr(module, family.layer), {**calls[0], **family.options}


def _hint(option: str, default: Any) -> Any:
    """What an option may be, by the value that PaddleClas gives it; its constructors say nothing of kinds."""
    if option.endswith("_rate") or option == "dropout":
        return Below1
    if type(default) in (int, float) and default > 0:
        number: Any = Union[Annotated[int, Range(1, 100_000)], Positive]
    else:
        number = Union[Annotated[int, Range(0, 100_000)], Amount]
    if default is None:
        return Union[number, None]
    kinds = {bool: bool, int: number, float: number, str: str, list: list, tuple: list}
    return kinds.get(type(default), inspect.Parameter.empty)


def download(family: Family, name: str) -> Path:
    """The file of weights that PaddleClas publishes, downloaded by it into ~/.paddleclas/weights.

    Raises:
        ConfigError: when there is none, or it cannot be fetched.
    """
    module = _module(family, name)
    url = getattr(module, "MODEL_URLS", {}).get(name)
    if url is None:
        raise ConfigError(f"Arch.pretrained: True: PaddleClas publishes no weights of {name}. Give the path of a file")
    fetch = importlib.import_module("paddleclas.ppcls.utils.download").get_weights_path_from_url
    try:
        return Path(fetch(url))
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"Arch.pretrained: True: {url} cannot be fetched ({' '.join(str(error).split())[:160]}). "
                          "Download it elsewhere and give its path as Arch.pretrained") from None


@functools.cache
def _module(family: Family, name: str) -> types.ModuleType:
    """The module of PaddleClas that builds `name`."""
    path = f"{_BACKBONE}.{family.module}"
    try:
        module = importlib.import_module(path)
    except ImportError as error:
        raise ConfigError(f"Arch.name {name} is PaddleClas's: {_why_not(error)}") from error
    # Where networks of one class differ by the module's globals, which the last one built sets for all, each
    # name gets a module of its own.
    return _copy(module, name) if family.kinds else module


def _why_not(error: ImportError) -> str:
    if "libGL" in str(error):
        return ("its opencv needs the system's libGL.so.1, which is missing: pip uninstall -y opencv-python "
                "opencv-contrib-python && pip install 'opencv-python-headless<=4.6.0.66'")
    if getattr(error, "name", None) != "paddleclas":
        return f"importing paddleclas failed ({' '.join(str(error).split())})"
    if sys.version_info >= (3, 12):
        return (f"paddleclas pins numpy 1.24.4, which Python {sys.version_info[0]}.{sys.version_info[1]} cannot "
                "install: use Python 3.9 to 3.11, or one of our own networks (vit_base_patch16 ...)")
    return ("pip install 'ppadapt[zoo]' (in a checkout: pip install '.[zoo]'), or use one of our own networks "
            "(vit_base_patch16 ...)")


def _copy(module: types.ModuleType, name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"{module.__name__}@{name}", module.__file__)
    copy = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = copy
    spec.loader.exec_module(copy)
    if name.startswith("Unicom"):  # has no class token to take away, as CLIP's of the same size has
        copy._CLIP_diff["remove_cls_token_in_forward"] = []
    return copy
