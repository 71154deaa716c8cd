"""What samples look like beside real data: numbers from float64 sums, on features that are named and fixed."""

from lightning_gen.metrics.classifier import ClassifierFeatures
from lightning_gen.metrics.clustering import Clusters, Probe, clustering, linear_probe
from lightning_gen.metrics.disentanglement import DCI, beta_vae, dci, factor_vae, mig, modularity, sap
from lightning_gen.metrics.features import FeatureExtractor, PixelFeatures
from lightning_gen.metrics.frechet import FrechetStatistics, frechet_distance, moments
from lightning_gen.metrics.inception import InceptionFeatures
from lightning_gen.metrics.inception_score import InceptionScore, inception_score
from lightning_gen.metrics.kernel import KernelDistance, kernel_distance, mmd2, polynomial_kernel
from lightning_gen.metrics.reconstruction import Closeness, closeness
from lightning_gen.metrics.reference import Reference, reference

__all__ = [
    "DCI",
    "Closeness",
    "Clusters",
    "Probe",
    "beta_vae",
    "closeness",
    "clustering",
    "dci",
    "factor_vae",
    "linear_probe",
    "mig",
    "modularity",
    "sap",
    "ClassifierFeatures",
    "FeatureExtractor",
    "FrechetStatistics",
    "InceptionFeatures",
    "InceptionScore",
    "KernelDistance",
    "PixelFeatures",
    "Reference",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "mmd2",
    "moments",
    "polynomial_kernel",
    "reference",
]
