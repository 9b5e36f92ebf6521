"""What everything stands on: the machine, its processes and its files."""
