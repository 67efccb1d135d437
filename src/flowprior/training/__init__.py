"""Training any model by one loop, with exact resume; what is learned, and how, is the model's own (`trainable`)."""
