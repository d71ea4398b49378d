"""The commands: flags and mains, nothing else."""
