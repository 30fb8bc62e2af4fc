"""What is trained: methods that attach to a frozen network from outside."""
from .adaptation import Adaptation, attach
from .method import Method, TuningError
from .methods import METHODS

__all__ = ["METHODS", "Adaptation", "Method", "TuningError", "attach"]
