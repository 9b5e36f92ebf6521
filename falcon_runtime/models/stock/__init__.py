"""Programs that others have exported for ExecuTorch: what they are, told from their files before anything runs."""
