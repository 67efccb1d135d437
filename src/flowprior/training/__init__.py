"""Training, with exact resume: the loop, what it is told (`settings`), and where a run stands (`state`)."""
