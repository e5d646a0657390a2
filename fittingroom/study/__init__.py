"""Studies: a published report as a file that runs, and a measured verdict for each of its claims."""
