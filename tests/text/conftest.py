"""Fixtures for the tests of text."""

import pytest

from falcon_runtime.models.catalog import STARTER
from falcon_runtime.text.encoder import Encoder

from .conversations import falcon3_like, starter


@pytest.fixture(params=["starter", "falcon3"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    if request.param == "falcon3":
        return falcon3_like()
    return starter(request.getfixturevalue("starter_models_dir") / STARTER.name)
