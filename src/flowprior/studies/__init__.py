"""What an experiment asks besides how good a reconstruction is: one file per question, each a table and a figure.

To add one: a file with a class that follows `flowprior.studies.base.Study`, and its line in `registry.py`.
"""
