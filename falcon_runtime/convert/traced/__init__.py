"""Programs that are traced: those of models in floats, for ExecuTorch's own kernels.

What packed models are made of is written directly (`packed.py`). The same modules export those too, which is what a
written program is tested against.
"""

from .. import exporter  # noqa: F401
