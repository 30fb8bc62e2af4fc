"""The only place where a configuration becomes objects: a file for each part of it."""
from .complaints import check_names, complaints
from .data import BALANCED, SAMPLERS, dataset, loader
from .device import precision_of, set_device
from .model import KEEP_HEAD, TunedModel, class_names, methods, network, tuned_model
from .names import options_for
from .preprocessing import check_exported, serving_ops
from .resume import cut_off, finished
from .task import entries, losses, metrics, task_of
from .training import check, job

__all__ = ["BALANCED", "KEEP_HEAD", "SAMPLERS", "TunedModel", "check", "check_exported", "check_names", "class_names",
           "complaints", "cut_off", "dataset", "entries", "finished", "job", "loader", "losses", "methods", "metrics",
           "network", "options_for",
           "precision_of", "serving_ops", "set_device", "task_of", "tuned_model"]
