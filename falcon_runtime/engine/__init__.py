"""The engine: a loaded program, the scheduler that shares it among requests, and the process that both live in.

It knows token ids and logits, nothing of text.
"""
