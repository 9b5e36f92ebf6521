"""Models for ExecuTorch's own runtimes: `.pte` files of stock operators, which phones run, and the folders around them.

What the server runs at its best is made of operators of this project (`../packed.py`); no other runtime knows those.
"""
