"""What models make of x besides samples, and how it is judged."""

from lightning_gen.representations.clustering import Clusters, Probe, clustering, linear_probe
from lightning_gen.representations.disentanglement import DCI, beta_vae, dci, factor_vae, mig, modularity, sap
from lightning_gen.representations.encoders import (
    Bottleneck,
    Hidden,
    ODELatent,
    PosteriorMean,
    Representation,
    representation_of,
)
from lightning_gen.representations.reconstruction import Closeness, closeness

__all__ = [
    "DCI",
    "Bottleneck",
    "Closeness",
    "Clusters",
    "Hidden",
    "ODELatent",
    "PosteriorMean",
    "Probe",
    "Representation",
    "beta_vae",
    "closeness",
    "clustering",
    "dci",
    "factor_vae",
    "linear_probe",
    "mig",
    "modularity",
    "representation_of",
    "sap",
]
