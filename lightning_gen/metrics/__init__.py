"""What samples look like beside real data: numbers from float64 sums, on features that are named and fixed."""

from lightning_gen.metrics.distances import nearest
from lightning_gen.metrics.extrapolation import Extrapolated, frechet_infinity
from lightning_gen.metrics.features.base import FeatureExtractor, PixelFeatures, quantised
from lightning_gen.metrics.features.classifier import ClassifierFeatures
from lightning_gen.metrics.features.efficientnet import EfficientNetFeatures
from lightning_gen.metrics.features.inception import InceptionFeatures
from lightning_gen.metrics.features.networks import ModuleFeatures, TimmFeatures
from lightning_gen.metrics.fid import frechet_bootstrap, frechet_error
from lightning_gen.metrics.frechet import FrechetStatistics, frechet_distance, frechet_of_features, moments
from lightning_gen.metrics.inception_score import InceptionScore, inception_bootstrap, inception_score
from lightning_gen.metrics.kernel import KernelDistance, kernel_distance, kernel_distance_all, mmd2, polynomial_kernel
from lightning_gen.metrics.manifold import Manifold, manifold
from lightning_gen.metrics.memorisation import Memorised, memorised, memorised_distances
from lightning_gen.metrics.reference import Reference, reference
from lightning_gen.metrics.sliced import SlicedWasserstein, sliced_wasserstein

__all__ = [
    "ClassifierFeatures",
    "EfficientNetFeatures",
    "Extrapolated",
    "FeatureExtractor",
    "FrechetStatistics",
    "InceptionFeatures",
    "InceptionScore",
    "KernelDistance",
    "Manifold",
    "Memorised",
    "ModuleFeatures",
    "PixelFeatures",
    "Reference",
    "SlicedWasserstein",
    "TimmFeatures",
    "frechet_bootstrap",
    "frechet_distance",
    "frechet_error",
    "frechet_infinity",
    "frechet_of_features",
    "inception_bootstrap",
    "inception_score",
    "kernel_distance",
    "kernel_distance_all",
    "manifold",
    "memorised",
    "memorised_distances",
    "mmd2",
    "moments",
    "nearest",
    "polynomial_kernel",
    "quantised",
    "reference",
    "sliced_wasserstein",
]
