"""What is learned or fitted and then asked: flows, the Gaussian. Nothing here knows of inverse problems."""
