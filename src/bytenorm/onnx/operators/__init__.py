"""What the operators of bytenorm mean, as functions of standard operators."""
