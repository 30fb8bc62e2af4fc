"""The version of ppadapt."""
__version__ = "0.2.0"
