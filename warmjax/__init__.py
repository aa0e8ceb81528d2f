"""What training a language model for warmth does to its reliability, in JAX, on any accelerator."""

__version__ = '0.1.0'
