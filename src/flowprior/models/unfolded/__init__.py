"""An algorithm of few steps as a network, each step's proximal map being learned (Wei et al. 2022)."""
