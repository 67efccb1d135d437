"""How fast flowprior is against plain programs on the same machine, in the same minutes: `python -m benchmarks`.

Every figure is a ratio within one run, because no machine and no hour is like another.
"""
