"""From a model file to a verified, reproducible OCI image: the stages behind `ModelImage`."""
