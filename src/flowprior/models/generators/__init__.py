"""Models that make images of latents, and cannot find the latent of an image."""
