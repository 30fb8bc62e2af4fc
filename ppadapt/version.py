"""The version of ppadapt."""
__version__ = "0.1.0"
