"""What a model is on disk: which ones there are, where they come from, how they are stored, and how they get here."""
