"""The Kubernetes API as we need it: a thin layer on HTTP that keeps manifests untouched."""
