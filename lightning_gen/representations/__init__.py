"""Representations (codes) of x by models, and their evaluation."""

from lightning_gen.representations.clustering import Clusters, Probe, clustering, linear_probe
from lightning_gen.representations.disentanglement import DCI, beta_vae, dci, factor_vae, mig, modularity, sap
from lightning_gen.representations.encoders import (
    Bottleneck,
    FlowLatent,
    Hidden,
    ODELatent,
    PosteriorMean,
    Representation,
    representation_of,
)
from lightning_gen.representations.reconstruction import ImageSimilarity, image_similarity

__all__ = [
    "DCI",
    "Bottleneck",
    "ImageSimilarity",
    "Clusters",
    "FlowLatent",
    "Hidden",
    "ODELatent",
    "PosteriorMean",
    "Probe",
    "Representation",
    "beta_vae",
    "image_similarity",
    "clustering",
    "dci",
    "factor_vae",
    "linear_probe",
    "mig",
    "modularity",
    "representation_of",
    "sap",
]
