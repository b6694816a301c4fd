"""What the tensors of a float network are like on data."""
