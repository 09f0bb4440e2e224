"""The document of probes of frozen features."""

from __future__ import annotations

METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
