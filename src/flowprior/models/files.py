"""Names of the files that a trained model is kept in; without torch, so that the plan of an experiment knows them."""

#: Its weights, its description, and the Gaussian of a flow's samples.
WEIGHTS, CONFIG, MOMENTS = "weights.safetensors", "config.json", "moments.npz"
