"""Programs that are traced: those of models in floats, for ExecuTorch's own kernels.

What packed models are made of is written directly (`packed.py`). The same modules export those too, which is what a
written program is tested against.
"""

import executorch.exir

# All of the exporter, where only its classes were imported so far: its parts need one another in circles.
executorch.exir.to_edge  # noqa: B018
