"""Many tuned files on one frozen network, any mix of them in one batch.

    bank.py     what is asked, added and removed; one table of rows, replaced in one assignment
    row.py      a tuned file: its header, and its tensors while they are in memory
    kinds.py    what files of one method and options put where, and how a network's own parameters differ a task
    call.py     one forward: who stands where in the batch, what each met, and whether that was right
    answers.py  logits that say who made them
"""
from .bank import Bank
from .call import RoutingError

__all__ = ["Bank", "RoutingError"]
