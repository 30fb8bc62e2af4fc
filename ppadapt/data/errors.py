"""What a user can do wrong with data."""

from __future__ import annotations

from ..errors import UserError, choose

__all__ = ["BrokenImageError", "DataError", "choose"]


class DataError(UserError):
    """A mistake in the data, in its path or in its options."""


class BrokenImageError(DataError):
    """One image that cannot be read: what ``on_error='skip'`` leaves out."""
