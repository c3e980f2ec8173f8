"""A KernelDNA variant of somebody else's: a package that knows nothing of kdna-deploy."""
