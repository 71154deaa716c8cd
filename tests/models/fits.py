"""Fits to the last digit."""

import torch


def minimise(loss, model, x):
    """Bring a model's parameters to the least mean loss of x."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=300, tolerance_grad=1e-11, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        mean = loss(model, x, None).mean()
        mean.backward()
        return mean

    optimizer.step(closure)
