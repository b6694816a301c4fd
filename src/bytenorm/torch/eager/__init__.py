"""What takes the place of torch's quint8 code: modules, the function, old models."""
