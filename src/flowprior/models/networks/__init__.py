"""Networks from images to images, of which models are made."""
