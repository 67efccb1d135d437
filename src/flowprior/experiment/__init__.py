"""One experiment: what its file may say, which jobs it has, where their files lie, and the jobs themselves."""
