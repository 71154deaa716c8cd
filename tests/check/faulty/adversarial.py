"""Adversarial losses with one fault each."""

from lightning_gen.losses import LeastSquares


class Good(LeastSquares):
    """Least squares as they are."""


class Shape(Good):
    def critic(self, real, fake):
        return super().critic(real, fake).mean()


class Minimum(Good):
    """Data count twice: a critic without bound is best."""

    def critic(self, real, fake):
        return fake - 2 * real

    def generator(self, real, fake):
        return -fake


class Direction(Good):
    """The generator lowers D(G(z))."""

    def generator(self, real, fake):
        return fake.square() / 2
