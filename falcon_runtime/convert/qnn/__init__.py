"""Models for Qualcomm's NPUs: stock files whose whole forward is compiled by Qualcomm's SDK for one chip.

Unlike everything else that this project converts, such a model is in memory as a whole, in float32, and is run over a
text before it is lowered: 16-bit activations need the range of each. Qualcomm's code is imported in one process only,
`worker.py`, after the SDK was checked (`models/qnn.py` says why).
"""

import os

from ...models.qnn import VARIABLE

# Whatever else goes wrong: where it is set to anything, ExecuTorch downloads no SDK and starts nothing anew.
os.environ.setdefault(VARIABLE, "")
