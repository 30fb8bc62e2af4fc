"""What is trained: methods that attach to a frozen network from outside."""
from .adaptation import Adaptation
from .attach import attach
from .method import Added, Method, TuningError, choose_blocks
from .methods import METHODS
from .slots import After, Before, Beside, PartOfOutput, Tokens

__all__ = ["METHODS", "Adaptation", "Added", "After", "Before", "Beside", "Method", "PartOfOutput", "Tokens",
           "TuningError", "attach", "choose_blocks"]
