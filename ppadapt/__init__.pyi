# What `ppadapt` imports on first use, for type checkers and editors; tests/package/test_typing.py compares the two.
from .data import DATASETS as DATASETS
from .data import TRANSFORMS as TRANSFORMS
from .errors import UserError as UserError
from .models import catalogue as catalogue
from .models import heads as heads
from .models.anatomy import Anatomy as Anatomy
from .models.catalogue import anatomy_of as anatomy_of
from .networks import network as network
from .networks import vit as vit
from .serve.classifier import Classifier as Classifier
from .serve.classifier import load as load
from .serve.classifier import save as save
from .tasks import TASKS as TASKS
from .tasks import Loss as Loss
from .tasks import Metric as Metric
from .tasks import Task as Task
from .tuning import METHODS as METHODS
from .tuning import Adaptation as Adaptation
from .tuning import Method as Method
from .tuning import attach as attach
from .tuning.bank import Bank as Bank
from .tuning.methods import *  # noqa: F403

__version__: str
