"""Classes with one fault each, which one law finds: the name of a class is the law, or begins with it."""

from . import metrics

__all__ = ["metrics"]
