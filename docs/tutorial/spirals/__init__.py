"""A package of somebody else's: two spirals in the plane, and a model of them with parts of its own."""

from . import metrics

__all__ = ["metrics"]
