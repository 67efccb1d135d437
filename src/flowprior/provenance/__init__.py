"""What was made of what, by what, where and when.

Import what is needed from the modules themselves: the workflow reads `invocation` whenever it starts, and that costs
nothing.
"""
