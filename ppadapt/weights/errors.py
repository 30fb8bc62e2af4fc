"""The errors of this package: each message says what was found, what is allowed and the way out."""

from __future__ import annotations

from ..errors import UnsafeFileError, UserError


class WeightsError(UserError):
    """A weights file or a set of tensors that cannot be used as asked; the message is for the user."""


class UnsafeCheckpointError(WeightsError, UnsafeFileError):
    """A pickle that wants something other than tensors and plain data. Nothing of it was executed."""
