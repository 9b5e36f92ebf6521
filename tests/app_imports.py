"""What the app imports until a model is loaded, for the process that `forked_app.py` forks it from."""

import os

from .forked_app import NO_HUB

os.environ["HF_ENDPOINT"] = NO_HUB  # The hub's client reads it when it is imported.

from transformers import PreTrainedTokenizerFast  # noqa: F401

import app  # noqa: F401
import ui  # noqa: F401
